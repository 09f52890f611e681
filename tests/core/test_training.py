"""The training loop equals a plain one, reports what happens, and stops when it should."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import transformers
from headway.core.errors import HeadwayError
from headway.core.models.bert import MaskedLMHead
from headway.core.models.heads import Network
from headway.core.models.packing import PackedBatch
from headway.core.training.devices import training_precision
from headway.core.training.optimization import accumulate_embedding_rows, adamw, learning_rate
from headway.core.training.training import fit
from headway.core.training.training_config import TrainConfig
from headway.core.training.training_events import Evaluated, Finished, Saved, Started, Step
from torch import nn
from train_worker import Data, tiny_bert, weights

# The softmax does not depend on a bias of the keys: Adam normalizes the rounding errors in its gradient to full steps
# unless epsilon is far above them.
CONFIG = TrainConfig(adam_epsilon=1e-5, epochs=2, batch_size=8, learning_rate=3e-3, precision="fp32", device="cpu")
DATA = Data(56)  # 7 batches of 8


@pytest.fixture(autouse=True)
def one_thread():
    """One thread is faster for such small models, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(config: TrainConfig = CONFIG, network: nn.Module | None = None, **options: object):
    """A run over DATA; returns the network and its events."""
    network = tiny_bert() if network is None else network
    collate, loss = options.pop("collate", DATA.collate), options.pop("loss", DATA.loss)
    return network, list(fit(network, config.sampler(DATA.lengths), collate, loss, config, **options))


def steps_of(events: list) -> list[Step]:
    return [event for event in events if isinstance(event, Step)]


def same(ours: nn.Module, theirs: nn.Module, atol: float = 0.0) -> bool:
    expected = weights(theirs)
    return all(torch.allclose(tensor, expected[name], rtol=0, atol=atol) for name, tensor in weights(ours).items())


