"""The contract of a task: tests that every task passes on every model it can be trained on."""

import copy
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from headway.core.training.training_config import TrainConfig
from headway.tasks import (
    TASKS,
    FillMask,
    MultipleChoice,
    NextSentencePrediction,
    QuestionAnswering,
    SentenceSimilarity,
    TaskModel,
    TextClassification,
    TextGeneration,
    TextToText,
    TokenClassification,
    load,
)
from headway.tasks.base.inference import predict_examples
from headway.tasks.base.task import Task
from headway.tasks.data.corpus import Corpus, open_documents
from headway.tasks.data.features import group_windows, pack

# In words of the tiny vocabularies.
TEXTS = [
    "my parcel has not arrived",
    "please send the money back",
    "the parcel has arrived, thank you",
    "where is my money",
    "Ada Lovelace wrote the program",
    "my card, please",
    "the quick brown fox",
    "send my card back to London",
]
PAIRS = [f"{text} today" if i % 2 else "the cat sat on the mat" for i, text in enumerate(TEXTS)]
LABELS = ["post", "money", "post", "money", "other", "money", "other", "money"]

NAMES = {"Ada": "B-PER", "Lovelace": "I-PER", "London": "B-LOC", "parcel": "B-ITEM", "card": "B-ITEM"}
SENTENCES = [text.replace(",", "") for text in TEXTS]
QUESTIONS = [
    ("who sat?", "the cat sat on the mat", "the cat"),
    ("on what?", "the cat sat on the mat", "mat"),
    ("who lived?", "Ada Lovelace lived in London", "Ada Lovelace"),
    ("where?", "Ada Lovelace lived in London", "London"),
    ("what jumps?", "the quick brown fox jumps", "fox"),
    ("which card?", "the quick brown fox jumps", ""),
    ("my what?", "send my card back", "card"),
    ("who wrote?", "send my card back", ""),
]

CHOICES = [
    ("my parcel", ["has arrived", "send it back"], 0),
    ("the quick", ["mat", "cat", "brown fox"], 2),
    ("Ada Lovelace", ["lived in London", "jumps", "my money"], 0),
    ("send the money", ["sat", "back to my card"], 1),
    ("the cat sat", ["on the mat", "has not arrived"], 0),
    ("please send", ["fox", "dog", "the", "my parcel"], 3),
    ("where is", ["thank you", "it"], 1),
    ("who wrote", ["the first program", "my card", "arrived"], 0),
]

