"""Named entities: data in all formats, training and prediction with both models, offsets in any text."""

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from headway.core.errors import HeadwayError
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.core.training.training_config import TrainConfig
from headway.tasks.base.example_warnings import collect_warnings
from headway.tasks.base.model import TaskModel
from headway.tasks.data.features import group_windows, pack
from headway.tasks.data.findings import warnings_as_findings
from headway.tasks.data.read import read_table, stream_rows
from headway.tasks.data.windows import best_window
from headway.tasks.tagging.predictions import EntitiesPrediction, TaggedExample
from headway.tasks.tagging.tag_schemes import WordSpan, all_tags, spans_to_tags, tags_to_spans
from headway.tasks.tagging.tagging import TokenClassification
from hypothesis import given, settings
from hypothesis import strategies as st

SAMPLE = Path(str(files("headway.tasks.samples"))) / "entities.conll"
TAGGED = """Ada/B-PER Lovelace/I-PER lived/O in/O London/B-LOC
the/O cat/O sat/O on/O the/O mat/O
London/B-LOC and/O New/B-LOC York/I-LOC ./O
Please/O send/O the/O money/O to/O Ada/B-PER
Fox/B-PER Lovelace/I-PER has/O not/O arrived/O
where/O is/O London/B-LOC today/O
New/B-LOC York/I-LOC wrote/O the/O program/O
my/O dog/O and/O the/O cat/O"""
ROWS = [
    {
        "tokens": [pair.split("/")[0] for pair in line.split()],
        "ner_tags": [pair.split("/")[1] for pair in line.split()],
    }
    for line in TAGGED.splitlines()
]
LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
CONFIG = TrainConfig(
    max_steps=60,
    batch_size=8,
    learning_rate=5e-3,
    schedule="constant",
    precision="fp32",
    device="cpu",
    save_steps=1000,
)
KNOWN = {TokenClassification.name: TokenClassification}
ODD = [
    "",
    " \t\n",
    "🙂👩\u200d👩\u200d👧 🏳️\u200d🌈",
    "a\0b\0",
    "שלום עולם مرحبا",
    "[CLS] [SEP] <|endoftext|>",
    "\ud83d",
    "\u200b\ufeff\u0301",
]


def load(folder: Path) -> TaskModel:
    return TaskModel.load(folder, KNOWN)


def read(data: Any, task: TokenClassification | None = None, **chosen: Any) -> Any:
    """The task inferred from the data, its notes, and the examples."""
    table = read_table(data)
    task = task or TokenClassification()
    columns = task.columns(table, chosen, need_label=True)
    inferred, notes = task.infer_labels(table, columns)
    return inferred, [*columns.notes, *notes], inferred.examples(table, columns)


def unlabelled(texts: Sequence[Any], task: TokenClassification) -> list[TaggedExample]:
    table = read_table([{"text": text} for text in texts])
    return task.examples(table, task.columns(table, {}, need_label=False), labelled=False)


def warnings_of(
    task: TokenClassification, examples: list[Any], tokenizer: Tokenizer | None = None, limit: int = 48
) -> str:
    windows_by_example = group_windows(task.encode(examples, tokenizer, limit)) if tokenizer else []
    return "\n".join(
        one.message
        for one in warnings_as_findings(collect_warnings(task, examples, windows_by_example), len(examples))
    )


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


class Fitted:
    """A model trained on the eight sentences."""

    def __init__(self, folder: Path, output: Path) -> None:
        self.output = output
        self.model = TokenClassification().on(folder)
        self.trained = self.model.fit(ROWS, output=output, eval_fraction=0, config=CONFIG)


@pytest.fixture(scope="module")
def fitted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return Fitted(tiny_model, tmp_path_factory.mktemp("fitted") / "model")