# Arithmetic


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_loss_curve_is_that_of_a_plain_loop(schedule: str):
    config = replace(CONFIG, schedule=schedule, warmup_ratio=0.2, weight_decay=0.1, max_grad_norm=0.5)
    ours, events = train(config)

    theirs = tiny_bert()
    groups = [
        {"params": [p for p in theirs.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in theirs.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, eps=config.adam_epsilon, foreach=False)
    warmup = {"num_warmup_steps": math.ceil(0.2 * 14)}
    scheduler = {
        "linear": lambda: transformers.get_linear_schedule_with_warmup(optimizer, num_training_steps=14, **warmup),
        "cosine": lambda: transformers.get_cosine_schedule_with_warmup(optimizer, num_training_steps=14, **warmup),
        "constant": lambda: transformers.get_constant_schedule_with_warmup(optimizer, **warmup),
    }[schedule]()
    plan = config.sampler(DATA.lengths)
    expected = []
    for batch in [*plan.epoch(0), *plan.epoch(1)]:
        inputs = DATA.collate(batch)
        summed, count = DATA.loss(theirs(inputs.batch), inputs.targets)
        (summed / count).backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        expected.append(((summed / count).item(), scheduler.get_last_lr()[0], norm.item()))
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()

    assert len(steps_of(events)) == 14
    for step, (loss, rate, norm) in zip(steps_of(events), expected, strict=True):
        assert step.loss == pytest.approx(loss, abs=1e-5)
        assert step.learning_rate == pytest.approx(rate, rel=1e-12)
        assert step.grad_norm == pytest.approx(norm, rel=1e-4)
    assert same(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("warmup", [0, 1, 10, 99, 100])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_schedule_is_the_published_one(schedule: str, warmup: int):
    config = TrainConfig(schedule=schedule, warmup_steps=warmup, learning_rate=2e-5)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2e-5)
    make = getattr(transformers, f"get_{schedule}_schedule_with_warmup")
    scheduler = make(optimizer, num_warmup_steps=warmup, num_training_steps=100)
    for step in range(100):
        assert learning_rate(config, step, 100) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12, abs=1e-20)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("ratio", [0.1, 1.0])
def test_a_warm_up_given_as_a_fraction_is_shorter_than_the_run(steps: int, ratio: float):
    config = replace(CONFIG, max_steps=steps, warmup_ratio=ratio)
    _, events = train(config)
    assert events[0].warmup_steps == config.warmup_for(steps) < steps
    assert steps_of(events)[-1].learning_rate > 0


def test_a_trained_network_classifies_held_out_examples():
    training, held_out = Data(200), Data(100, seed=1)
    config = replace(CONFIG, epochs=4)
    network = tiny_bert()
    assert held_out.evaluate(network)["accuracy"] < 0.7
    *_, finished = fit(network, config.sampler(training.lengths), training.collate, training.loss, config)
    assert finished.train_loss < 0.4
    assert held_out.evaluate(network)["accuracy"] > 0.97


def test_a_fraction_of_an_epoch_is_counted_without_rounding_errors():
    config = replace(CONFIG, batch_size=math.ceil(len(DATA.lengths) / 10))
    assert len(config.sampler(DATA.lengths).epoch(0)) == 10
    for tenths in (1, 3, 11, 21, 29):  # as a float, 2.1 is slightly more than 21 tenths
        _, events = train(replace(config, epochs=tenths / 10))
        assert events[0].total_steps == tenths


@pytest.mark.parametrize("how", [{"batch_size": 8}, {"batch_tokens": 64}])
def test_a_million_epochs_are_planned_without_shuffling_each_of_them(how: dict[str, int], monkeypatch):
    monkeypatch.setattr("headway.core.training.training.EPOCHS_COUNTED", 30)
    config = replace(CONFIG, epochs=1e6, **how)
    sampler = config.sampler(DATA.lengths)
    shuffled: list[int] = []
    epoch = type(sampler).epoch
    monkeypatch.setattr(type(sampler), "epoch", lambda one, number: shuffled.append(number) or epoch(one, number))
    started = next(fit(tiny_bert(), sampler, DATA.collate, DATA.loss, config))
    assert len(shuffled) == 30
    mean = sum(len(epoch(sampler, number)) for number in range(30)) / 30
    assert started.total_steps == round(1e6 * mean)


def test_gradient_accumulation_equals_a_large_batch():
    big, whole = train(replace(CONFIG, batch_size=32))
    small, parts = train(replace(CONFIG, batch_size=16, gradient_accumulation_steps=2))
    assert len(steps_of(whole)) == len(steps_of(parts)) == 4
    for one, two in zip(steps_of(whole), steps_of(parts), strict=True):
        assert two.loss == pytest.approx(one.loss, abs=1e-6)
        assert two.tokens == one.tokens
        assert two.epoch == one.epoch
    assert same(big, small, atol=1e-6)


def test_tokens_at_once_does_not_change_a_step():
    at_once, whole = train(replace(CONFIG, batch_size=32, tokens_at_once=100_000))
    calls = []

    def counted(indices, seed):
        calls.append(sum(DATA.lengths[i] for i in indices))
        return DATA.collate(indices, seed)

    in_parts, parts = train(replace(CONFIG, batch_size=32, tokens_at_once=40), collate=counted)
    assert max(calls) <= 40 < min(step.tokens for step in steps_of(whole))
    for one, two in zip(steps_of(whole), steps_of(parts), strict=True):
        assert two.loss == pytest.approx(one.loss, abs=1e-6)
        assert two.tokens == one.tokens
    assert same(at_once, in_parts, atol=1e-6)


def test_the_loss_is_the_mean_over_the_labels_of_the_whole_step():
    def half_labelled(indices, seed):
        inputs = DATA.collate(indices, seed)
        return replace(inputs, targets={**inputs.targets, "labelled": torch.tensor(indices) % 3 > 0})

    def loss(outputs, targets):
        labelled = targets["labelled"]
        return DATA.loss(outputs[labelled], {"labels": targets["labels"][labelled]})

    half = {"collate": half_labelled, "loss": loss}
    big, whole = train(replace(CONFIG, batch_size=24), **half)
    small, parts = train(replace(CONFIG, batch_size=3, gradient_accumulation_steps=8), **half)
    losses = [[step.loss for step in steps_of(events)] for events in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert same(big, small, atol=1e-6)


def test_a_step_without_labels_changes_no_weights():
    network, events = train(replace(CONFIG, weight_decay=0.0), loss=lambda *call: (DATA.loss(*call)[0] * 0, 0))
    assert [step.loss for step in steps_of(events)] == [0.0] * 14
    assert same(network, tiny_bert())


def test_only_matrices_have_weight_decay():
    network = tiny_bert()
    decay = {p: group["weight_decay"] for group in adamw(network, CONFIG).param_groups for p in group["params"]}
    assert len(decay) == len(list(network.parameters()))
    assert {name: decay[p] > 0 for name, p in network.named_parameters()} == {
        name: p.dim() >= 2 for name, p in network.named_parameters()
    }


def test_frozen_parameters_do_not_change():
    network, before = tiny_bert(), tiny_bert()
    network.backbone.requires_grad_(False)
    _, events = train(network=network)
    assert same(network.backbone, before.backbone)
    assert not same(network.head, before.head)
    assert events[0].parameters == sum(p.numel() for p in network.head.parameters())


def test_without_max_grad_norm_gradients_are_not_clipped():
    steep = replace(CONFIG, max_grad_norm=1e-3)
    _, clipped = train(steep)
    _, free = train(replace(CONFIG, max_grad_norm=None))
    _, wide = train(replace(CONFIG, max_grad_norm=1e9))
    assert [step.loss for step in steps_of(free)] == [step.loss for step in steps_of(wide)]
    assert steps_of(clipped)[0].grad_norm == steps_of(free)[0].grad_norm > 1e-3


def test_batch_tokens_limits_the_tokens_of_a_batch():
    _, events = train(replace(CONFIG, batch_tokens=50))
    assert all(step.tokens <= 50 for step in steps_of(events))
    assert sum(step.tokens for step in steps_of(events)) == 2 * sum(DATA.lengths)


def test_accumulating_embedding_rows_gives_the_same_gradients():
    gradients = []
    for wanted in (False, True):
        torch.manual_seed(0)
        backbone = tiny_bert().backbone
        network = Network(backbone, MaskedLMHead(backbone.config, backbone.token_embedding))  # tied to the embedding
        accumulate_embedding_rows(network, wanted)
        for sequences in ([[3, 7, 3], [4]], [[7, 9]]):  # accumulated over two batches
            network(PackedBatch.pack(sequences)).pow(2).sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for plain, kept in zip(*gradients, strict=True):
        assert kept.layout == torch.strided
        torch.testing.assert_close(kept, plain)


def test_after_a_run_the_network_has_no_gradients_and_no_sparse_embeddings():
    network, _ = train()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module.sparse for module in network.modules() if isinstance(module, nn.Embedding))


# Length of a run, events and log


@pytest.mark.parametrize(
    ("changes", "steps"),
    [({"epochs": 1}, 7), ({"epochs": 0.5}, 4), ({"epochs": 1.5}, 11), ({"max_steps": 3}, 3), ({"max_steps": 30}, 30)],
)
def test_a_run_has_the_configured_number_of_steps(changes: dict, steps: int):
    _, events = train(replace(CONFIG, **changes))
    assert events[0].total_steps == steps
    assert [step.step for step in steps_of(events)] == list(range(1, steps + 1))
    assert events[-1].steps == steps


def test_events_come_in_order_with_consistent_values(tmp_path: Path):
    _, events = train(evaluate=DATA.evaluate, run_folder=tmp_path)
    kinds = [type(event).__name__ for event in events]
    epoch = ["Step"] * 7 + ["Evaluated", "Saved"]
    assert kinds == ["Started", *epoch, *epoch, "Finished"]
    started, finished = events[0], events[-1]
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    assert (started.total_steps, started.examples, started.precision, started.device) == (14, 56, "fp32", "cpu")
    assert (started.processes, started.resumed_from, started.warmup_steps) == (1, None, 2)
    assert steps_of(events)[6].epoch == 1.0
    assert steps_of(events)[-1].seconds_left == 0
    assert [event.path.name for event in events if isinstance(event, Saved)] == [
        "checkpoint-000007",
        "checkpoint-000014",
    ]
    tokens = sum(step.tokens for step in steps_of(events))
    assert finished.tokens_per_second == pytest.approx(tokens / finished.seconds)
    assert finished.train_loss == pytest.approx(sum(step.loss for step in steps_of(events)) / 14, rel=1e-6)
    for event in events:
        assert json.loads(json.dumps(event.to_json(), allow_nan=False))["event"] == type(event).__name__.lower()


def test_evaluations_and_checkpoints_follow_eval_steps_and_save_steps(tmp_path: Path):
    config = replace(CONFIG, eval_steps=4, save_steps=5)
    _, events = train(config, evaluate=DATA.evaluate, run_folder=tmp_path)
    assert [event.step for event in events if isinstance(event, Evaluated)] == [4, 8, 12, 14]
    assert [event.step for event in events if isinstance(event, Saved)] == [5, 10, 14]


def test_the_log_contains_every_step_and_evaluation_without_timings(tmp_path: Path):
    _, events = train(evaluate=DATA.evaluate, run_folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    seen = [
        event.to_log() if isinstance(event, Step) else event.to_json()
        for event in events
        if isinstance(event, Step | Evaluated)
    ]
    assert lines == seen
    assert not {"seconds_left", "tokens_per_second"} & {key for line in lines for key in line}


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    train(evaluate=DATA.evaluate)
    assert list(tmp_path.iterdir()) == []


def test_the_seed_determines_the_result_and_pythons_random_state_does_not_change():
    random.seed(7)
    state = random.getstate()
    once, again, other = (train(replace(CONFIG, seed=seed), tiny_bert(dropout=0.3))[0] for seed in (1, 1, 2))
    assert same(once, again)
    assert not same(once, other)
    assert random.getstate() == state


def test_closing_the_generator_ends_the_run(tmp_path: Path):
    run = fit(tiny_bert(), CONFIG.sampler(DATA.lengths), DATA.collate, DATA.loss, CONFIG, run_folder=tmp_path)
    next(run)
    next(run)
    run.close()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


# The best weights


def scripted(figures: list[float]) -> Callable[[nn.Module], dict[str, float]]:
    """An evaluation that returns these scores in turn and stores the weights."""
    shown: list[dict[str, torch.Tensor]] = []

    def evaluate(network: nn.Module) -> dict[str, float]:
        assert not network.training
        assert not torch.is_grad_enabled()
        shown.append(weights(network))
        return {"score": figures[len(shown) - 1], "other": -1.0}

    evaluate.shown = shown  # pyright: ignore[reportFunctionMemberAccess]
    return evaluate


@pytest.mark.parametrize("in_folder", [True, False])
@pytest.mark.parametrize(
    ("figures", "higher", "keep", "best", "held"),
    [
        ([0.1, 0.5, 0.5, 0.4], True, "best", 3, 3),
        ([0.1, 0.5, 0.5, 0.4], False, "best", 1, 1),
        ([0.1, 0.2, 0.3, 0.4], True, "best", 4, 4),
        ([0.1, 0.5, 0.5, 0.4], True, "last", None, 4),
        ([math.nan, 0.2, math.nan, 0.1], True, "best", 2, 2),
        ([math.nan] * 4, True, "best", 4, 4),
    ],
)
def test_the_network_ends_with_the_weights_that_keep_selects(
    tmp_path: Path, in_folder: bool, figures: list[float], higher: bool, keep: str, best: int | None, held: int
):
    evaluate = scripted(figures)
    folder = tmp_path / "run" if in_folder else None
    config = replace(CONFIG, epochs=4, keep=keep)
    network, events = train(config, evaluate=evaluate, higher_is_better=higher, run_folder=folder)
    finished = events[-1]
    assert finished.best_step == (None if best is None else best * 7)
    assert finished.metrics == pytest.approx({"score": figures[held - 1], "other": -1.0}, nan_ok=True)
    assert all(torch.equal(tensor, evaluate.shown[held - 1][name]) for name, tensor in weights(network).items())
    assert not network.training


def scripted_losses(pairs: list[tuple[float, float]]) -> Callable[[nn.Module], dict[str, float]]:
    """An evaluation that returns these scores and losses in turn."""
    rest = iter(pairs)
    return lambda network: dict(zip(("score", "loss"), next(rest), strict=True))  # noqa: ARG005


@pytest.mark.parametrize(
    ("pairs", "best"),
    [
        ([(0.5, 0.9), (0.5, 0.3), (0.5, 0.4)], 2),
        ([(0.5, 0.9), (0.5, 0.3), (0.5, 0.3)], 3),
        ([(0.5, 0.9), (0.4, 0.1), (0.4, 0.1)], 1),
        ([(0.5, math.nan), (0.5, 0.3), (0.5, math.nan)], 2),
    ],
)
def test_of_equal_scores_the_lower_loss_wins_and_of_equal_losses_the_latest_weights(
    pairs: list[tuple[float, float]], best: int
):
    _, events = train(replace(CONFIG, epochs=3), evaluate=scripted_losses(pairs))
    assert events[-1].best_step == best * 7


def test_an_equal_score_with_a_lower_loss_resets_the_patience():
    config = replace(CONFIG, epochs=5, patience=2)
    _, events = train(config, evaluate=scripted_losses([(0.5, 0.9), (0.5, 0.8), (0.5, 0.8), (0.5, 0.7), (0.5, 0.7)]))
    assert (events[-1].stopped_early, events[-1].best_step) == (False, 35)


def test_a_run_without_a_new_best_score_stops_after_patience_evaluations(tmp_path: Path):
    evaluate = scripted([0.1, 0.3, 0.2, 0.3, 0.9])
    config = replace(CONFIG, epochs=9, patience=2)
    _, events = train(config, evaluate=evaluate, run_folder=tmp_path)
    finished = events[-1]
    assert (finished.stopped_early, finished.steps, finished.best_step) == (True, 28, 28)
    assert [event.best for event in events if isinstance(event, Evaluated)] == [True, True, False, True]
    assert isinstance(events[-2], Saved)
    *_, again = fit(
        tiny_bert(),
        config.sampler(DATA.lengths),
        DATA.collate,
        DATA.loss,
        config,
        run_folder=tmp_path,
        resume=True,
        evaluate=evaluate,
    )
    assert again == finished


def test_patience_without_evaluation_is_refused():
    with pytest.raises(HeadwayError, match="--eval-data"):
        train(replace(CONFIG, patience=2))


# Errors


@pytest.mark.parametrize("what", ["loss", "gradients"])
def test_a_loss_that_is_not_finite_stops_the_run_without_changing_weights(tmp_path: Path, what: str):
    calls = []

    def broken_loss(outputs, targets):
        summed, count = DATA.loss(outputs, targets)
        calls.append(weights(network))
        if len(calls) == 10 and what == "loss":
            summed = summed * math.nan
        if len(calls) == 10 and what == "gradients":
            weight = network.head.classifier.weight[0, 0]
            summed = summed + (weight - weight.detach()).sqrt()  # adds 0 with an infinite gradient
        return summed, count

    network = tiny_bert()
    with pytest.raises(HeadwayError, match=r"step 10: the (loss|norm of the gradients) is .*--learning-rate"):
        train(network=network, loss=broken_loss, run_folder=tmp_path)
    assert all(torch.equal(tensor, calls[-1][name]) for name, tensor in weights(network).items())
    assert (tmp_path / "checkpoint-000007").is_dir()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 9


def test_a_full_gpu_memory_is_reported():
    def out_of_memory(*call):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nMore about it.")

    with pytest.raises(HeadwayError, match=r"step 0: the GPU's memory is full .*20.00 GiB.*--tokens-at-once"):
        train(loss=out_of_memory)


def test_data_without_examples_is_refused():
    with pytest.raises(HeadwayError, match="no example"):
        next(fit(tiny_bert(), CONFIG.sampler([]), DATA.collate, DATA.loss, CONFIG))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0), ("epochs", "3"), ("max_steps", 0), ("max_steps", 1.5), ("batch_size", 0), ("batch_size", True),
        ("batch_tokens", -1), ("gradient_accumulation_steps", 0), ("learning_rate", 0.0), ("learning_rate", "5e-5"),
        ("learning_rate", math.nan), ("schedule", "step"), ("warmup_ratio", 1.5), ("warmup_steps", -1),
        ("weight_decay", -0.1), ("adam_beta1", 1.0), ("adam_epsilon", 0), ("max_grad_norm", 0), ("precision", "fp8"),
        ("seed", -1), ("seed", 2**32), ("device", "gpu"), ("device", "cuda:0,1"), ("device", "cuda:"),
        ("eval_steps", 0), ("patience", 0), ("save_steps", 0), ("keep", "all"),
        ("trackers", "wandb"),
    ],
)  # fmt: skip
def test_an_invalid_option_is_named(option: str, value: object):
    with pytest.raises(HeadwayError, match=f"{option}={value!r} is invalid; it must be"):
        TrainConfig(**{option: value})


