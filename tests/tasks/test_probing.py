"""Linear probes: vectors equal those of transformers, probes equal scikit-learn's, the informative layer is found."""

import random
from pathlib import Path

import pytest
import torch
import transformers
from headway.core.checkpoints.checkpoint import load_backbone
from headway.core.errors import HeadwayError
from headway.core.models.packing import PackedBatch
from headway.tasks import QuestionAnswering, TextClassification, TokenClassification
from headway.tasks.data.split import split_rows
from headway.tasks.inspection import ProbeResult, ProbeScore, probe
from headway.tasks.inspection.probing import HELD_OUT, layer_states

WORDS = ["parcel", "money", "card", "cat", "dog", "mat", "fox", "program", "weather", "London"]


def rows(count: int = 80) -> list[dict[str, str]]:
    """Texts labelled by whether they contain "money", which a probe can read from the embeddings."""
    chance = random.Random(0)
    texts = [" ".join(chance.sample(WORDS, 4)) for _ in range(count)]
    return [{"text": text, "label": "yes" if "money" in text else "no"} for text in texts]


def tagged(count: int = 40) -> list[dict[str, list[str]]]:
    """Sentences in which London is tagged."""
    chance = random.Random(0)
    sentences = [chance.sample(WORDS, 5) for _ in range(count)]
    return [{"tokens": words, "ner_tags": ["B-LOC" if w == "London" else "O" for w in words]} for words in sentences]


def run(model: Path, data, **options) -> ProbeResult:
    *steps, last = probe(model, data, **options)
    assert isinstance(last, ProbeResult)
    assert all(isinstance(step, ProbeScore) for step in steps)
    assert len(steps) == len(last.mix.scores) * (len(last.layers) + 1)
    return last


def test_the_probed_vectors_are_the_hidden_states_of_transformers(tiny_model):
    checkpoint = load_backbone(tiny_model)
    ids = [[5, 6, 7, 8], [9, 10, 11]]
    reference = transformers.AutoModel.from_pretrained(tiny_model).eval()
    with torch.no_grad():
        found = PackedBatch.pack(ids).split(layer_states(checkpoint.network.backbone, PackedBatch.pack(ids)))
        for states, one in zip(found, ids, strict=True):
            expected = reference(torch.tensor([one]), output_hidden_states=True).hidden_states
            torch.testing.assert_close(states, torch.stack([x[0] for x in expected], 1), rtol=1e-5, atol=1e-5)


def test_embeddings_layers_and_their_mix_are_probed(tiny_model):
    found = run(tiny_model, rows(), seeds=2)
    assert [one.layer for one in found.layers] == [0, 1, 2]
    assert (found.task, found.metric, found.examples) == ("text-classification", "accuracy", 80)
    assert all(len(one.scores) == 2 for one in (*found.layers, found.mix, found.majority))
    assert sum(found.mix_weights) == pytest.approx(1, abs=1e-5)
    assert 0 <= found.center_of_gravity <= 2
    assert found.layers[0].mean > found.majority.mean + 0.1  # the mean of the token embeddings contains the word
    assert found.mix.mean > found.majority.mean + 0.1


def test_tags_of_words_are_probed(tiny_model):
    found = run(tiny_model, tagged(), seeds=1)
    assert (found.task, found.metric) == ("token-classification", "f1")
    assert found.layers[0].mean > 0.9
    assert found.majority.mean == 0.0  # O for every word
    assert run(tiny_model, tagged(), task=TokenClassification(), seeds=1) == found


@pytest.mark.parametrize("pooling", ["mean", "summary"])
def test_a_probe_equals_logistic_regression_on_the_vectors_of_transformers(bert_folder, pooling):
    from sklearn.linear_model import LogisticRegression

    data = rows()
    found = run(bert_folder, data, seeds=1, pooling=pooling)
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert_folder)
    model = transformers.AutoModel.from_pretrained(bert_folder).eval()
    vectors = []
    for row in data:
        with torch.no_grad():
            states = model(**tokenizer(row["text"], return_tensors="pt"), output_hidden_states=True).hidden_states
        vectors.append(states[1][0].mean(0) if pooling == "mean" else states[1][0, 0])
    labels = [row["label"] for row in data]
    train, test = split_rows(labels, HELD_OUT, 0)
    whole = torch.stack(vectors)
    whole = (whole - whole[train].mean(0)) / whole[train].std(0)
    regression = LogisticRegression(max_iter=1000).fit(whole[train].numpy(), [labels[i] for i in train])
    score = regression.score(whole[test].numpy(), [labels[i] for i in test])
    assert found.layers[1].scores[0] == pytest.approx(score, abs=0.07)  # one example of sixteen


def test_the_mix_finds_the_only_informative_layer(bert_folder, monkeypatch):
    from headway.tasks.inspection import probing

    def states(backbone, batch):
        noise = torch.randn(batch.num_tokens, 3, 16, generator=torch.Generator().manual_seed(batch.num_tokens))
        noise[:, 2] += 3.0 * (batch.input_ids == money)[:, None]
        return noise

    from headway.core.tokenizers.tokenizer import Tokenizer

    (money,) = Tokenizer.load(bert_folder).encode("money").ids
    monkeypatch.setattr(probing, "layer_states", states)
    found = run(bert_folder, rows(200), seeds=1)
    assert max(range(3), key=lambda i: found.mix_weights[i]) == 2
    assert found.mix_weights[2] > 0.5
    assert max(found.layers, key=lambda one: one.mean).layer == 2


def test_the_same_seed_gives_the_same_result_and_the_number_of_examples_is_limited(bert_folder):
    assert run(bert_folder, rows(), seeds=1) == run(bert_folder, rows(), seeds=1)
    found = run(bert_folder, rows(), seeds=1, most=40)
    assert found.examples == 40
    assert "40 of 80 examples, drawn with seed 0" in found.notes


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (rows(), {"pooling": "max"}, "--pooling max: say mean or summary"),
        (rows(), {"seeds": 0}, "--seeds 0"),
        ([{"text": f"text {i}", "label": i / 7} for i in range(30)], {}, "one label of several"),
        ([{"text": f"text {i % 9}", "labels": ["a", "bc"[i % 2]]} for i in range(30)], {}, "one label of several"),
        (
            [{"question": "who?", "context": "a cat sat", "answers": "a cat"}] * 4,
            {"task": QuestionAnswering()},
            "cannot be probed",
        ),
    ],
)
def test_options_and_data_that_cannot_be_probed_are_refused(bert_folder, data, options, words):
    with pytest.raises(HeadwayError, match=words):
        run(bert_folder, data, **options)


@pytest.mark.realdata
def test_question_types_are_predicted_best_above_the_embeddings(minilm, data_folder):
    found = run(minilm, data_folder / "trec" / "train.txt", task=TextClassification(), seeds=3, most=1000)
    means = [one.mean for one in found.layers]
    assert max(means[1:]) > means[0] + 0.05
    assert all(one.std > 0 for one in found.layers)