@pytest.fixture(scope="module", params=["wordpiece_folder", "byte_level_folder"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer.load(request.getfixturevalue(request.param))


# The model


def test_a_model_can_overfit_eight_sentences_and_its_first_metric_is_f1(fitted: Fitted):
    evaluation = fitted.model.evaluate(ROWS)
    assert list(evaluation.metrics)[:3] == ["f1", "precision", "recall"]
    assert evaluation.metrics["f1"] > 0.97
    assert evaluation.metrics["accuracy"] > 0.97
    assert [row["label"] for row in evaluation.per_label] == ["LOC", "PER"]
    assert [row["entities"] for row in evaluation.per_label] == [5, 3]


def test_the_predicted_entities_are_at_their_offsets_in_the_text(fitted: Fitted):
    text = "  Ada Lovelace, lived in  London"
    prediction = fitted.model.predict(text)
    assert prediction.words == ("Ada", "Lovelace", ",", "lived", "in", "London")
    assert len(prediction.tags) == len(prediction.probabilities) == 6
    assert prediction.entities
    for entity in prediction.entities:
        assert text[entity.start : entity.end] == entity.text
        assert entity.label in ("LOC", "PER")
        assert 0 < entity.score <= 1
    assert json.loads(json.dumps(prediction.to_json()))["entities"][0]["text"] == prediction.entities[0].text


def test_a_list_of_words_can_be_given_instead_of_a_text(fitted: Fitted):
    words = ROWS[0]["tokens"]
    one = fitted.model.predict([words])[0]
    assert one.words == tuple(words)
    assert list(one.tags) == ROWS[0]["ner_tags"]
    assert one == fitted.model.predict({"text": words}) == fitted.model.predict(" ".join(words))
    assert [(e.text, e.start, e.end) for e in one.entities] == [("Ada Lovelace", 0, 12), ("London", 22, 28)]
    with pytest.raises(HeadwayError, match="a list of its words"):
        fitted.model.predict([[1, 2]])


def test_the_score_of_an_entity_is_the_mean_of_its_words_probabilities(fitted: Fitted):
    prediction = fitted.model.predict([ROWS[0]["tokens"]])[0]
    assert prediction.entities[0].score == pytest.approx(sum(prediction.probabilities[:2]) / 2)
    assert prediction.entities[1].score == pytest.approx(prediction.probabilities[4])


def test_a_saved_model_makes_the_same_predictions(fitted: Fitted):
    opened = load(fitted.output)
    texts = [" ".join(row["tokens"]) for row in ROWS]
    assert opened.task == fitted.model.task
    assert opened.predict(texts) == fitted.model.predict(texts)


def test_a_batch_gives_the_same_predictions_as_single_texts(fitted: Fitted):
    texts = [*(" ".join(row["tokens"]) for row in ROWS), *ODD, "the cat " * 200]
    together = fitted.model.predict(texts)
    for text, prediction in zip(texts, together, strict=True):
        alone = fitted.model.predict([text])[0]
        assert alone.tags == prediction.tags
        assert alone.probabilities == pytest.approx(prediction.probabilities, abs=1e-4)


def test_unusual_texts_are_predicted_without_errors(fitted: Fitted):
    for prediction in fitted.model.predict(ODD):
        json.dumps(prediction.to_json(), allow_nan=False)
    assert fitted.model.predict("").entities == ()
    assert fitted.model.predict([[]])[0].words == ()


def test_plain_transformers_opens_the_folder_with_equal_logits(fitted: Fitted):
    config = json.loads((fitted.output / "config.json").read_text())
    theirs = getattr(transformers, config["architectures"][0]).from_pretrained(fitted.output).eval()
    assert config["architectures"][0].endswith("ForTokenClassification")
    assert tuple(theirs.config.id2label[i] for i in range(len(LABELS))) == LABELS
    for features in fitted.model.task.encode(
        unlabelled(["Ada lived in London"], fitted.model.task), fitted.model.tokenizer, 48
    ):
        batch = pack([features])
        with torch.no_grad():
            expected = theirs(input_ids=batch.input_ids[None]).logits[0]
            torch.testing.assert_close(fitted.model.network(batch), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_published_checkpoint_predicts_with_its_own_labels(kind, bert_folder, gpt2_folder, tmp_path):
    """A checkpoint saved by transformers predicts at the first token of each word what transformers predicts."""
    torch.manual_seed(3)
    folder = {"bert": bert_folder, "gpt2": gpt2_folder}[kind]
    names = ["O", "B-MISC", "I-MISC", "B-PER", "I-PER"]
    config = transformers.AutoConfig.from_pretrained(
        folder, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}
    )
    theirs = transformers.AutoModelForTokenClassification.from_config(config).eval()
    theirs.save_pretrained(tmp_path / "published")
    Tokenizer.load(folder).save(tmp_path / "published")
    model = load(tmp_path / "published")
    assert model.task.labels == tuple(names)
    assert model.task.scheme == "IOB2"
    prediction = model.predict("Ada Lovelace's program")
    assert prediction.words == ("Ada", "Lovelace", "'", "s", "program")
    encoding = model.tokenizer.encode_words(prediction.words)
    ids, _ = model.tokenizer.join(encoding.ids)
    with torch.no_grad():
        logits = theirs(input_ids=torch.tensor([ids])).logits[0][1 if kind == "bert" else 0 :]
    first = [encoding.word_ids.index(word) for word in range(5)]
    assert prediction.tags == tuple(names[int(logits[position].argmax())] for position in first)
    assert [(e.label, e.start) for e in prediction.entities] == [
        (span.label, (0, 4, 12, 13, 15)[span.start]) for span in tags_to_spans(prediction.tags)
    ]


def test_a_head_that_has_the_entity_types_is_trained_further(fitted: Fitted, tmp_path: Path):
    part = [row for row in ROWS if not any("PER" in tag for tag in row["ner_tags"])]
    model = TokenClassification().on(fitted.output)
    events = list(model.train(part, output=tmp_path / "more", eval_fraction=0, config=CONFIG, max_steps=1))
    assert any("trained further" in note for note in events[0].notes)
    assert model.task.labels == LABELS
    other = [{"tokens": ["Breeze"], "ner_tags": ["B-SHIP"]}, *part]
    events = list(model.train(other, output=tmp_path / "other", eval_fraction=0, config=CONFIG, max_steps=1))
    assert any("new named entities head" in note for note in events[0].notes)


# The loss, and the window that decides about each word


def test_the_loss_is_the_sum_over_the_first_tokens_of_words(tokenizer: Tokenizer):
    task, _, examples = read(ROWS)
    features = task.encode(examples, tokenizer, 48)
    torch.manual_seed(0)
    outputs = torch.randn(sum(len(one.input_ids) for one in features), len(LABELS), requires_grad=True)
    loss, count = task.loss(outputs, task.targets(features))
    expected, words, start = 0.0, 0, 0
    special = 1 if tokenizer.kind == "wordpiece" else 0
    for row, one in zip(ROWS, features, strict=True):
        pieces = tokenizer.encode_words(row["tokens"]).word_ids
        for word, tag in enumerate(row["ner_tags"]):
            logits = outputs.detach()[start + special + pieces.index(word)]
            expected += float(-logits.log_softmax(-1)[LABELS.index(tag)])
            words += 1
        start += len(one.input_ids)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert count == words
    loss.backward()
    assert int((outputs.grad.abs().sum(1) > 0).sum()) == words


def test_a_batch_without_any_word_has_no_loss(tokenizer: Tokenizer):
    task = TokenClassification(labels=LABELS)
    example = TaggedExample(0, "row 1", "\u200b", ("\u200b",) if tokenizer.kind == "wordpiece" else (), (0,), ())
    features = task.encode([example], tokenizer, 48)
    loss, count = task.loss(torch.randn(len(features[0].input_ids), 5, requires_grad=True), task.targets(features))
    assert (loss.item(), count) == (0.0, 0)


@pytest.mark.parametrize("overlap", [None, 0, 3, 15])
def test_each_word_is_read_in_the_window_in_which_it_has_the_most_context(tokenizer: Tokenizer, overlap):
    words = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
    row = {"tokens": words, "ner_tags": ["B-A", *["O"] * (len(words) - 1)]}
    task, _, examples = read([row], TokenClassification(overlap=overlap))
    windows = task.encode(examples, tokenizer, 32)
    pieces = tokenizer.encode_words(words)
    assert len(windows) > 3
    assert all(len(one.input_ids) <= 32 for one in windows)
    assert sorted(word for one in windows for word in one.metadata.words) == list(range(len(words)))
    assert sum(len(one.target) for one in windows) == len(words)
    special = tokenizer.num_special(pair=False) // 2
    content = [one.input_ids[special : len(one.input_ids) - special] for one in windows]
    starts, at = [], 0
    for ids in content:  # each window continues where its tokens are found
        at = next(i for i in range(at, len(pieces.ids)) if pieces.ids[i : i + len(ids)] == ids)
        starts.append(at)
    parts = [range(start, start + len(ids)) for start, ids in zip(starts, content, strict=True)]
    for i, one in enumerate(windows):
        for word, position in zip(one.metadata.words, one.metadata.positions, strict=True):
            first = pieces.word_ids.index(word)
            assert parts[i].start + position - special == first
            assert best_window(parts, first) == i
    outputs = [torch.randn(len(one.input_ids), 3) for one in windows]
    prediction = task.decode(outputs, windows)[0]
    for output, one in zip(outputs, windows, strict=True):
        for word, position in zip(one.metadata.words, one.metadata.positions, strict=True):
            assert prediction.tags[word] == task.labels[int(output[position].argmax())]


def test_a_truncated_entity_counts_as_missed_and_is_reported(fitted: Fitted):
    long = {
        "tokens": [*ROWS[0]["tokens"], *["the"] * 60, "London"],
        "ner_tags": [*ROWS[0]["ner_tags"], *["O"] * 60, "B-LOC"],
    }
    model = load(fitted.output)
    model.task = replace(model.task, long_texts="cut")
    evaluation = model.evaluate([long, *ROWS])
    assert evaluation.metrics["recall"] == pytest.approx(10 / 11, abs=0.02)
    assert evaluation.predictions[0].tags[-1] == "O"
    assert evaluation.predictions[0].probabilities[-1] == 0.0
    assert any('an entity is truncated and counts as missed ("London" (LOC))' in note for note in evaluation.notes)
    windowed = load(fitted.output).evaluate([long, *ROWS])
    assert len(windowed.predictions[0].tags) == 66
    assert not any("missed" in note for note in windowed.notes)


def test_a_word_without_tokens_is_outside_and_reported(wordpiece_folder: Path):
    tokenizer = Tokenizer.load(wordpiece_folder)
    rows = [{"tokens": ["Ada", "\N{COMBINING ACUTE ACCENT}", "\u200b", "cat"], "ner_tags": ["B-PER", "O", "O", "O"]}]
    task, _, examples = read(rows)
    features = task.encode(examples, tokenizer, 48)
    assert features[0].metadata.words == [0, 3]
    prediction = task.decode([torch.tensor([[0.0, 1.0, 0.0]] * len(features[0].input_ids))], features)[0]
    assert prediction.tags == ("B-PER", "O", "O", "B-PER")
    assert prediction.probabilities[1:3] == (0.0, 0.0)
    assert "2 times in 1 of 1 example: a word has no token in this vocabulary" in warnings_of(
        task, examples, tokenizer
    )


def test_viterbi_decoding_predicts_only_valid_sequences(tokenizer: Tokenizer):
    torch.manual_seed(0)
    for scheme in ("IOB2", "BIOES"):
        greedy = TokenClassification(labels=("O", *all_tags(["A", "B"], scheme)), scheme=scheme, units="words")
        legal = replace(greedy, viterbi=True)
        features = greedy.encode(unlabelled(["a cat \u0301 sat on the mat"] * 20, greedy), tokenizer, 48)
        outputs = [torch.randn(len(one.input_ids), len(greedy.labels)) for one in features]
        changed = 0
        for free, bound in zip(greedy.decode(outputs, features), legal.decode(outputs, features), strict=True):
            assert list(bound.tags) == spans_to_tags(tags_to_spans(bound.tags), len(bound.tags), scheme)
            was_legal = list(free.tags) == spans_to_tags(tags_to_spans(free.tags), len(free.tags), scheme)
            assert (free == bound) if was_legal else (free != bound)
            changed += not was_legal
        assert changed > 5


def test_viterbi_decoding_can_be_switched_on_for_a_trained_model(fitted: Fitted):
    greedy, legal = load(fitted.output), load(fitted.output)
    legal.set_options(viterbi=True)
    torch.manual_seed(0)
    with torch.no_grad():
        for model in (greedy, legal):
            model.network.head.classifier.weight.zero_()
            model.network.head.classifier.bias.zero_()[model.task.labels.index("I-PER")] = 1.0
    assert greedy.predict("Ada sat").tags == ("I-PER", "I-PER")
    assert legal.predict("Ada sat").tags == ("B-PER", "I-PER")
    legal.set_options(viterbi=False)
    assert legal.predict("Ada sat").tags == ("I-PER", "I-PER")
    assert not load(fitted.output).task.viterbi
    with pytest.raises(HeadwayError, match=r"--labels cannot be set on a trained model for token-classification"):
        legal.set_options(labels=("O",))


PIECES = [
    *(
        "Ada",
        "Ü",
        "e\u0301tude",
        "don't",
        "U.S.",
        "@name",
        " ",
        "  ",
        "\n",
        "\u00a0",
        "\u200b",
        "\x07",
        "北京",
        "トヨタ",
    ),
    *(
        "กรุงเทพ",
        "नमस्ते",
        "שלום",
        "\u200fمرحبا",
        "👩\u200d👩\u200d👧",
        "🇫🇷",
        "👍🏽",
        "❤\ufe0f",
        "\u0301",
        "𝒳",
        ".",
        "[SEP]",
    ),
]


@settings(max_examples=400, deadline=None)
@given(
    texts=st.lists(
        st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=20), min_size=4, max_size=6
    ),
    units=st.sampled_from(["words", "spaces", "characters"]),
    seed=st.integers(0, 9),
)
def test_entities_are_at_their_offsets_in_any_text(tokenizer: Tokenizer, texts, units, seed):
    task = TokenClassification(labels=LABELS, units=units)
    examples = unlabelled(texts, task)
    windows = task.encode(examples, tokenizer, 12)
    generator = torch.Generator().manual_seed(seed)
    outputs = [torch.randn(len(one.input_ids), 5, generator=generator) for one in windows]
    for text, example, prediction in zip(texts, examples, task.decode(outputs, windows), strict=True):
        assert len(prediction.tags) == len(prediction.words) == len(example.words)
        for entity in prediction.entities:
            assert text[entity.start : entity.end] == entity.text
            assert entity.text.strip() == entity.text != ""
        assert len(prediction.entities) == len(tags_to_spans(prediction.tags))


@settings(max_examples=300, deadline=None)
@given(words=st.lists(st.sampled_from(PIECES), max_size=8), seed=st.integers(0, 9))
def test_entities_are_at_their_offsets_among_given_words(tokenizer: Tokenizer, words, seed):
    task = TokenClassification(labels=LABELS)
    windows = task.encode(unlabelled([words], task), tokenizer, 48)
    generator = torch.Generator().manual_seed(seed)
    prediction = task.decode([torch.randn(len(one.input_ids), 5, generator=generator) for one in windows], windows)[0]
    text, starts = task.segmenter.join(words)
    assert list(prediction.words) == words
    for entity, span in zip(prediction.entities, tags_to_spans(prediction.tags), strict=True):
        assert text[entity.start : entity.end] == entity.text
        assert entity.start == starts[span.start]


# Data formats


def test_a_conll_file_with_any_number_of_columns_is_read(tmp_path: Path):
    four = write(
        tmp_path / "four.conll",
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\nGerman JJ B-NP B-MISC\n\nBo NNP B-NP B-PER\n",
    )
    task, notes, examples = read(four)
    assert task.labels == ("O", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER")
    assert examples[0].text == "EU rejects German"
    assert examples[0].spans == (WordSpan(0, 1, "ORG"), WordSpan(2, 3, "MISC"))
    assert examples[0].gold == ("ORG: EU", "MISC: German")
    assert examples[1].where.endswith("line 7")
    assert any(note.startswith("IOB2 tags, 3 entities") for note in notes)
    by_phrase, _, _ = read(four, label="column_2")
    assert by_phrase.types == ("NP", "VP")


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES", "BILOU", "BMES", "IO"])
def test_every_scheme_is_detected_and_gives_the_same_entities(scheme):
    _, _, expected = read(SAMPLE)
    rows = [
        {"tokens": list(one.words), "ner_tags": spans_to_tags(one.spans, len(one.words), scheme)} for one in expected
    ]
    if scheme == "IOB1":  # only adjacent entities of one type distinguish it from IOB2
        rows.append({"tokens": ["Ada", "Bo"], "ner_tags": ["I-PER", "B-PER"]})
    task, notes, examples = read(rows)
    assert any(note.startswith(f"{scheme} tags") for note in notes)
    assert task.scheme == scheme
    assert set(task.labels) == {"O", *all_tags(["LOC", "ORG", "PER", "PRODUCT"], scheme)}
    assert [one.spans for one in examples[: len(expected)]] == [one.spans for one in expected]


def test_evaluation_data_may_be_in_another_scheme(fitted: Fitted):
    rows = [
        {
            "tokens": row["tokens"],
            "ner_tags": spans_to_tags(tags_to_spans(row["ner_tags"]), len(row["tokens"]), "BIOES"),
        }
        for row in ROWS
    ]
    assert fitted.model.evaluate(rows).metrics == fitted.model.evaluate(ROWS).metrics


def test_character_spans_of_every_tool_are_read(tmp_path: Path):
    text = "Ada Lovelace lived in London 🙂."
    doccano = [{"id": 1, "text": text, "label": [[0, 12, "PER"], [22, 28, "LOC"]]}]
    prodigy = [
        {
            "text": text,
            "tokens": [{"text": "Ada", "start": 0, "end": 3, "id": 0}],
            "spans": [{"start": 0, "end": 12, "label": "PER"}, {"start": 22, "end": 28, "label": "LOC"}],
            "answer": "accept",
        }
    ]
    regions = [
        {"value": {"start": a, "end": b, "text": text[a:b], "labels": [kind]}, "type": "labels"}
        for a, b, kind in [(0, 12, "PER"), (22, 28, "LOC")]
    ]
    studio = write(
        tmp_path / "studio.json",
        json.dumps([{"id": 1, "data": {"text": text}, "annotations": [{"result": regions}]}]),
    )
    for data in (doccano, prodigy, studio):
        task, notes, examples = read(data)
        assert task.labels == LABELS
        assert examples[0].gold == ("PER: Ada Lovelace", "LOC: London")
        assert any(note.startswith("character spans, 2 entities") for note in notes)


def test_spans_that_do_not_fit_the_words_are_reported(wordpiece_folder: Path):
    rows = [
        {"text": "Lovelaces in New York City", "spans": [[0, 8, "PER"], [13, 26, "LOC"], [17, 21, "LOC"]]},
        *[{"text": "Ada sat in London", "spans": [[0, 3, "PER"], [11, 17, "LOC"]]}] * 9,
    ]
    task, _, examples = read(rows)
    assert examples[0].gold == ("PER: Lovelaces", "LOC: New York City")
    messages = warnings_of(task, examples)
    assert "1 of 10 examples: a character span ends inside a word and is widened" in messages
    assert '"Lovelace" (PER) to "Lovelaces"' in messages
    assert '"York" (LOC) overlaps "New York City" (LOC)' in messages
    assert "row 1" in messages


def test_texts_without_spaces_are_divided_into_characters_if_the_spans_need_it():
    text = "トヨタは東京にある"
    task, notes, examples = read([{"text": text, "label": [[0, 3, "ORG"], [4, 6, "LOC"]]}])
    assert task.units == "characters"
    assert notes[-1] == "raw text is divided into characters"
    assert examples[0].gold == ("ORG: トヨタ", "LOC: 東京")
    assert not examples[0].widened
    assert read([{"text": text, "label": [[0, 3, "ORG"]]}], TokenClassification(units="words"))[0].units == "words"


def test_a_model_trained_on_characters_as_words_divides_raw_text_into_characters():
    rows = [{"tokens": list("我爱北京ABC"), "ner_tags": ["O", "O", "B-LOC", "I-LOC", "O", "O", "O"]}] * 3
    task, _, examples = read(rows)
    assert task.units == "characters"
    assert examples[0].text == "我爱北京ABC"
    assert examples[0].gold == ("LOC: 北京",)
    assert unlabelled(["去 北京!"], task)[0].words == ("去", "北", "京", "!")


def test_the_digits_in_weibos_words_are_reported_and_removed_on_request(tmp_path: Path):
    file = write(
        tmp_path / "weibo.conll", "科0\tO\n李0\tB-PER.NAM\n明1\tI-PER.NAM\n\n好0\tO\n北0\tB-GPE.NAM\n京1\tI-GPE.NAM\n"
    )
    task, notes, examples = read(file)
    assert any("--strip-digits removes them" in note for note in notes)
    assert examples[0].words == ("科0", "李0", "明1")
    assert task.units == "characters"
    task, notes, examples = read(file, TokenClassification(strip_digits=True))
    assert not any("strip-digits" in note for note in notes)
    assert examples[0].text == "科李明"
    assert examples[0].gold == ("PER.NAM: 李明",)
    assert unlabelled([["李0", "5"]], task)[0].words == ("李", "5")


def test_tags_in_one_table_cell_belong_to_words_separated_by_spaces(tmp_path: Path):
    file = write(
        tmp_path / "table.csv", 'sentence,word_labels\n"Ada, lived in London","B-PER O O B-LOC"\n"a cat","O,O"\n'
    )
    _, _, examples = read(file)
    assert examples[0].words == ("Ada,", "lived", "in", "London")
    assert examples[0].gold == ("PER: Ada,", "LOC: London")


def test_tags_may_be_numbers_of_given_label_names():
    rows = [{"tokens": ["Ada", "sat"], "ner_tags": [3, 0]}]
    names = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    task, _, examples = read(rows, TokenClassification(labels=names))
    assert task.labels == names
    assert examples[0].gold == ("PER: Ada",)
    with pytest.raises(HeadwayError, match=r"row 1: the tags are numbers \(3\).*--label-names"):
        read(rows)
    with pytest.raises(HeadwayError, match="the tag 9 is not the number of a label"):
        read([*rows, {"tokens": ["Bo"], "ner_tags": [9]}], TokenClassification(labels=names))


@pytest.mark.parametrize(
    ("names", "tags"), [((), ["B-PER", "-100", "O", -100, "B-LOC"]), (LABELS, [3, -100, 0, -100, 1])]
)
def test_training_and_metrics_skip_a_word_whose_tag_is_minus_100(names, tags, wordpiece_folder: Path):
    row = {"tokens": ["Ada", "Ada", "sat", "in", "London"], "ner_tags": tags}
    task, notes, examples = read([row], TokenClassification(labels=names))
    assert (task.labels, task.scheme) == (LABELS, "IOB2")
    assert not any("not follow" in note for note in notes)
    assert examples[0].gold == ("PER: Ada", "LOC: London")
    assert "2 times in 1 of 1 example: a word has no tag" in warnings_of(task, examples)
    tokenizer = Tokenizer.load(wordpiece_folder)
    (features,) = task.encode(examples, tokenizer, 48)
    assert features.target == [3, -100, 0, -100, 1]
    assert task.loss(torch.randn(len(features.input_ids), 5), task.targets([features]))[1] == 3
    right, other = (
        EntitiesPrediction((), examples[0].words, ("B-PER", at_ignored, "O", at_ignored, last), (1.0,) * 5)
        for at_ignored, last in (("B-LOC", "B-LOC"), ("O", "O"))
    )
    scores = task.score([right], examples)
    assert (scores["f1"], scores["accuracy"], task.misprediction(right, examples[0])) == (1.0, 1.0, None)
    assert task.score([other], examples)["accuracy"] == pytest.approx(2 / 3)
    assert task.confused([right], examples) == [("PER", "PER"), ("LOC", "LOC")]
    missed = task.misprediction(other, examples[0])
    assert missed is not None
    assert (missed.error, missed.predicted) == (1.0, "PER: Ada")


def test_an_entity_may_contain_a_word_whose_tag_is_minus_100(wordpiece_folder: Path):
    row = {"tokens": ["New", "##York", "City", "Ada"], "ner_tags": ["B-LOC", "-100", "I-LOC", "B-PER"]}
    task, _, examples = read([row, {"tokens": ["sat"], "ner_tags": ["O"]}])
    assert examples[0].gold == ("LOC: New ##York City", "PER: Ada")
    features = task.encode(examples, Tokenizer.load(wordpiece_folder), 48)
    wanted = [task.labels.index(tag) for tag in ("B-LOC", "I-LOC", "B-PER")]
    assert features[0].target == [wanted[0], -100, *wanted[1:]]
    for tag in ("O", "I-LOC", "B-PER"):
        tags = ("B-LOC", tag, "I-LOC", "B-PER")
        found = EntitiesPrediction((), examples[0].words, tags, (1.0,) * 4)
        nothing = EntitiesPrediction((), ("sat",), ("O",), (1.0,))
        scores = task.score([found, nothing], examples)
        assert (scores["f1"], scores["accuracy"]) == (1.0, 1.0)


def test_the_tags_of_a_hub_data_set_are_read_by_name():
    import datasets

    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "text": datasets.Value("string"),
            "pos_tags": datasets.List(datasets.ClassLabel(names=["NN", "VB"])),
            "ner_tags": datasets.List(datasets.ClassLabel(names=list(LABELS))),
        }
    )
    data = datasets.Dataset.from_dict(
        {"tokens": [["Ada", "sat", "in"]], "text": ["Ada sat"], "pos_tags": [[0, 1, 1]], "ner_tags": [[3, 0, -100]]},
        features=features,
    )
    task, _, examples = read(data)
    assert examples[0].words == ("Ada", "sat", "in")
    assert examples[0].gold == ("PER: Ada",)
    assert examples[0].ignored == (2,)
    assert task.types == ("PER",)


