"""A Transformer for text to text starts from random weights and a vocabulary of inputs and outputs."""

from dataclasses import replace

import pytest
import transformers
from headway.core.errors import HeadwayError
from headway.core.training.training_config import TrainConfig
from headway.core.training.training_events import Step
from headway.tasks import TextToText, load, read_table
from headway.tasks.language_modeling import from_scratch
from headway.tasks.language_modeling.from_scratch import on_new_model
from headway.tasks.text_to_text.predictions import PairExample

ROWS = [{"input": f"in{i}", "output": f"out{i}"} for i in range(40)]


class Learned(Exception):
    """The texts of the vocabulary were read."""


def texts_of_vocabulary(monkeypatch: pytest.MonkeyPatch, folder, **options) -> list[str]:
    read: list[str] = []

    def learn(texts, model, vocab_size, vocabulary):
        assert (model, vocab_size, vocabulary) == ("encoder-decoder", 300, "pieces")
        read.extend(texts)
        raise Learned

    monkeypatch.setattr(from_scratch, "learn_tokenizer", learn)
    with pytest.raises(Learned):
        on_new_model(TextToText(), ROWS, folder=folder / "new", size="tiny", vocab_size=300, **options)
    return read


def test_the_vocabulary_is_learned_from_inputs_and_outputs(monkeypatch, tmp_path):
    read = texts_of_vocabulary(monkeypatch, tmp_path)
    assert sorted(read) == sorted(text for row in ROWS for text in row.values())


def test_rows_that_are_held_out_are_not_part_of_the_vocabulary(monkeypatch, tmp_path):
    read = texts_of_vocabulary(monkeypatch, tmp_path, held_out=(0.25, None))
    assert len(read) == 60
    assert {text.removeprefix("in") for text in read if text.startswith("in")} == {
        text.removeprefix("out") for text in read if text.startswith("out")
    }


def test_label_smoothing_is_that_of_the_head_in_training_also_of_a_trained_one(gpt2_folder, tmp_path):
    first, second = (TextToText(label_smoothing=share, eval_outputs=0) for share in (0.1, 0.2))
    config = TrainConfig(epochs=1, batch_size=20)
    model = first.on(gpt2_folder)
    list(model.train(ROWS, output=tmp_path / "model", eval_fraction=0, config=config))
    assert model.network.head.label_smoothing == 0.1
    again = second.on(tmp_path / "model")
    list(again.train(ROWS, output=tmp_path / "again", eval_fraction=0, config=config))
    assert again.network.head.label_smoothing == 0.2
    with pytest.raises(HeadwayError, match=r"label.smoothing"):
        TextToText(label_smoothing=1.0)


def test_a_transformer_from_random_weights_is_trained_saved_and_generates_as_in_transformers(tmp_path):
    rows = [{"input": f"{a} {b}", "output": f"{b} {a}"} for a in "abcd" for b in "wxyz"]
    task = TextToText(max_new_tokens=8, eval_outputs=4)
    model = on_new_model(task, rows, folder=tmp_path / "new", size="tiny", vocab_size=300, max_positions=32)
    config = TrainConfig(max_steps=3, precision="fp32", device="cpu")
    model.fit(rows, rows[:4], output=tmp_path / "model", config=config, progress=False)
    theirs = transformers.MarianMTModel.from_pretrained(tmp_path / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    opened = load(tmp_path / "model")
    for text in ("a x", "d w"):
        inputs = tokenizer(text, return_tensors="pt")
        ids = theirs.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"])[0]
        assert (
            inputs["input_ids"][0].tolist()
            == opened.task.encode([PairExample(0, "", text)], opened.tokenizer, opened.limit)[0].source_ids
        )  # no line break of the template
        assert opened.predict(text).text == tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_the_tokens_of_a_step_are_those_of_inputs_and_outputs(tmp_path):
    model = on_new_model(TextToText(eval_outputs=0), ROWS, folder=tmp_path / "new", size="tiny", vocab_size=300)
    table = read_table(ROWS)
    examples = model.task.examples(table, model.task.columns(table, {}, need_label=True))
    windows = model.task.encode(examples, model.tokenizer, model.limit)
    expected = sum(len(one.source_ids) + len(one.input_ids) for one in windows)
    config = TrainConfig(max_steps=1, batch_size=len(ROWS), precision="fp32", device="cpu")
    for number, tokens_at_once in enumerate((None, 150)):
        limited = replace(config, tokens_at_once=tokens_at_once)
        events = model.train(ROWS, output=tmp_path / f"model-{number}", eval_fraction=0, config=limited)
        assert [event.tokens for event in events if isinstance(event, Step)] == [expected]