SENTENCE_TRANSFORMERS = (
    "modules.json", "1_Pooling", "sentence_bert_config.json", "config_sentence_transformers.json",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A task, eight labelled examples, eight inputs, and the properties in which tasks differ."""

    task: Task
    rows: list[dict[str, Any]]
    inputs: list[Any]
    long: int = 0  # index of the field that may be long
    listed: int | None = None  # index of the field that is a list
    wordless: bool = False  # whether predictions for a text without words have no numbers
    gpt2_end: str = ""  # after the texts for GPT-2
    steps: int = 100  # to overfit eight examples
    learning_rate: float = 5e-3
    worst_loss: float | None = None  # after that, if the first metric is a loss
    reads_all: bool = True  # whether every token of a long text is in a window
    apart: bool = False  # whether each text is a separate sequence
    sums: bool = True  # whether the loss of an example is independent of its batch
    families: tuple[str, ...] = ()  # of encoders that it is tried on; empty: all
    files: tuple[str, ...] = ()  # in its folder, in addition to those of every task


# For each task, and each kind of target.
CASES = {
    "text-classification": Case(
        TextClassification(),
        [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)],
        TEXTS,
    ),
    "text-classification, several labels": Case(
        TextClassification(),
        [{"text": t, "labels": [name for name in ("the", "card", "has") if name in t]} for t in TEXTS],
        TEXTS,
        families=("bert",),
    ),
    "text-classification, pairs": Case(
        TextClassification(),
        [
            {"sentence1": text, "sentence2": pair, "label": "yes" if i % 2 else "no"}
            for i, (text, pair) in enumerate(zip(TEXTS, PAIRS, strict=True))
        ],
        list(zip(TEXTS, PAIRS, strict=True)),
        families=("bert", "roberta"),
    ),
    "text-classification, a number": Case(
        TextClassification(),
        [{"text": text, "label": 100 + len(text) / 4} for text in TEXTS],
        TEXTS,
        families=("bert", "distilbert"),
    ),
    "token-classification": Case(
        TokenClassification(),
        [{"tokens": text.split(), "tags": [NAMES.get(word, "O") for word in text.split()]} for text in SENTENCES],
        SENTENCES,
        wordless=True,
    ),
    "question-answering": Case(
        QuestionAnswering(),
        [{"question": asked, "context": context, "answers": answer} for asked, context, answer in QUESTIONS],
        [(asked, context) for asked, context, _ in QUESTIONS],
        long=1,
        gpt2_end="<|endoftext|>",
        steps=200,
        learning_rate=2e-3,
    ),
    "multiple-choice": Case(
        MultipleChoice(),
        [{"context": context, "choices": choices, "label": label} for context, choices, label in CHOICES],
        [(context, choices) for context, choices, _ in CHOICES],
        listed=1,
    ),
    "sentence-similarity": Case(
        SentenceSimilarity(),
        [
            {"sentence1": text, "sentence2": pair, "score": 3 * i % 8}
            for i, (text, pair) in enumerate(zip(TEXTS, PAIRS, strict=True))
        ],
        list(zip(TEXTS, PAIRS, strict=True)),
        steps=500,
        apart=True,
        families=("bert", "distilbert"),
        files=SENTENCE_TRANSFORMERS,
    ),
    "sentence-similarity, pairs that belong together": Case(
        SentenceSimilarity(),
        [{"anchor": text, "positive": f"{pair}?"} for text, pair in zip(TEXTS, TEXTS[3:] + TEXTS[:3], strict=True)],
        list(zip(TEXTS, PAIRS, strict=True)),
        apart=True,
        sums=False,
        families=("bert",),
        files=SENTENCE_TRANSFORMERS,
    ),
    "next-sentence-prediction": Case(
        NextSentencePrediction(),
        [
            {"sentence1": text, "sentence2": pair, "label": i % 2}
            for i, (text, pair) in enumerate(zip(TEXTS, PAIRS, strict=True))
        ],
        list(zip(TEXTS, PAIRS, strict=True)),
        families=("bert",),
    ),
    "fill-mask": Case(
        FillMask(),
        [{"text": text} for text in TEXTS],
        [text.replace("my", "[MASK]").replace("the", "[MASK]") for text in TEXTS],
        wordless=True,
        steps=270,
        worst_loss=1.5,
    ),
    "fill-mask, with next sentences": Case(
        FillMask(next_sentence=True, whole_words=True),
        [{"text": text} for text in TEXTS],
        [text.replace("my", "[MASK]").replace("the", "[MASK]") for text in TEXTS],
        wordless=True,
        steps=270,
        worst_loss=2.5,
        families=("bert",),
    ),
    "text-generation": Case(
        TextGeneration(max_new_tokens=5),
        [{"text": text} for text in TEXTS],
        TEXTS,
        wordless=True,
        steps=150,
        worst_loss=0.5,
        reads_all=False,
        files=("generation_config.json",),
    ),
    "text-to-text": Case(
        TextToText(max_new_tokens=5),
        [{"input": text, "output": pair} for text, pair in zip(TEXTS, TEXTS[3:] + TEXTS[:3], strict=True)],
        TEXTS,
        wordless=True,
        gpt2_end="\n",
        steps=150,
        worst_loss=0.5,
        reads_all=False,
        files=("generation_config.json",),
    ),
}
FAMILIES = {
    "bert": ["bert", "roberta", "distilbert", "electra"],
    "gpt2": ["gpt2"],
    "encoder-decoder": ["encoder_decoder"],
}
FITTED = [
    (name, kind)
    for name, case in CASES.items()
    for model in case.task.models
    for kind in ((model == "bert" and case.families) or FAMILIES[model])
]
# What differs in these families is tried once: shared layers and their second head, and a Unigram vocabulary.
FITTED += [
    ("token-classification", "xlm_roberta"),
    ("question-answering", "albert"),
    ("fill-mask, with next sentences", "albert"),
]
ON_BERT_AND_GPT2 = [(name, kind) for name, kind in FITTED if kind in ("bert", "gpt2")]
ODD = {
    "nothing": "",
    "spaces": "  \t\n ",
    "emoji": "🙂👩‍👩‍👧‍👦 🏳️‍🌈",
    "ten thousand words": "the parcel " * 5000,
    "NULs": "a\0b\0",
    "right to left": "שלום עולם مرحبا",
    "special tokens": "[CLS] [SEP] [MASK] [PAD] [UNK] <|endoftext|>",
    "half a surrogate pair": "\ud83d",
    "controls": "\x01\x7f\u200b\ufeff",
}
# Eight examples are one step per epoch, and a checkpoint after each would take longer than the steps.
CONFIG = TrainConfig(batch_size=8, precision="fp32", device="cpu", save_steps=1000, weight_decay=0.0)


class Fitted:
    """A task that was trained on its eight examples."""

    def __init__(self, case: str, folder: Path, output: Path) -> None:
        self.case = CASES[case]
        self.task, self.rows, self.inputs = self.case.task, self.case.rows, self.case.inputs
        self.rows_before = copy.deepcopy(self.rows)
        self.folder, self.output = folder, output
        self.model = self.task.on(folder)
        length = {"max_steps": self.case.steps, "learning_rate": self.case.learning_rate}
        options = {"eval_fraction": 0, "config": CONFIG, **length}
        self.trained = self.model.fit(self.rows, output=output, **options)

    def windows_by_example(self, inputs: list[Any]) -> list[Any]:
        names = [field.name for field in self.model.task.fields]
        given = [(one,) if isinstance(one, str) else one for one in inputs]
        rows = [dict(zip(names, one, strict=True)) for one in given]
        return encode(self.model, rows, labelled=False)

    def odd(self) -> list[Any]:
        """Unusual texts in every field."""
        places = len(self.model.task.fields)
        return [text if places == 1 else self.filled(text, at) for text in ODD.values() for at in range(places)]

    def filled(self, text: str, at: int) -> tuple[Any, ...]:
        """An input with a text in one field, and "the cat" in the others."""
        texts = [text if i == at else "the cat" for i in range(len(self.model.task.fields))]
        return tuple([one, "the mat"] if i == self.case.listed else one for i, one in enumerate(texts))


def encode(model: TaskModel, rows: list[dict[str, Any]], *, labelled: bool) -> list[Any]:
    """The features of rows."""
    from headway.tasks.data.read import read_table

    table = read_table(rows)
    columns = model.task.columns(table, {}, need_label=labelled)
    examples = model.task.examples(table, columns, labelled=labelled)
    return group_windows(model.task.encode(examples, model.tokenizer, model.limit))


def training_features(fitted: "Fitted") -> list[Any]:
    """The features of the eight examples in training."""
    model, task = fitted.model, fitted.model.task
    if not task.self_supervised:
        return encode(model, fitted.rows, labelled=True)
    texts = open_documents(fitted.rows, {}, task)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens"
        corpus = Corpus.write(path, texts.read(), task, model.tokenizer, limit=model.limit, held_out=False)
        return [task.corrupt(group, 0) for group in corpus]


@pytest.fixture(scope="module", params=FITTED, ids=[f"{name}-{kind}" for name, kind in FITTED])
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    name, kind = request.param
    return Fitted(name, request.getfixturevalue(f"{kind}_folder"), tmp_path_factory.mktemp("fitted") / "model")


def numbers(prediction: Any) -> list[float]:
    """Every number in a prediction."""
    return list(_numbers(prediction.to_json()))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)
    elif isinstance(value, float):
        yield value


def assert_same(found: list[Any], expected: list[Any], tolerance: float) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert numbers(one) or one == other
        assert numbers(one) == pytest.approx(numbers(other), abs=tolerance, rel=tolerance)


def test_every_task_has_a_case():
    assert {name.partition(",")[0] for name in CASES} == set(TASKS)
    assert all(TASKS[case.task.name] is type(case.task) for case in CASES.values())


def test_the_loss_is_finite_and_gradients_reach_every_parameter(fitted: Fitted):
    features = [features for group in training_features(fitted) for features in group]
    network, task = fitted.model.network, fitted.model.task
    batch = task.pack(features)
    loss, count = task.loss(task.pool(network(batch), batch), task.targets(features))
    assert torch.isfinite(loss)
    assert count > 0
    parameters = {name: one for name, one in network.named_parameters() if one.requires_grad}
    gradients = torch.autograd.grad(loss, [*parameters.values()], allow_unused=True)
    without = [
        name
        for name, gradient in zip(parameters, gradients, strict=True)
        if gradient is None or not gradient.isfinite().all() or not gradient.any()
    ]
    assert without == []


def test_a_loss_is_a_sum_over_examples(fitted: Fitted):
    windows_by_example = training_features(fitted)
    network, task = fitted.model.network, fitted.model.task

    def loss(windows_by_example: list[Any]) -> tuple[float, int]:
        features = [features for windows in windows_by_example for features in windows]
        batch = task.pack(features)
        total, count = task.loss(task.pool(network(batch), batch), task.targets(features))
        return total.item(), count

    together, apart = loss(windows_by_example), [loss([windows]) for windows in windows_by_example]
    if fitted.case.sums:
        assert together[0] == pytest.approx(sum(total for total, _ in apart), abs=1e-4)
    else:
        assert torch.isfinite(torch.tensor(together[0]))
    assert together[1] == sum(count for _, count in apart)


def test_eight_examples_can_be_overfitted(fitted: Fitted):
    evaluation = fitted.model.evaluate(fitted.rows)
    first = next(iter(evaluation.metrics.values()))
    assert first > 0.97 if fitted.case.worst_loss is None else first < fitted.case.worst_loss


def test_every_evaluation_has_a_loss(fitted: Fitted):
    assert 0 <= fitted.model.evaluate(fitted.rows).metrics["loss"] < 10


def test_a_saved_model_makes_the_same_predictions(fitted: Fitted):
    opened = load(fitted.output)
    assert opened.task == fitted.model.task
    assert opened.predict(fitted.inputs) == fitted.model.predict(fitted.inputs)


def test_saving_what_was_loaded_changes_nothing(fitted: Fitted, tmp_path: Path):
    load(fitted.output).save(tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").iterdir()} == {
        path.name for path in fitted.output.iterdir()
    } - {"log.jsonl"}
    for name in ("model.safetensors", "headway.json", "config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (fitted.output / name).read_bytes(), name


def test_a_batch_gives_the_same_predictions_as_single_texts(fitted: Fitted):
    alone = [fitted.model.predict([one])[0] for one in fitted.inputs]
    assert_same(fitted.model.predict(fitted.inputs), alone, 1e-4)
    assert_same(fitted.model.predict(fitted.inputs[::-1])[::-1], alone, 1e-4)


def test_the_same_seed_gives_the_same_model_again(fitted: Fitted, tmp_path: Path):
    options = {"eval_fraction": 0, "config": CONFIG, "max_steps": 3}
    again = copy.copy(fitted.task).on(fitted.folder)
    again.fit(fitted.rows, output=tmp_path / "one", **options)
    torch.manual_seed(77)
    again.fit(fitted.rows, output=tmp_path / "two", **options)  # starts again from the model as it was opened
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()


def test_inputs_are_not_modified(fitted: Fitted):
    assert fitted.rows == fitted.rows_before
    inputs = copy.deepcopy(fitted.inputs)
    windows_by_example = fitted.windows_by_example(inputs)
    before = copy.deepcopy([[(one.input_ids, one.segment_ids) for one in windows] for windows in windows_by_example])
    batch = pack([features for windows in windows_by_example for features in windows])
    ids = batch.input_ids.clone()
    fitted.model.network(batch)
    predict_examples(fitted.model.task, fitted.model.network, windows_by_example)
    assert torch.equal(batch.input_ids, ids)
    assert [[(one.input_ids, one.segment_ids) for one in windows] for windows in windows_by_example] == before
    assert inputs == fitted.inputs


def test_unusual_inputs_have_finite_predictions(fitted: Fitted):
    odd = fitted.odd()
    predictions = fitted.model.predict(odd)
    assert len(predictions) == len(odd)
    assert all(torch.tensor(numbers(one)).isfinite().all() for one in predictions)
    assert fitted.case.wordless or all(numbers(one) for one in predictions)
    json.dumps([one.to_json() for one in predictions], allow_nan=False)
    few = [one for one in odd if len(str(one)) < 1000]
    assert_same([fitted.model.predict([one])[0] for one in few], fitted.model.predict(few), 1e-4)


def test_windows_cover_a_long_text(fitted: Fitted):
    words = [f"{a}{b}" for a in "abcdefghijklmnop" for b in "qrstuvwxyz"]
    long = " ".join(words)
    (windows,) = fitted.windows_by_example([fitted.filled(long, fitted.case.long)])
    if not fitted.case.reads_all:  # the end of the text is continued
        assert len(windows) == 1
        read = fitted.model.tokenizer.decode(windows[0].source_ids or windows[0].input_ids)
        assert read.endswith(long[-9:]) or read.startswith(long[:9])
        return
    assert len(windows) > 1
    assert max(len(one.input_ids) for one in windows) <= fitted.model.limit
    whole = fitted.model.tokenizer.encode(long).ids
    window_ids = [one.input_ids for one in windows]
    for start in range(len(whole) - 2):  # three tokens in a row, which overlapping windows keep together
        assert any(contains(ids, whole[start : start + 3]) for ids in window_ids)


def test_a_prediction_says_how_many_tokens_its_text_has_and_whether_it_was_truncated(fitted: Fitted):
    long = fitted.filled("the cat sat on the mat " * 40, fitted.case.long)
    whole, short = fitted.model.predict([long, fitted.inputs[0]])
    assert whole.length.num_tokens > fitted.model.limit
    assert (whole.truncated, short.truncated) == (not fitted.task.divides, False)
    assert short.length.num_tokens > 2
    if fitted.task.divides:
        cut_model = load(fitted.output, long_texts="cut")
        cut, again = cut_model.predict([long, fitted.inputs[0]])
        assert cut.truncated
        assert cut.length.num_tokens == whole.length.num_tokens
        assert cut.length.num_read < whole.length.num_tokens
        assert (again, again.length) == (short, short.length)
        windows = cut_model.windows([long])
        found = cut_model.predict_windows([window for part in windows for window in part])
        assert cut_model.join_windows(windows, found)[0].length == cut.length


def contains(ids: list[int], part: list[int]) -> bool:
    return any(ids[i : i + len(part)] == part for i in range(len(ids) - len(part) + 1))


def test_a_saved_folder_opens_in_plain_transformers_with_equal_outputs(fitted: Fitted):
    config = json.loads((fitted.output / "config.json").read_text())
    theirs = getattr(transformers, config["architectures"][0]).from_pretrained(fitted.output).eval()
    if "id2label" in config:
        assert theirs.config.id2label == {int(i): name for i, name in config["id2label"].items()}
    for windows in fitted.windows_by_example(fitted.inputs):
        batch = pack(windows[:1])
        with torch.no_grad():
            given = {"input_ids": batch.input_ids[None]}
            if batch.source is not None:
                given = {"input_ids": batch.source.input_ids[None], "decoder_input_ids": batch.input_ids[None]}
            if config.get("type_vocab_size", 0) > 1:
                given["token_type_ids"] = batch.segment_ids[None]
            if config["architectures"][0].endswith("ForMultipleChoice"):  # it reads (B, choices, n)
                given = {name: ids[None] for name, ids in given.items()}
            found = theirs(**given)
            ours = fitted.model.network(batch)
            if "prediction_logits" in found:
                second = found["sop_logits" if "sop_logits" in found else "seq_relationship_logits"]
                torch.testing.assert_close(ours[1], second, atol=1e-5, rtol=1e-5)
                logits, ours = found.prediction_logits, ours[0]
            elif "logits" in found:
                logits = found.logits
            elif "last_hidden_state" in found:
                logits = found.last_hidden_state
            else:
                logits = torch.stack([found.start_logits, found.end_logits], dim=-1)
            expected = logits[0] if logits.dim() == 3 else logits  # a row per token, or one for the sequence
            torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_token_ids_equal_those_of_transformers(fitted: Fitted):
    theirs = transformers.AutoTokenizer.from_pretrained(fitted.output)
    for given, windows in zip(fitted.inputs, fitted.windows_by_example(fitted.inputs), strict=True):
        texts = (given,) if isinstance(given, str) else given
        texts = tuple(text if isinstance(text, str) else text[0] for text in texts)
        texts = tuple(text.replace("[MASK]", theirs.mask_token or "[MASK]") for text in texts)
        if fitted.case.apart:
            assert [theirs(text)["input_ids"] for text in texts] == [one.input_ids for one in windows]
            continue
        if json.loads((fitted.output / "config.json").read_text())["model_type"] == "gpt2":
            texts = ("<|endoftext|>".join(texts) + fitted.case.gpt2_end,)
        assert theirs(*texts)["input_ids"] == (windows[0].source_ids or windows[0].input_ids)


def test_a_run_leaves_a_complete_folder_and_no_other_files(fitted: Fitted):
    names = {path.name for path in fitted.output.iterdir()}
    two = ("decoder_tokenizer",) if "encoder-decoder" in fitted.folder.name else ()
    hashes = () if fitted.case.task.self_supervised else ("training_rows.hashes",)
    assert names == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "headway.json", "README.md",
        "log.jsonl", *hashes, *two, *fitted.case.files,
    }  # fmt: skip
    assert [path.name for path in fitted.output.parent.iterdir()] == [fitted.output.name]