def test_each_run_of_equal_labels_without_prefix_is_one_entity():
    rows = [{"tokens": ["Ada", "Lovelace", "sat"], "ner_tags": ["PER", "PER", "O"]}]
    task, notes, examples = read(rows)
    assert task.labels == ("O", "PER")
    assert task.scheme == "IO"
    assert any(note.startswith("IO tags") for note in notes)
    assert examples[0].gold == ("PER: Ada Lovelace",)
    words = [{"tokens": ["cats", "sit"], "pos_tags": ["NOUN", "VERB"]}]
    assert read(words, label="pos_tags")[0].labels == ("NOUN", "VERB")


def test_tags_that_do_not_follow_the_scheme_are_reported_and_read_as_in_conlleval():
    rows = [*ROWS, {"tokens": ["Ada", "sat"], "ner_tags": ["I-PER", "O"]}]
    _, notes, examples = read(rows)
    assert any(note.startswith("1 row does not follow the rules of IOB2") and "row 9" in note for note in notes)
    assert examples[-1].gold == ("PER: Ada",)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"tokens": ["a", "b"], "ner_tags": ["O"]}, "there are 2 words but 1 tags"),
        ({"tokens": ["a"], "ner_tags": ["B"]}, "names no entity type"),
        ({"tokens": ["a"], "ner_tags": ["X-PER"]}, 'begins with "X-"'),
        ({"tokens": ["a"], "ner_tags": ["PER"]}, "has no prefix"),
        ({"tokens": ["a"], "ner_tags": [None]}, "is empty"),
        ({"tokens": ["a", ""], "ner_tags": ["O", "O"]}, "word 2 of 2 is empty"),
        ({"tokens": [], "ner_tags": []}, "there is no word"),
        ({"tokens": ["a"], "ner_tags": None}, "has no tags"),
        ({"tokens": ["a"], "ner_tags": [[0, 1, "PER"]]}, "has no tags"),
        ({"tokens": None, "ner_tags": ["O"]}, "is empty"),
        ({"tokens": [["a"]], "ner_tags": ["O"]}, "a list of lists"),
        ({"tokens": {"a": 1}, "ner_tags": ["O"]}, "contains an object"),
    ],
)
def test_an_unusable_row_is_named_with_the_reason(row, says):
    with pytest.raises(HeadwayError, match=rf"the given rows, row 9: .*({says})"):
        read([*ROWS, row])