def test_every_option_has_a_help_text():
    assert all(option.metadata["help"] for option in fields(TrainConfig))


# Devices, precision, trackers


def test_bf16_follows_fp32_on_the_cpu():
    _, full = train()
    network, half = train(replace(CONFIG, precision="bf16"))
    assert half[0].precision == "bf16"
    for one, two in zip(steps_of(full)[:5], steps_of(half)[:5], strict=True):
        assert two.loss == pytest.approx(one.loss, abs=0.05)
        assert two.loss != one.loss
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


def test_after_a_bf16_run_the_network_is_a_plain_fp32_network():
    network, _ = train(replace(CONFIG, precision="bf16"))
    assert vars(network).keys() == vars(tiny_bert()).keys()
    _, again = train(network=network)
    assert again[0].precision == "fp32"


def test_auto_selects_a_precision_that_the_device_supports():
    _, events = train(replace(CONFIG, precision="auto", max_steps=1))
    assert events[0].precision == training_precision("auto", torch.device("cpu"))
    assert events[0].precision in ("fp32", "bf16")


def test_fp16_on_the_cpu_is_refused():
    with pytest.raises(HeadwayError, match=r"fp16.*needs a GPU"):
        train(replace(CONFIG, precision="fp16"))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="needs a machine without an accelerator")
