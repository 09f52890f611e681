"""What is remembered is released with what it belongs to, or bounded."""

import copy
import gc
import pickle
import weakref
from pathlib import Path

import pytest
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.core.training.training_config import TrainConfig
from headway.core.training.training_events import Step
from headway.tasks import FillMask, Prompt
from headway.tasks.language_modeling import distillation
from headway.tasks.language_modeling.distillation import Teacher
from headway.tasks.language_modeling.masking import choose_positions
from headway.tasks.prompting import prompt_runner
from headway.tasks.prompting.prompt_encoder import PromptEncoder

FAST = TrainConfig(max_steps=3, batch_size=4, precision="fp32", device="cpu")
TEXTS = ["the cat sat on the mat, the dog sat on the cat"] * 20


def test_a_teacher_is_loaded_once_in_a_run_and_freed_at_its_end(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    loaded: list[weakref.ref[Teacher]] = []

    class Counted(Teacher):
        def __init__(self, name: str | Path) -> None:
            super().__init__(name)
            loaded.append(weakref.ref(self))

    monkeypatch.setattr(distillation, "Teacher", Counted)
    model = FillMask(teacher=str(bert_folder)).on(bert_folder)
    events = model.train(TEXTS, config=FAST, output=tmp_path / "new")
    alive = [bool(loaded[-1]()) for event in events if isinstance(event, Step)]
    assert alive == [True] * 3
    assert len(loaded) == 1
    assert loaded[0]() is None


def test_copies_of_a_model_in_training_do_not_hold_the_teacher(bert_folder: Path, tmp_path: Path):
    model = FillMask(teacher=str(bert_folder)).on(bert_folder)
    events = model.train(TEXTS, config=FAST, output=tmp_path / "new")
    while not isinstance(next(events), Step):
        pass
    head = model.network.head
    assert isinstance(head.teacher, Teacher)
    for copied in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert copied.teacher is None
        assert copied.projection.weight.equal(head.projection.weight)
    events.close()


def test_the_words_that_a_teacher_remembers_are_bounded(bert_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distillation, "CACHED_WORDS", 5)
    teacher = Teacher(str(bert_folder))
    assert [len(teacher._pieces_of(f"w{i}")) > 0 for i in range(20)] == [True] * 20
    assert teacher._pieces_of.cache_info().currsize == 5


def test_a_tokenizer_is_freed_when_nothing_uses_it(wordpiece_folder: Path):
    import torch

    tokenizer = Tokenizer.load(wordpiece_folder)
    ids = tokenizer.encode(TEXTS[0]).ids
    assert choose_positions(ids, tokenizer, 0.3, whole_words=True, generator=torch.Generator())
    assert tokenizer.vocabulary[ids[0]] == "the"
    found = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert found() is None


def test_a_prompt_is_freed_without_a_garbage_collection(gpt2_folder: Path):
    gc.disable()
    try:
        model = Prompt(labels=("cat", "dog"), shots=1).on(gpt2_folder)
        model.predict(["the cat"], [("the cat", "cat"), ("the dog", "dog")])
        network = weakref.ref(model.network)
        del model
        assert network() is None
    finally:
        gc.enable()


def test_what_a_prompt_remembers_is_bounded(gpt2_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prompt_runner, "CACHED_CONTEXTS", 4)
    monkeypatch.setattr("headway.tasks.prompting.prompt_encoder.CACHED", 4)
    examples = [(f"the {animal} {i}", animal) for i in range(10) for animal in ("cat", "dog")]
    prepared = Prompt(labels=("cat", "dog"), shots=2, choice="nearest").on(gpt2_folder).prepare(examples)
    prepared.predict(prepared.reader.texts([f"the {i}" for i in range(10)]))
    runner = prepared.runner
    assert len(runner._contexts) <= 4
    assert runner._encoder._encode_block.cache_info().currsize <= 4
    assert isinstance(runner._encoder, PromptEncoder)


def test_a_prompt_keeps_its_tokens_when_another_thread_clears_the_cache(gpt2_folder: Path):
    class Cleared(dict):
        def __setitem__(self, key: object, value: object) -> None:
            super().__setitem__(key, value)
            self.clear()

    examples = [("the cat", "cat"), ("the dog", "dog")]
    prepared = Prompt(labels=("cat", "dog"), shots=2).on(gpt2_folder).prepare(examples)
    object.__setattr__(prepared.runner, "_contexts", Cleared())
    texts = prepared.reader.texts(["the cat"])
    assert prepared.predict(texts)[0].label in ("cat", "dog")
