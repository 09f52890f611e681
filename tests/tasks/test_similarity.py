"""Sentence similarity: the objectives, their losses, the metrics, and folders for sentence-transformers."""

import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from headway.core.errors import HeadwayError
from headway.tasks import Embedder, SentenceSimilarity, load
from headway.tasks.data.features import Features, group_windows, pack
from headway.tasks.data.read import read_table
from headway.tasks.data.token_counts import TokenCounts
from headway.tasks.embedding.predictions import PairExample, SimilarityPrediction
from scipy.stats import pearsonr, spearmanr

SCORED = [
    {"sentence1": "the cat sat", "sentence2": "a cat sat", "score": 4.5},
    {"sentence1": "my parcel", "sentence2": "the dog", "score": 0.5},
    {"sentence1": "the cat sat", "sentence2": "the money", "score": 2.5},
]
TOGETHER = [
    {"anchor": "where is my cat", "positive": "the cat sat on the mat"},
    {"anchor": "my parcel", "positive": "the parcel has arrived"},
    {"anchor": "who lived in London", "positive": "Ada Lovelace"},
]


def infer(rows, task=None, **chosen):
    table = read_table(rows)
    task = task or SentenceSimilarity()
    columns = task.columns(table, chosen, need_label=True)
    inferred, notes = task.infer_labels(table, columns)
    return inferred, columns, notes, table


def features_of(task, folder, rows):
    model = task.on(folder)
    inferred, columns, _, table = infer(rows, task)
    return inferred, model, inferred.encode(inferred.examples(table, columns), model.tokenizer, model.limit)


@pytest.mark.parametrize(
    ("rows", "objective", "label"),
    [
        (SCORED, "scores", "score"),
        (TOGETHER, "pairs", None),
        ([{**row, "id": i} for i, row in enumerate(TOGETHER)], "pairs", None),
        ([{**row, "genre": "news"} for row in TOGETHER], "pairs", None),
        ([{"a": "the cat", "b": "the dog", "near": i % 5 / 2} for i in range(30)], "scores", "near"),
    ],
    ids=["scores", "pairs", "numbered pairs", "pairs of a genre", "a column of numbers"],
)
def test_the_objective_is_inferred_from_the_columns(rows, objective, label):
    texts = {"text": "a", "pair": "b"} if "a" in rows[0] else {}
    inferred, columns, _, _ = infer(rows, **texts)
    assert (inferred.objective, columns.label) == (objective, label)


def test_a_file_without_a_header_is_read(tmp_path):
    lines = [f"a man is eating food {i},a man eats {i} of something,{i % 11 / 2}" for i in range(40)]
    (tmp_path / "sts.csv").write_text("\n".join(lines) + "\n")
    inferred, columns, _, _ = infer(tmp_path / "sts.csv")
    assert (columns.texts, columns.label) == ({"text": "0", "pair": "1"}, "2")
    assert (inferred.lowest, inferred.highest) == (0.0, 5.0)


def test_numbers_beside_positive_pairs_are_said_to_be_unread():
    task = SentenceSimilarity(objective="pairs")
    note = "each row is read as a positive pair: its numbers are not read (--objective pairs)"
    assert infer(SCORED, task)[1].notes[-1] == note
    assert note not in infer(TOGETHER, task)[1].notes
    assert note not in task.columns(read_table(SCORED), {}, need_label=False).notes


def test_the_objective_can_be_chosen():
    inferred, columns, _, _ = infer(SCORED, SentenceSimilarity(objective="pairs"))
    assert (inferred.objective, columns.label) == ("pairs", None)
    with pytest.raises(HeadwayError, match="omit --label"):
        infer(SCORED, SentenceSimilarity(objective="pairs"), label="score")
    with pytest.raises(HeadwayError, match="label"):
        infer(TOGETHER, SentenceSimilarity(objective="scores"))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{**row, "score": 3} for row in SCORED], "every score is 3"),
        ([{**row, "score": "near"} for row in SCORED], "no score in column"),
        ([*SCORED, {"sentence1": "a", "sentence2": "b", "score": None}], "there is no label"),
        ([*SCORED, {"sentence1": "", "sentence2": "b", "score": 1}], '"sentence1" is empty'),
        ([*SCORED, {"sentence1": ["a"], "sentence2": "b", "score": 1}], "a list, not a text"),
    ],
)
def test_unusable_data_is_rejected(rows, words):
    def read():
        inferred, columns, _, table = infer(rows)
        inferred.examples(table, columns)

    with pytest.raises(HeadwayError, match=words):
        read()


@pytest.mark.parametrize(("given", "words"), [({"objective": "rank"}, "rank"), ({"pooling": "median"}, "median")])
def test_an_invalid_option_is_named(given, words):
    with pytest.raises(HeadwayError, match=words):
        SentenceSimilarity(**given)


def loss_of(task, model, features):
    batch = pack(features)
    return task.loss(task.pool(model.network(batch), batch), task.targets(features))