def test_a_missing_device_is_refused():
    with pytest.raises(HeadwayError, match="device='cuda:3' is not on this machine"):
        train(replace(CONFIG, device="cuda:3"))


def test_a_tracker_that_is_not_installed_is_refused():
    with pytest.raises(HeadwayError, match="trackers='aim' is not installed"):
        train(replace(CONFIG, trackers=("aim",)))


def test_a_tracker_gets_every_step_and_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from accelerate import tracking

    seen: list[tuple[str, object, object]] = []

    class Recorder(tracking.GeneralTracker):
        name = "recorder"
        requires_logging_directory = False
        tracker = None

        def __init__(self, run_name: str):
            super().__init__()
            seen.append(("started", run_name, None))

        def store_init_configuration(self, values):
            seen.append(("config", values["learning_rate"], None))

        def log(self, values, step):
            seen.append(("log", step, values))

        def finish(self):
            seen.append(("finished", None, None))

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "recorder", Recorder)
    _, events = train(replace(CONFIG, trackers=("recorder",)), evaluate=DATA.evaluate, run_folder=tmp_path)
    assert seen[:2] == [("started", "headway", None), ("config", 3e-3, None)]
    assert seen[-1] == ("finished", None, None)
    assert [step for kind, step, _ in seen if kind == "log"] == [*range(1, 8), 7, *range(8, 15), 14]
    assert seen[2][2]["loss"] == steps_of(events)[0].loss


