"""Few-shot training: contrastive training where cross-validation says that it helps, then logistic regression."""

import random
from itertools import count
from pathlib import Path

import pytest
import torch
from headway.core.errors import HeadwayError
from headway.core.models.mean_block import averages
from headway.core.training.training_events import Note
from headway.tasks import TextClassification, load
from headway.tasks.classification import few_shot
from headway.tasks.classification.contrastive import BATCH_SIZE, TEMPERATURE, LabelBatches, contrastive_loss
from torch.nn import functional as F

ANIMALS, THINGS = ("cat", "dog", "fox"), ("parcel", "money", "card")
STARTS = ["the", "my", "where is the", "send the"]
ROWS = [
    {"text": f"{start} {noun}", "label": label}
    for start in STARTS
    for label, nouns in (("animal", ANIMALS), ("thing", THINGS))
    for noun in nouns
]
FORMS = {
    "number": "how many {} are there in the world ?",
    "person": "who was the first to write about {} ?",
    "place": "in which country are {} most common ?",
    "reason": "what is the reason that people like {} ?",
}
TOPICS = ["lions", "violins", "volcanoes", "airplanes", "tomatoes", "banks", "chess clubs", "novels"]
QUESTIONS = [{"text": form.format(topic), "label": label} for label, form in FORMS.items() for topic in TOPICS]
TAKEN, LEFT_OUT = "contrastive training of the model helps", "contrastive training of the model is left out"


def train(folder: Path, output: Path, rows=ROWS, **options):
    """A trained model, and its notes."""
    model = TextClassification(few_shot=True, **options).on(folder)
    events = list(model.train(rows, output=output, eval_fraction=0, device="cpu", precision="fp32"))
    return model, [event.note for event in events if isinstance(event, Note)]


def noise(rows):
    """The rows with labels that say nothing about the texts."""
    labels = [row["label"] for row in rows]
    random.Random(0).shuffle(labels)
    return [{**row, "label": label} for row, label in zip(rows, labels, strict=True)]


@pytest.mark.parametrize("several", [False, True])
def test_the_loss_is_that_of_a_plain_loop(several):
    torch.manual_seed(0)
    vectors = torch.randn(7, 5)
    labels = torch.randint(0, 2, (7, 3)) if several else torch.tensor([0, 0, 1, 1, 1, 2, 0])
    units, expected = F.normalize(vectors, dim=-1), 0.0
    for i in range(7):
        others = [j for j in range(7) if j != i]
        scores = torch.stack([units[i] @ units[j] / TEMPERATURE for j in others]).log_softmax(0)
        if several:
            common = [
                float((labels[i] & labels[j]).sum()) / max(float((labels[i] | labels[j]).sum()), 1) for j in others
            ]
        else:
            common = [float(labels[i] == labels[j]) for j in others]
        if sum(common):
            expected -= sum(w * float(s) for w, s in zip(common, scores, strict=True)) / sum(common)
    loss, terms = contrastive_loss(vectors, {"labels": labels})
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert terms == 7


def test_every_row_is_in_one_batch_of_an_epoch_beside_others_of_its_label():
    labels = [i % 20 for i in range(160)]
    sampler = LabelBatches([5] * 160, labels, seed=0)
    batches = sampler.epoch(0)
    assert sorted(row for batch in batches for row in batch) == list(range(160))
    assert max(map(len, batches)) <= BATCH_SIZE
    pairs = [row for batch in batches for row in batch if sum(labels[row] == labels[other] for other in batch) > 1]
    assert len(pairs) > 150
    assert batches == sampler.epoch(0) != sampler.epoch(1)


def test_the_model_is_trained_where_it_helps(minilm, tmp_path):
    model, notes = train(minilm, tmp_path / "model", QUESTIONS)
    assert notes[-1].startswith(TAKEN)  # the vectors of a sentence encoder are about topics
    asked = [{"text": form.format("rivers"), "label": label} for label, form in FORMS.items()]
    assert model.evaluate(asked).metrics["accuracy"] == 1


