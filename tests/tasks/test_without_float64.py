"""Everything that computes with a model works on an accelerator without float64, and gives the results of the CPU."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from headway.core.generation.generation import generate, next_tokens
from headway.core.generation.generation_config import GenerationConfig
from headway.core.generation.sampling import sample
from headway.core.inference.inference import prepare_for_inference
from headway.core.training.distributed import inference_device
from headway.core.training.training_events import Evaluated, Started, Step
from headway.core.training.training_step import TrainingStep
from headway.tasks import Embedder, Prompt, TextClassification, load
from headway.tasks.base import held_out_score
from headway.tasks.data.read import stream_rows
from headway.tasks.embedding.search import search
from headway.tasks.embedding.word_vectors import WordTable, compare_contexts
from headway.tasks.inspection import (
    apply_logit_lens,
    attention_maps,
    choose_output,
    explainable_outputs,
    integrated_gradients,
    leave_one_out,
    open_model,
    probe,
    rank_components,
)
from headway.tasks.language_modeling.loading import load_language_model
from simulated_accelerator import DEVICE, NoFloat64, OnDevice, mixed, reads, simulated_accelerator
from test_contract import CASES, ON_BERT_AND_GPT2, TEXTS

OPTIONS = {"max_steps": 2, "eval_steps": 2, "batch_size": 4, "learning_rate": 1e-3, "dropout": 0.0}
LABELLED = [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(TEXTS)]


def on_both(compute: Callable[[], Any]) -> tuple[Any, Any]:
    """What it gives on the CPU and on the accelerator."""
    expected = compute()
    with simulated_accelerator():
        found = compute()
    return expected, found


def train(name: str, folder: Path, output: Path) -> tuple[list[Any], list[Any], Any]:
    """The events of a run, the predictions of the saved model, and its evaluation."""
    case = CASES[name]
    output = output / str(len(list(output.iterdir())))
    rows = case.rows if name != "text-classification, several labels" else case.rows * 2
    events = list(case.task.on(folder).train(rows, rows, output=output, precision="fp32", **OPTIONS))
    model = load(output)
    model.precision = "fp32"
    return events, model.predict(case.inputs), model.evaluate(rows).metrics


@pytest.mark.parametrize(("name", "kind"), ON_BERT_AND_GPT2, ids=[f"{name}-{kind}" for name, kind in ON_BERT_AND_GPT2])
def test_a_task_trains_evaluates_and_predicts(name, kind, bert_folder, gpt2_folder, tmp_path, monkeypatch):
    folder = {"bert": bert_folder, "gpt2": gpt2_folder}[kind]
    run_step, reads_in_steps = TrainingStep.run, []

    def counted(*arguments: Any, **options: Any) -> torch.Tensor:
        before = len(reads)
        results = run_step(*arguments, **options)
        reads_in_steps.extend(reads[before:])
        return results

    monkeypatch.setattr(TrainingStep, "run", counted)
    expected, found = on_both(lambda: train(name, folder, tmp_path))
    assert not reads_in_steps  # the host waits for no step
    assert next(one for one in found[0] if isinstance(one, Started)).device == "mps"
    for kind_of_event, fields in ((Step, ("loss", "grad_norm")), (Evaluated, ("step",))):
        pairs = zip(
            *([one for one in run[0] if isinstance(one, kind_of_event)] for run in (expected, found)), strict=True
        )
        for one, other in pairs:
            for field in fields:
                assert getattr(other, field) == pytest.approx(getattr(one, field), rel=2e-3), (one, other)
    assert len(found[1]) == len(expected[1])
    loss = expected[2].get("loss", math.nan)
    assert found[2].get("loss", math.nan) == pytest.approx(loss, rel=5e-3, nan_ok=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.3},
        {"temperature": 0.8, "seed": 1, "num_return_sequences": 3},
        {"top_k": 20, "top_p": 0.9, "seed": 2},
        {"top_p": 0.5, "seed": 3},
        {"min_p": 0.1, "seed": 4, "repetition_penalty": 1.2},
        {"num_beams": 3, "num_return_sequences": 2},
        {"context": "slide", "max_new_tokens": 60},
    ],
    ids=str,
)
def test_generation(gpt2_folder: Path, options: dict[str, Any]):
    config = GenerationConfig(**{"max_new_tokens": 8, **options})

    def compute() -> list[tuple[int, ...]]:
        network, tokenizer = load_language_model(gpt2_folder, "fp32")
        return [one.token_ids for texts in generate(network, tokenizer, [*TEXTS[:3], ""], config) for one in texts]

    expected, found = on_both(compute)
    assert found == expected


def test_the_alternatives_of_each_token(gpt2_folder: Path):
    def compute() -> list[int]:
        network, tokenizer = load_language_model(gpt2_folder, "fp32")
        config = GenerationConfig(max_new_tokens=3, temperature=1.0)
        return [step.token_id for step in next_tokens(network, tokenizer, TEXTS[0], config)]

    expected, found = on_both(compute)
    assert found == expected


@pytest.mark.parametrize(
    "options",
    [
        {"labels": ("post", "money")},
        {"labels": ("post", "money"), "calibration": "batch", "orders": 2, "choice": "nearest"},
        {"write": True, "max_new_tokens": 4},
    ],
    ids=str,
)
def test_prompting(gpt2_folder: Path, bert_folder: Path, options: dict[str, Any]):
    given = {**options, "shots": 1, **({"nearest_by": str(bert_folder)} if "choice" in options else {})}

    def compute() -> list[Any]:
        model = Prompt(**given).on(gpt2_folder, "fp32")
        found = model.predict(["my card", "my parcel"], [("a parcel", "post"), ("cash", "money"), ("a box", "post")])
        return [getattr(one, "scores", None) and list(one.scores.values()) for one in found]

    expected, found = on_both(compute)
    for one, other in zip(expected, found, strict=True):
        assert other == (one if one is None else pytest.approx(one, abs=1e-4))


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max"])
def test_vectors(tiny_model: Path, pooling: str):
    expected, found = on_both(
        lambda: Embedder(tiny_model, pooling=pooling, precision="fp32").embed([*TEXTS, "the " * 99])
    )
    assert found == pytest.approx(expected, abs=1e-4)


def test_searching_and_words(bert_folder: Path):
    def compute() -> list[Any]:
        embedder = Embedder(bert_folder, pooling="mean", precision="fp32")
        hits = search(embedder, "my parcel", stream_rows([{"text": text} for text in TEXTS]), column="text")
        places = compare_contexts(embedder, "card", [TEXTS[5], TEXTS[7]])
        nearest = WordTable(embedder).nearest("cat - dog", 3)
        return [*(hit.score for hit in hits), *places.cosines.flatten(), *(one.score for one in nearest)]

    expected, found = on_both(compute)
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["text-classification", "token-classification", "question-answering", "fill-mask"])
def test_inspection(name: str, bert_folder: Path, tmp_path: Path):
    case = CASES[name]
    case.task.on(bert_folder).fit(case.rows, output=tmp_path / "model", eval_fraction=0, device="cpu", **OPTIONS)

    def compute() -> list[Any]:
        inspected = open_model(tmp_path / "model")
        given = case.inputs[2] if isinstance(case.inputs[2], tuple) else (case.inputs[2],)
        encoded = inspected.encode(*given)
        found: list[Any] = [
            len(attention_maps(inspected, encoded).heads),
            str(inspected.predict(encoded) is None),
        ]
        if inspected.vocabulary_head is not None:
            found.append(len(apply_logit_lens(inspected, encoded).layers))
        if name != "fill-mask":
            output = choose_output(explainable_outputs(inspected, encoded), None)
            for one in (integrated_gradients(inspected, encoded, output), leave_one_out(inspected, encoded, output)):
                found += [value or 0.0 for value in one.by_word]
        return found

    expected, found = on_both(compute)
    assert found[1:2] == expected[1:2]
    numbers = [[one for one in run if not isinstance(one, str)] for run in (expected, found)]
    assert numbers[1] == pytest.approx(numbers[0], abs=2e-3)


def test_heads_and_probes(bert_folder: Path, tmp_path: Path):
    rows = [{"text": f"{row['text']} {i}", "label": row["label"]} for i, row in enumerate(LABELLED * 3)]
    CASES["text-classification"].task.on(bert_folder).fit(
        rows, output=tmp_path / "model", eval_fraction=0, device="cpu", **OPTIONS
    )

    def compute() -> list[int]:
        ranking = list(rank_components(load(tmp_path / "model"), rows))
        return [len(ranking), len(list(probe(bert_folder, rows, seeds=1)))]

    expected, found = on_both(compute)
    assert found == expected


def test_evaluation_during_training_is_under_autocast(bert_folder: Path, monkeypatch):
    found, evaluate = [], held_out_score.evaluate_examples

    def watched(*arguments: Any) -> Any:
        found.append(bool(mixed))
        return evaluate(*arguments)

    monkeypatch.setattr(held_out_score, "evaluate_examples", watched)
    with simulated_accelerator():
        CASES["text-classification"].task.on(bert_folder).fit(LABELLED, LABELLED, **OPTIONS)
    assert found == [True, False]  # the scores that are shown at the end are in fp32


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_prediction_in_bf16(kind: str, bert_folder: Path, gpt2_folder: Path, tmp_path: Path):
    folder = {"bert": bert_folder, "gpt2": gpt2_folder}[kind]
    model = CASES["text-classification"].task.on(folder)
    model.fit(LABELLED, output=tmp_path / "model", eval_fraction=0, device="cpu", **OPTIONS)

    def compute(precision: str) -> np.ndarray:
        model = load(tmp_path / "model")
        model.precision = precision
        return model.predict_proba(TEXTS)

    exact = compute("fp32")
    with simulated_accelerator():
        found = compute("bf16")
        weights = load(tmp_path / "model").network
        halved = prepare_for_inference(weights, "bf16")
    assert {one.dtype for one in halved.backbone.parameters()} == {torch.bfloat16}
    assert {one.dtype for one in weights.parameters()} == {torch.float32}
    assert (found != exact).any()
    assert found == pytest.approx(exact, abs=0.02)


def test_numbers_far_from_zero_are_not_rounded_to_bf16(bert_folder: Path, tmp_path: Path):
    rows = [{"text": text, "label": 1000 + i} for i, text in enumerate(TEXTS)]
    task = TextClassification(problem_type="regression")
    task.on(bert_folder).fit(rows, output=tmp_path / "model", eval_fraction=0, device="cpu", **OPTIONS)
    exact = [one.value for one in load(tmp_path / "model").predict(TEXTS)]
    with simulated_accelerator():
        model = load(tmp_path / "model")
        model.precision = "bf16"
        found = [one.value for one in model.predict(TEXTS)]
    assert found != exact
    assert found == pytest.approx(exact, abs=0.2)  # bf16 has steps of 8 there


def test_generation_in_bf16_keeps_tied_weights(gpt2_folder: Path):
    with simulated_accelerator():
        network, tokenizer = load_language_model(gpt2_folder, "bf16")
        assert network.head.lm_head.weight is network.backbone.token_embedding.weight
        assert generate(network, tokenizer, TEXTS[:2], GenerationConfig(max_new_tokens=3))


def test_what_the_host_waits_for_is_counted():
    with simulated_accelerator():
        x = torch.arange(3.0, device=DEVICE)
        for number, read in enumerate((x.sum().item, x.cpu, x.tolist, lambda: x[x > 1], lambda: bool(x[0])), 1):
            read()
            assert len(reads) == number


def test_the_simulated_device_refuses_float64():
    with simulated_accelerator():
        x = torch.ones(3, device=DEVICE)
        assert isinstance(x, OnDevice)
        assert x.device == DEVICE
        for refused in (
            lambda: x.double(),
            lambda: x.cumsum(0, dtype=torch.float64),
            lambda: torch.tensor([1.0], dtype=torch.float64, device=DEVICE),
            lambda: torch.ones(2, dtype=torch.float64).to(DEVICE),
        ):
            with pytest.raises(NoFloat64):
                refused()
        with pytest.raises(RuntimeError, match="tensors of the CPU and of the device"):
            x + torch.ones(3)
        assert (x + 1).cpu().double().tolist() == [2, 2, 2]


def test_a_number_just_below_1_samples_the_last_token_that_is_possible():
    logits = torch.randn(4, 5000, generator=torch.Generator().manual_seed(0)) * 4
    logits[:, 4000:] = -torch.inf
    numbers = [0.0, 0.5, 1 - 2**-25, 1 - 2**-53]
    expected, found = on_both(lambda: sample(logits.to(inference_device()), numbers).tolist())
    assert expected == found
    assert found[2:] == [3999, 3999]