def test_tracker_files_go_to_the_tracker_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from accelerate import tracking

    class Writer(tracking.GeneralTracker):
        name = "writer"
        requires_logging_directory = True
        tracker = None

        def __init__(self, run_name: str, logging_dir: str):
            super().__init__()
            self.file = Path(logging_dir, run_name)
            self.file.parent.mkdir(exist_ok=True)

        def store_init_configuration(self, values):
            pass

        def log(self, values, step):
            self.file.write_text(f"{step} {sorted(values)}")

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "writer", Writer)
    train(replace(CONFIG, trackers=("writer",)), run_folder=tmp_path / "run", tracker_folder=tmp_path / "trackers")
    assert (tmp_path / "trackers/headway").read_text().startswith("14 ['")
    assert not (tmp_path / "run/headway").exists()


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_gives_the_loss_curve_of_the_cpu(tmp_path: Path, precision: str):
    _, expected = train()
    network, events = train(
        replace(CONFIG, device="cuda", precision=precision), evaluate=DATA.evaluate, run_folder=tmp_path
    )
    assert events[0].device.startswith("cuda")
    for one, two in zip(steps_of(expected)[:5], steps_of(events)[:5], strict=True):
        assert two.loss == pytest.approx(one.loss, abs=1e-3 if precision == "fp32" else 0.1)
    assert next(network.parameters()).is_cuda


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_no_step_makes_the_host_wait_for_the_gpu(precision: str):
    calls = []

    def loss(outputs, targets):
        calls.append(len(outputs))
        if len(calls) > 1:  # initialization in the first step may wait
            torch.cuda.set_sync_debug_mode("error")
        return DATA.loss(outputs, targets)

    config = replace(CONFIG, device="cuda", precision=precision, max_steps=9)
    try:
        with pytest.raises(RuntimeError, match="synchronizing"):
            train(config, loss=loss)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(calls) == 9  # then their results are read together


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_on_a_gpu_can_be_resumed(tmp_path: Path, precision: str):
    config = replace(CONFIG, device="cuda", precision=precision, save_steps=3)
    options = {"run_folder": tmp_path / "broken"}
    run = fit(tiny_bert(0.2), config.sampler(DATA.lengths), DATA.collate, DATA.loss, config, **options)
    while not isinstance(next(run), Saved):
        pass
    run.close()
    _, resumed = train(config, tiny_bert(0.2), resume=True, **options)
    _, unbroken = train(config, tiny_bert(0.2), run_folder=tmp_path / "unbroken")
    assert resumed[0].resumed_from == 3
    for one, two in zip(steps_of(unbroken)[3:], steps_of(resumed), strict=True):
        assert two.loss == pytest.approx(one.loss, abs=1e-2)