def test_a_trained_folder_predicts_the_same_and_the_same_seed_gives_the_same_folder(
    bert_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(few_shot, "MIN_GAIN", -1000.0)  # taken in any case
    before = TextClassification().on(bert_folder).network.backbone.state_dict()
    model, notes = train(bert_folder, tmp_path / "model", pooling="mean")
    assert notes[-1].startswith(TAKEN)
    after = model.network.backbone.state_dict()
    assert averages(model.network.backbone)
    assert not torch.equal(after["blocks.0.attn.qkv.weight"], before["blocks.0.attn.qkv.weight"])
    assert torch.equal(after["token_embedding.weight"], before["token_embedding.weight"])
    assert all(parameter.requires_grad for parameter in model.network.parameters())
    texts = [row["text"] for row in ROWS]
    assert load(tmp_path / "model").predict(texts) == model.predict(texts)
    assert "contrastive training" in (tmp_path / "model/README.md").read_text()
    train(bert_folder, tmp_path / "again", pooling="mean")
    assert (tmp_path / "model/model.safetensors").read_bytes() == (tmp_path / "again/model.safetensors").read_bytes()


def test_a_contrastive_step_that_hurts_is_left_out(bert_folder, tmp_path):
    before = TextClassification().on(bert_folder).network.backbone.state_dict()
    model, notes = train(bert_folder, tmp_path / "model", noise(ROWS))
    assert notes[-1].startswith(LEFT_OUT)
    for name, value in model.network.backbone.state_dict().items():
        assert name not in before or torch.equal(value, before[name])


def test_too_few_rows_to_hold_any_out_are_not_trained_on_contrastively(bert_folder, tmp_path):
    _, notes = train(bert_folder, tmp_path / "model", [ROWS[0], ROWS[3]])
    assert "nothing can be held out" in notes[-1]


DATA = {
    "several labels": [
        {"text": row["text"], "labels": [word for word in ("cat", "card", "my", "the") if word in row["text"]]}
        for row in ROWS
    ],
    "pairs": [{"sentence1": row["text"], "sentence2": "the cat", "label": row["label"]} for row in ROWS],
    "long texts": [{"text": row["text"] + " the quick brown fox" * 40, "label": row["label"]} for row in ROWS],
}


@pytest.mark.parametrize("kind", DATA)
def test_every_kind_of_labels_is_learned(tiny_model, tmp_path, kind):
    rows = DATA[kind]
    model, _ = train(tiny_model, tmp_path / "model", rows)
    texts = [tuple(row[name] for name in ("sentence1", "sentence2") if name in row) or row["text"] for row in rows[:3]]
    assert load(tmp_path / "model").predict(texts) == model.predict(texts)


def test_what_makes_no_sense_is_refused(bert_folder, tmp_path):
    with pytest.raises(HeadwayError, match="--few-shot includes what --frozen does"):
        TextClassification(few_shot=True, frozen=True)
    with pytest.raises(HeadwayError, match="the label is a number"):
        train(bert_folder, tmp_path / "model", [{**row, "label": i / 7} for i, row in enumerate(ROWS)])
    model = TextClassification(few_shot=True).on(bert_folder)
    with pytest.raises(HeadwayError, match="--seeds compares runs of the training loop"):
        model.fit(ROWS, output=tmp_path / "model", seeds=2)
    assert not (tmp_path / "model").exists()


def test_a_stopped_run_leaves_nothing_and_starts_again(bert_folder, tmp_path):
    model, calls = TextClassification(few_shot=True).on(bert_folder), count()
    with pytest.raises(KeyboardInterrupt):
        list(model.train(ROWS, output=tmp_path / "model", device="cpu", stop=lambda: next(calls) == 3))
    assert list(tmp_path.iterdir()) == []
    trained = model.fit(ROWS, output=tmp_path / "model", eval_fraction=0, device="cpu")
    assert (tmp_path / "model/model.safetensors").exists()
    assert trained.steps > 3