def test_lines_of_a_file_are_named_in_messages(tmp_path: Path):
    file = write(tmp_path / "bad.conll", "Ada\tB-PER\nsat\tO\n\nBo\tB\nsat\tO\n")
    with pytest.raises(HeadwayError, match="row 2: it is not annotated"):
        read([{"text": "Ada sat", "spans": [[0, 3, "PER"]]}, {"text": "Ada", "spans": None}])
    with pytest.raises(HeadwayError, match=r'bad\.conll, line 4: the tag "B" names no entity type. Write B-TYPE'):
        read(file)


def test_data_without_entities_is_refused():
    with pytest.raises(HeadwayError, match=r'column "ner_tags" has no entity.*--label'):
        read([{"tokens": ["a", "cat"], "ner_tags": ["O", "O"]}])
    with pytest.raises(HeadwayError, match="names no entity type"):
        read([{"tokens": ["a", "cat"], "ner_tags": ["B", "I"]}])


def test_rows_of_single_words_and_columns_without_tags_are_refused():
    with pytest.raises(HeadwayError, match="every row is a single word"):
        read([{"word": "Ada", "tag": "B-PER"}] * 300)
    row = {"tokens": [f"word{i}" for i in range(300)], "tags": [f"lemma{i}" for i in range(300)]}
    with pytest.raises(HeadwayError, match="300 different values for 300 words"):
        read([row])
    with pytest.raises(HeadwayError, match="names do not include O"):
        read(ROWS, TokenClassification(labels=("B-PER", "I-PER", "B-LOC", "I-LOC")))
    with pytest.raises(HeadwayError, match="tags are in one column"):
        read([{"text": "a", "x": 1, "y": 0}], label=["x", "y"])
    with pytest.raises(HeadwayError, match="units='letters'"):
        TokenClassification(units="letters")