def plain_vectors(model, rows, names):
    """The normalized mean over the tokens of each text, text by text."""
    found = []
    for name in names:
        vectors = []
        for row in rows:
            ids, segments = model.tokenizer.join(model.tokenizer.encode(row[name]).ids)
            batch = pack([Features(0, ids, segments, len(ids))])
            vectors.append(model.network(batch).mean(0))
        found.append(torch.nn.functional.normalize(torch.stack(vectors), dim=-1))
    return found


def test_the_loss_of_scores_is_the_squared_error_of_the_cosine(tiny_model):
    task, model, features = features_of(SentenceSimilarity(), tiny_model, SCORED)
    with torch.no_grad():
        loss, count = loss_of(task, model, features)
        first, second = plain_vectors(model, SCORED, ("sentence1", "sentence2"))
    wanted = torch.tensor([1.0, 0.0, 0.5])  # 4.5, 0.5 and 2.5 of 0.5 to 4.5
    expected = (((first * second).sum(-1) - wanted) ** 2).sum()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    assert count == 3


def test_the_loss_of_pairs_uses_the_other_pairs_as_negatives(tiny_model):
    task, model, features = features_of(SentenceSimilarity(), tiny_model, TOGETHER)
    with torch.no_grad():
        loss, count = loss_of(task, model, features)
        anchors, positives = plain_vectors(model, TOGETHER, ("anchor", "positive"))
    logits = 20 * anchors @ positives.T
    expected = sum(math.log(logits[i].exp().sum()) - logits[i, i] for i in range(3))
    torch.testing.assert_close(loss, torch.as_tensor(expected), atol=1e-4, rtol=1e-5)
    assert count == 3


def test_the_pairs_of_other_processes_are_negatives(tiny_model):
    task, model, features = features_of(SentenceSimilarity(), tiny_model, TOGETHER)
    own, others = ([one for one in features if (one.example == 1) == mine] for mine in (True, False))
    of_others: list[torch.Tensor] = []
    with torch.no_grad():
        for part, gather in (
            (others, lambda rows: of_others.append(rows) or rows),
            (own, lambda rows: torch.cat([rows, of_others.pop(0)])),
        ):
            batch = pack(part)
            loss, count = task.loss(task.pool(model.network(batch), batch), task.targets(part), gather)
        expected, _ = loss_of(task, model, features)
    assert count == 3
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)


def test_pairs_with_a_common_text_are_not_negatives(bert_folder):
    rows = [*TOGETHER[:2], {"anchor": "a dog", "positive": TOGETHER[0]["positive"]}]
    task, model, features = features_of(SentenceSimilarity(), bert_folder, rows)
    with torch.no_grad():
        loss, _ = loss_of(task, model, features)
        anchors, positives = plain_vectors(model, rows, ("anchor", "positive"))
    logits = 20 * anchors @ positives.T
    logits[0, 2] = logits[2, 0] = -math.inf
    expected = sum(math.log(logits[i].exp().sum()) - logits[i, i] for i in range(3))
    torch.testing.assert_close(loss, torch.as_tensor(expected), atol=1e-4, rtol=1e-5)


def test_a_long_text_is_the_mean_of_its_windows_or_cut_and_counted(bert_folder):
    rows = [{"anchor": "the cat sat on the mat " * 30, "positive": "the cat"}, *TOGETHER]
    _, _, features = features_of(SentenceSimilarity(), bert_folder, rows)
    assert sum(one.example == 0 and one.text_index == 0 for one in features) > 3
    _, model, features = features_of(SentenceSimilarity(long_texts="cut"), bert_folder, rows)
    assert sum(one.example == 0 for one in features) == 2
    assert len(features[0].input_ids) == model.limit
    counts = TokenCounts.of(group_windows(features), model.limit, None)
    assert counts.truncated == {0: features[0].length - model.limit}
    assert not counts.divided


def test_the_correlations_are_those_of_scipy():
    draw = np.random.default_rng(0)
    vector = np.zeros(2, dtype=np.float32)
    found = [SimilarityPrediction(float(x), (vector, vector)) for x in draw.random(50)]
    gold = [round(5 * one.similarity + float(draw.normal())) for one in found]
    examples = [PairExample(i, "", "a", "b", float(score)) for i, score in enumerate(gold)]
    figures = SentenceSimilarity().score(found, examples)
    assert list(figures) == ["spearman", "pearson"]
    similarities = [one.similarity for one in found]
    assert figures["spearman"] == pytest.approx(spearmanr(similarities, gold).statistic)
    assert figures["pearson"] == pytest.approx(pearsonr(similarities, gold).statistic)


def test_pairs_are_scored_by_the_rank_of_their_second_text():
    first = np.eye(4, dtype=np.float32)
    second = first[[0, 2, 1, 3]]  # the second and third are swapped
    second[1] += 0.5 * first[1]
    found = [SimilarityPrediction(0.0, pair) for pair in zip(first, second, strict=True)]
    figures = SentenceSimilarity().score(found, [PairExample(i, "", "a", "b") for i in range(4)])
    assert figures == {"accuracy": 0.5, "mrr": pytest.approx((1 + 1 / 2 + 1 / 2 + 1) / 4)}


