"""A step whose windows or in-batch negatives do not fit in one forward pass has the gradient of one pass."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from headway.core.models.heads import Network
from headway.core.models.layers import set_dropout
from headway.core.models.packing import PackedBatch
from headway.core.training import training_step
from headway.core.training.devices import accelerator_for
from headway.core.training.training_config import TrainConfig
from headway.core.training.training_inputs import TrainingInputs
from headway.core.training.training_step import TrainingStep
from headway.tasks import (
    MultipleChoice,
    QuestionAnswering,
    SentenceSimilarity,
    TextClassification,
    TokenClassification,
)
from headway.tasks.base.task import Task
from headway.tasks.data.features import Features, group_windows
from headway.tasks.data.read import read_table
from torch import Tensor

CONFIG = TrainConfig(precision="fp32", device="cpu", learning_rate=1e-3, epochs=1, batch_size=4)
WHOLE, PARTS = 100_000, 60  # tokens at once; the models read at most 48
LONG = "my parcel has not arrived, send the money back to London " * 12
SHORT = ["the cat sat on the mat", "where is my card", "Ada Lovelace wrote the program"]
TEXTS = [LONG, *SHORT]
TAGS = [["B-LOC" if word == "London" else "O" for word in text.split()] for text in TEXTS]

CASES: dict[str, tuple[Task[Any, Any], list[dict[str, Any]]]] = {
    "one label": (TextClassification(), [{"text": t, "label": "ab"[i % 2]} for i, t in enumerate(TEXTS)]),
    "several labels": (
        TextClassification(problem_type="multi_label_classification", class_weight="balanced"),
        [{"text": text, "labels": labels} for text, labels in zip(TEXTS, ["a|b", "b", "a", "c"], strict=True)],
    ),
    "a number": (TextClassification(), [{"text": text, "label": 1.5 * len(text)} for text in TEXTS]),
    "pairs": (
        TextClassification(),
        [{"sentence1": t, "sentence2": LONG, "label": "ab"[i % 2]} for i, t in enumerate(TEXTS)],
    ),
    "entities": (
        TokenClassification(),
        [{"tokens": text.split(), "tags": tags} for text, tags in zip(TEXTS, TAGS, strict=True)],
    ),
    "choices": (
        MultipleChoice(),
        [{"context": text, "choices": ["a cat", "a dog", LONG], "label": i % 3} for i, text in enumerate(TEXTS)],
    ),
    "questions": (QuestionAnswering(), [{"question": "where?", "context": LONG, "answers": "London"}]),
    "similarity, scores": (
        SentenceSimilarity(pooling="mean,max"),
        [{"sentence1": t, "sentence2": LONG[: 200 * i + 9], "score": i} for i, t in enumerate(TEXTS)],
    ),
    "similarity, pairs": (
        SentenceSimilarity(),
        [{"anchor": text, "positive": LONG[: 200 * i + 9]} for i, text in enumerate(TEXTS)],
    ),
}


@dataclass(frozen=True)
class Prepared:
    """A task that knows its labels, an untrained network with its head, and the windows of the examples."""

    task: Task[Any, Any]
    network: Network
    windows: list[list[Features]]

    @classmethod
    def of(cls, name: str, folder: Path, dropout: float = 0.0, device: str = "cpu") -> "Prepared":
        task, rows = CASES[name]
        model, table = task.on(folder), read_table(rows)
        columns = task.columns(table, {}, need_label=True)
        task, _ = task.infer_labels(table, columns)
        features = task.encode(task.examples(table, columns), model.tokenizer, model.limit)
        torch.manual_seed(1)
        network = Network(model.network.backbone, task.head(model.network.backbone)).train()
        set_dropout(network, dropout)
        return cls(task, network.to(device), list(task.training_windows(group_windows(features))))

    def collate(self, indices: list[int], seed: int = 0) -> TrainingInputs:
        features = self.task.corrupt([one for i in indices for one in self.windows[i]], seed)
        return TrainingInputs(self.task.pack(features), self.task.targets(features))

    def outputs(self, batch: PackedBatch) -> Any:
        return self.task.pool(self.network(batch), batch)

    def gradients(self) -> dict[str, Tensor]:
        return {name: p.grad.clone() for name, p in self.network.named_parameters() if p.grad is not None}

    def step(
        self, tokens_at_once: int, monkeypatch: pytest.MonkeyPatch, scaler: torch.amp.GradScaler | None = None
    ) -> tuple[dict[str, Tensor], Tensor, int]:
        """The gradients of a step over all examples, its loss, labels and tokens, and the largest forward pass."""
        sizes: list[int] = []
        self.network.register_forward_pre_hook(lambda _, given: sizes.append(given[0].num_tokens))
        monkeypatch.setattr(training_step, "apply_gradients", lambda _, totals, **__: totals[0] * 0)
        device = next(self.network.parameters()).device.type
        config = replace(CONFIG, tokens_at_once=tokens_at_once, device=device)
        accelerator = accelerator_for(config, None)
        accelerator.scaler = scaler
        step = TrainingStep(
            self.network,
            self.collate,
            self.task.loss,
            lengths=[sum(len(one.input_ids) for one in windows) for windows in self.windows],
            config=config,
            accelerator=accelerator,
            pool=self.task.pool,
            in_batch_negatives=self.task.in_batch_negatives,
        )
        torch.manual_seed(2)
        totals = step.run([list(range(len(self.windows)))], step=0, learning_rate=1e-3)
        return self.gradients(), totals, max(sizes)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    assert largest > 0
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=tolerance * largest, rtol=0, msg=name)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in CASES for kind in CASES[name][0].models])
def test_the_gradient_and_the_loss_do_not_depend_on_tokens_at_once(
    name: str, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    folder = request.getfixturevalue(f"{kind}_folder")
    one_pass, prepared = Prepared.of(name, folder), Prepared.of(name, folder)
    one_pass.network.double()  # so that the order of additions does not matter
    prepared.network.double()
    whole, totals, _ = one_pass.step(WHOLE, monkeypatch)
    parts, totals_of_parts, largest = prepared.step(PARTS, monkeypatch)
    tokens = sum(len(one.input_ids) for windows in prepared.windows for one in windows)
    assert largest <= PARTS < max(sum(len(one.input_ids) for one in windows) for windows in prepared.windows) or (
        name == "questions"  # every window is an example
    )
    assert totals[2] == totals_of_parts[2] == tokens  # each token is counted once
    torch.testing.assert_close(totals_of_parts, totals, rtol=1e-5, atol=1e-5)
    assert_equal(parts, whole, 1e-10)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("name", ["one label", "similarity, pairs"])
def test_both_passes_draw_the_same_dropout(name: str, device: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    prepared = Prepared.of(name, tiny_model, 0.3, device)
    if not prepared.task.in_batch_negatives:
        prepared = replace(prepared, windows=prepared.windows[:1])  # one long example
    found, _, _ = prepared.step(PARTS, monkeypatch)
    left = torch.rand(1, device=device)

    expected = Prepared.of(name, tiny_model, 0.3, device)
    inputs = expected.collate(list(range(len(prepared.windows)))).to(torch.device(device))
    parts = inputs.batch.parts(PARTS // 2)
    assert len(parts) > 3
    torch.manual_seed(2)
    outputs = torch.cat([expected.outputs(part) for part in parts])  # with everything that a backward pass needs
    assert torch.equal(left, torch.rand(1, device=device))
    expected.task.loss(outputs, inputs.targets)[0].backward()
    assert_equal(found, expected.gradients(), 1e-5 if device == "cpu" else 1e-3)


@pytest.mark.parametrize("name", ["one label", "similarity, pairs"])
def test_the_gradient_scaler_of_fp16_scales_both_passes(name: str, bert_folder: Path, monkeypatch: pytest.MonkeyPatch):
    plain, _, _ = Prepared.of(name, bert_folder).step(PARTS, monkeypatch)
    scaled, _, _ = Prepared.of(name, bert_folder).step(PARTS, monkeypatch, torch.amp.GradScaler("cpu", 64.0))
    assert_equal({name: gradient / 64 for name, gradient in scaled.items()}, plain, 1e-5)


def test_all_pairs_of_a_batch_are_negatives_however_it_is_computed(bert_folder: Path, tmp_path: Path):
    words = ["parcel", "card", "money", "mat", "cat", "dog", "fox"]
    rows = [{"anchor": f"where is the {word}", "positive": f"the {word} has arrived"} for word in words]
    options = {"max_steps": 3, "batch_size": 7, "precision": "fp32", "eval_fraction": 0, "dropout": 0.0}
    losses = []
    for tokens_at_once in (WHOLE, 25, 1):
        output = tmp_path / str(tokens_at_once)
        SentenceSimilarity().on(bert_folder).fit(rows, output=output, tokens_at_once=tokens_at_once, **options)
        losses.append([json.loads(line)["loss"] for line in (output / "log.jsonl").read_text().splitlines()])
    assert len(losses[0]) == 3
    assert losses[0][0] > 1  # that of finding one of seven is log(7) = 1.9 at first
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[2] == pytest.approx(losses[0], abs=1e-4)