def test_an_entity_type_that_the_model_does_not_have_is_named(fitted: Fitted):
    strange = [ROWS[0], {"tokens": ["Breeze"], "ner_tags": ["B-SHIP"]}]
    with pytest.raises(
        HeadwayError, match=r"row 2: the entity type 'SHIP' is not one of the 2 known types \(LOC, PER\)"
    ):
        fitted.model.evaluate(strange, unknown_labels="error")


def test_a_column_of_tags_is_not_needed_for_predictions(tmp_path: Path, fitted: Fitted):
    file = write(tmp_path / "words.conll", "Ada\nsat\n\nLondon\n")
    rows = list(fitted.model.predict_rows(stream_rows(file)))
    assert [prediction.words for _, prediction in rows] == [("Ada", "sat"), ("London",)]
    rows = list(fitted.model.predict_rows(stream_rows([{"text": "Ada sat", "spans": None}])))
    assert rows[0][1].words == ("Ada", "sat")


def test_all_sample_data_is_read():
    task, notes, examples = read(SAMPLE)
    assert len(examples) == 359
    assert sum(len(one.spans) for one in examples) == 129 + 119 + 169 + 93
    assert any(note.startswith("IOB2 tags") for note in notes)
    assert warnings_of(task, examples) == ""
    assert examples[0].stratum == "LOC"


def test_reset_keeps_options_and_removes_what_was_inferred():
    task = TokenClassification(max_length=32, viterbi=True, strip_digits=True)
    inferred = read(ROWS, task)[0]
    assert inferred.reset() == task
    assert TokenClassification.from_json(json.loads(json.dumps(inferred.to_json()))) == inferred


def test_the_card_names_the_entity_types(fitted: Fitted):
    card = (fitted.output / "README.md").read_text()
    assert "entities of 2 types" in card
    assert "`PER`" in card
    assert "pipeline_tag: token-classification" in card