def test_a_sentence_transformers_folder_loads_as_a_similarity_model(minilm):
    model = load(minilm)
    assert isinstance(model.task, SentenceSimilarity)
    assert (model.task.max_length, model.task.long_texts) == (256, "windows")
    pairs = [("A man is eating.", "Someone has a meal."), ("A man is eating.", "The train is late.")]
    embedder = Embedder(minilm)
    assert [one.similarity for one in model.predict(pairs)] == pytest.approx(
        [embedder.similarity(*pair) for pair in pairs], abs=1e-5
    )


def test_a_base_model_is_not_a_similarity_model(bert_folder):
    with pytest.raises(HeadwayError, match="no head that predicts"):
        load(bert_folder)


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def trained(request, bert_folder, gpt2_folder, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("similar") / "model"
    options = {"max_steps": 2, "precision": "fp32", "eval_fraction": 0}
    SentenceSimilarity(pooling="max", max_length=20, overlap=8).on(
        {"bert": bert_folder, "gpt2": gpt2_folder}[request.param]
    ).fit(SCORED, output=output, **options)
    return output


def test_the_embedder_uses_the_settings_of_training(trained):
    pairs = [(row["sentence1"], row["sentence2"]) for row in SCORED]
    pairs.append(("the cat sat on the mat " * 9, "my parcel has arrived " * 9))  # in windows with the chosen overlap
    embedder = Embedder(trained)
    assert (embedder.config.pooling, embedder.limit, embedder.config.long_texts) == ("max", 20, "windows")
    assert [embedder.similarity(*pair) for pair in pairs] == pytest.approx(
        [one.similarity for one in load(trained).predict(pairs)], abs=1e-5
    )


def test_folders_with_the_old_name_of_the_cls_pooling_open(bert_folder, tmp_path):
    options = {"max_steps": 1, "precision": "fp32", "eval_fraction": 0}
    SentenceSimilarity(pooling="cls").on(bert_folder).fit(SCORED, output=tmp_path / "new", **options)
    old = shutil.copytree(tmp_path / "new", tmp_path / "old")
    content = (old / "headway.json").read_text()
    assert '"pooling": "cls"' in content
    (old / "headway.json").write_text(content.replace('"pooling": "cls"', '"pooling": "first"'))
    pairs = [(row["sentence1"], row["sentence2"]) for row in SCORED]
    found = [load(folder).predict(pairs) for folder in (old, tmp_path / "new")]
    assert found[0] == found[1]
    assert Embedder(old).pooling.modes == ("cls",)


def test_further_training_keeps_the_pooling_and_the_length(trained, tmp_path):
    model = SentenceSimilarity().on(trained)
    model.fit(TOGETHER, output=tmp_path / "again", max_steps=1, precision="fp32", eval_fraction=0)
    assert (model.task.pooling, model.task.max_length, model.task.objective) == ("max", 20, "pairs")
    assert load(tmp_path / "again").task == model.task


def test_a_published_pooler_is_ignored(bert_folder, tmp_path):
    import transformers

    folder = shutil.copytree(bert_folder, tmp_path / "model")
    transformers.BertModel.from_pretrained(folder).save_pretrained(folder)  # with a new pooler
    with_pooler = SentenceSimilarity().on(folder)
    with_pooler.fit(TOGETHER, output=tmp_path / "tuned", max_steps=1, precision="fp32", eval_fraction=0)
    assert with_pooler.network.head is None
    assert not any("pooler" in name for name in load(tmp_path / "tuned").network.state_dict())


def test_training_on_pairs_finds_the_matching_texts(bert_folder, tmp_path):
    things = ["cat", "dog", "parcel", "money", "card", "mat", "program", "fox"]
    chance = random.Random(0)
    rows = [
        {"anchor": f"{chance.choice(['where is my', 'send the'])} {thing}", "positive": f"the {thing} has arrived"}
        for _ in range(30)
        for thing in things
    ]
    trained = (
        SentenceSimilarity()
        .on(bert_folder)
        .fit(rows, rows[:8], output=tmp_path / "model", learning_rate=3e-3, epochs=5, batch_size=32, precision="fp32")
    )
    assert trained.metrics["accuracy"] == 1.0


def test_the_card_describes_the_training(trained):
    card = (trained / "README.md").read_text()
    assert "from sentence_transformers import SentenceTransformer" in card
    assert "a score of 0.5 is a cosine of 0, and a score of 4.5 a cosine of 1" in card
    assert json.loads((trained / "config.json").read_text())["architectures"][0] in ("BertModel", "GPT2Model")


@pytest.mark.realdata
def test_minilm_is_good_at_sts_b(minilm, data_folder):
    figures = load(minilm).evaluate(data_folder / "stsb/test.csv").metrics
    assert figures["spearman"] > 0.8
