"""Language modeling: losses compared with transformers, masks, windows, metrics, and training from scratch."""

import gzip
import json
import lzma
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from headway.core.checkpoints.checkpoint import load_backbone, save_checkpoint
from headway.core.errors import HeadwayError
from headway.core.generation.generation import generate_ids
from headway.core.generation.generation_config import GenerationConfig
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.heads import Network
from headway.core.models.packing import PackedBatch
from headway.core.new_model import learn_tokenizer
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.core.tokenizers.vocabulary import learn_wordpiece
from headway.core.training.training_config import TrainConfig
from headway.core.training.training_events import Saved
from headway.tasks import FillMask, TextGeneration, load
from headway.tasks.base.results import Prepared
from headway.tasks.data.columns import ColumnMapping
from headway.tasks.data.corpus import Corpus, open_documents
from headway.tasks.data.read import read_table, stream_rows
from headway.tasks.data.rows import Table
from headway.tasks.language_modeling.distillation import DistillationHead, Teacher, WordPositions
from headway.tasks.language_modeling.from_scratch import on_new_model
from tiny_gpt2 import make_gpt2

SENTENCE = "the cat sat on mat dog my parcel has not arrived Ada Lovelace lived in London quick brown fox card money"
WORDS = SENTENCE.split(" ")
CONFIG = TrainConfig(precision="fp32", device="cpu", save_steps=1000, learning_rate=2e-3, batch_size=8)


def texts(count: int, seed: int = 0, longest: int = 120) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(count)]


def write_corpus(
    task: Any, given: Any, tokenizer: Tokenizer, limit: int, path: Path, *, held_out: bool = False
) -> Corpus:
    documents = open_documents(given, {}, task)
    return Corpus.write(path, documents.read(), task, tokenizer, limit=limit, held_out=held_out)


def table_of(text: str) -> tuple[Table, ColumnMapping]:
    return read_table([{"text": text}]), ColumnMapping({"text": "text"}, None, ())


# Losses and predictions compared with transformers.


@pytest.mark.parametrize("next_sentence", [False, True])
def test_the_masked_loss_is_that_of_transformers(bert_folder: Path, tmp_path: Path, next_sentence: bool):
    task = FillMask(next_sentence=next_sentence)
    model = task.on(bert_folder)
    model.fit(texts(8), output=tmp_path / "model", eval_fraction=0, config=CONFIG, max_steps=2)
    corpus = write_corpus(task, texts(12, seed=1), model.tokenizer, model.limit, tmp_path / "tokens")
    torch.manual_seed(0)
    features = task.corrupt([one for group in corpus for one in group], 0)
    total, count = task.loss(model.network(task.pack(features)), task.targets(features))
    name = "BertForPreTraining" if next_sentence else "BertForMaskedLM"
    theirs = getattr(transformers, name).from_pretrained(tmp_path / "model").eval()
    expected = 0.0
    for one in features:
        labels = torch.full((1, len(one.input_ids)), -100)
        labels[0, one.target.positions] = torch.tensor(one.target.ids)
        given = {"input_ids": torch.tensor([one.input_ids]), "token_type_ids": torch.tensor([one.segment_ids])}
        if next_sentence:
            given["next_sentence_label"] = torch.tensor([0 if one.target.is_next else 1])
        with torch.no_grad():
            expected += theirs(**given, labels=labels).loss.item() * len(one.target.ids)
    assert count == sum(len(one.target.ids) for one in features)
    assert total.item() / count == pytest.approx(expected / count, abs=1e-5)


def test_the_causal_loss_is_that_of_transformers(gpt2_folder: Path, tmp_path: Path):
    task = TextGeneration()
    model = task.on(gpt2_folder)
    model.fit(texts(8), output=tmp_path / "model", eval_fraction=0, config=CONFIG, max_steps=2)
    given = texts(10, seed=2, longest=12)
    corpus = write_corpus(task, given, model.tokenizer, model.limit, tmp_path / "tokens")
    features = [one for group in corpus for one in group]
    total, count = task.loss(model.network(task.pack(features)), task.targets(features))
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "model").eval()
    end = model.tokenizer.end_of_text_id
    expected = tokens = 0
    for text in given:
        ids = torch.tensor([[end, *model.tokenizer.encode(text).ids, end]])
        with torch.no_grad():
            expected += theirs(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
    assert count == tokens
    assert total.item() / count == pytest.approx(expected / tokens, abs=1e-5)


@pytest.mark.parametrize("stride", [None, 1, 7, 48])
def test_evaluation_scores_every_token_once_with_the_context_of_the_stride(
    gpt2_folder: Path, tmp_path: Path, stride: int | None
):
    model = TextGeneration(stride=stride).on(gpt2_folder)
    model.fit(texts(4), output=tmp_path / "model", eval_fraction=0, config=CONFIG, max_steps=1)
    given = texts(3, seed=3, longest=150)
    found = model.evaluate(given).metrics
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "model").eval()
    end, limit = model.tokenizer.end_of_text_id, model.limit
    step = stride or limit // 2
    total, count = 0.0, 0
    for text in given:
        ids = [end, *model.tokenizer.encode(text).ids, end]
        scored = 0  # targets so far
        while scored < len(ids) - 1:
            stop = min(limit if scored == 0 else scored + step, len(ids) - 1)
            window = torch.tensor([ids[max(0, stop - limit) : stop + 1]])
            with torch.no_grad():
                logits = theirs(window[:, :-1]).logits[0]
            losses = torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="none")
            total += losses[-(stop - scored) :].sum().item()
            count += stop - scored
            scored = stop
    assert found["loss"] == pytest.approx(total / count, abs=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    size = sum(len(text.encode()) for text in given)
    assert found["bits_per_byte"] == pytest.approx(total / math.log(2) / size, abs=1e-5)


def test_mask_candidates_are_the_most_likely_tokens_of_transformers(bert_folder: Path, tmp_path: Path):
    model = FillMask(top=4).on(bert_folder)
    model.fit(texts(8), output=tmp_path / "model", eval_fraction=0, config=CONFIG, max_steps=5)
    theirs = transformers.BertForMaskedLM.from_pretrained(tmp_path / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in ("the [MASK] sat on the [MASK]", "[MASK]", "my parcel has [MASK]."):
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            probabilities = theirs(**inputs).logits[0].softmax(dim=-1)
        places = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero().flatten()
        found = model.predict(text)
        assert len(found.masks) == len(places)
        for candidates, place in zip(found.masks, places, strict=True):
            best = probabilities[place].topk(4)
            assert [one.word for one in candidates] == tokenizer.convert_ids_to_tokens(best.indices.tolist())
            assert [one.score for one in candidates] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_every_mask_of_a_long_text_is_filled(bert_folder: Path, tmp_path: Path):
    model = FillMask().on(bert_folder)
    model.fit(texts(8), output=tmp_path / "model", eval_fraction=0, config=CONFIG, max_steps=1)
    found = model.predict("the cat [MASK] on " * 60)
    assert len(found.masks) == 60
    assert "[MASK]" not in found.text
    assert model.predict("no mask in it").masks == ()


@pytest.mark.parametrize(("new_tokens", "read"), [(8, 40), (24, 24), (47, 24), (100, 24)])
def test_a_prompt_keeps_at_least_half_of_the_context(
    new_tokens: int, read: int, byte_level_folder: Path, tmp_path: Path
):
    folder = make_gpt2(byte_level_folder, tmp_path, max_positions=48)
    model = load(folder, max_new_tokens=new_tokens)
    text = " ".join(WORDS * 3)
    (features,) = model.task.encode(model.task.examples(*table_of(text)), model.tokenizer, model.limit)
    ids = model.tokenizer.encode(text).ids
    assert features.input_ids == ids[-read:]
    config = GenerationConfig(max_new_tokens=new_tokens, context="slide")
    ((written,),) = generate_ids(model.network, [ids[-read:]], config, end_of_text_id=model.tokenizer.end_of_text_id)
    assert model.predict(text).continuation == model.tokenizer.decode(written.token_ids)
    assert written.finish_reason == "end-of-text" or len(written.token_ids) == new_tokens


# Masks.


def test_masks_have_the_published_frequencies(bert_folder: Path, tmp_path: Path):
    task = FillMask()
    tokenizer = Tokenizer.load(bert_folder)
    corpus = write_corpus(task, texts(300), tokenizer, 48, tmp_path / "tokens")
    torch.manual_seed(0)
    before = [one for group in corpus for one in group]
    after = task.corrupt(before, 0)
    hidden = kept = 0
    for one, masked in zip(before, after, strict=True):
        chosen = set(masked.target.positions)
        inner = len(one.input_ids) - 2
        assert len(chosen) == max(1, round(0.15 * inner))
        assert not chosen & {0, len(one.input_ids) - 1}, "special tokens are never masked"
        for place, (old, new) in enumerate(zip(one.input_ids, masked.input_ids, strict=True)):
            assert place in chosen or old == new
        assert masked.target.ids == [one.input_ids[place] for place in masked.target.positions]
        hidden += sum(masked.input_ids[place] == tokenizer.mask_id for place in chosen)
        kept += sum(masked.input_ids[place] == one.input_ids[place] for place in chosen)
    total = sum(len(one.target.ids) for one in after)
    assert hidden / total == pytest.approx(0.8, abs=0.04)
    assert kept / total == pytest.approx(0.1, abs=0.03)
    again = task.corrupt(before, 1)
    assert [one.input_ids for one in again] != [one.input_ids for one in after], "masks are drawn again in each step"
    parts = [one for part in (before[:5], before[5:]) for one in task.corrupt(part, 0)]
    assert [one.input_ids for one in parts] == [one.input_ids for one in after], "however a step is divided"


def test_all_tokens_of_a_word_are_masked_together(bert_folder: Path, tmp_path: Path):
    task = FillMask(whole_words=True)
    tokenizer = Tokenizer.load(bert_folder)
    corpus = write_corpus(task, ["parcelization dogmatic unlived catsat " * 8], tokenizer, 48, tmp_path / "tokens")
    torch.manual_seed(0)
    pieces = 0
    for group in corpus:
        (one,) = group
        spelt = tokenizer.tokens(one.input_ids)
        for seed in range(20):
            (masked,) = task.corrupt(group, seed)
            chosen = set(masked.target.positions)
            for place in range(2, len(spelt) - 1):
                if spelt[place].startswith("##"):
                    assert (place in chosen) == (place - 1 in chosen)
                    pieces += place in chosen
    assert pieces


def test_half_of_the_second_segments_come_from_another_document(bert_folder: Path, tmp_path: Path):
    task = FillMask(next_sentence=True)
    tokenizer = Tokenizer.load(bert_folder)
    given = ["the cat sat on the mat " * 6, "my parcel has not arrived " * 6, "quick brown fox " * 9]
    corpus = write_corpus(task, given, tokenizer, 48, tmp_path / "tokens")
    torch.manual_seed(0)
    followed = 0
    for seed in range(60):
        for group in corpus:
            (one,) = task.corrupt(group, seed)
            ids = list(one.input_ids)
            for place, token in zip(one.target.positions, one.target.ids, strict=True):
                ids[place] = token
            middle = one.segment_ids.index(1)
            first, second = tokenizer.decode(ids[:middle]), tokenizer.decode(ids[middle:])
            same = any(first.split()[0] in text and second.split()[-1] in text for text in given)
            assert same == one.target.is_next
            followed += one.target.is_next
    assert followed / (60 * len(corpus)) == pytest.approx(0.5, abs=0.1)


# Documents.


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_training_sees_every_token_once_and_no_sequence_crosses_a_document(
    kind: str, bert_folder: Path, gpt2_folder: Path, tmp_path: Path
):
    task: Any = FillMask() if kind == "bert" else TextGeneration()
    tokenizer = Tokenizer.load(bert_folder if kind == "bert" else gpt2_folder)
    given = texts(20, seed=5)
    corpus = write_corpus(task, given, tokenizer, 32, tmp_path / "tokens")
    seen: dict[int, list[int]] = {}
    for i in range(len(corpus)):
        (one,) = corpus[i]
        assert len(one.input_ids) <= 32
        assert corpus.lengths[i] == len(one.input_ids)
        ids = one.target.ids if kind == "gpt2" else one.input_ids[1:-1]
        seen.setdefault(corpus.document_of(i), []).extend(ids)
    end = [tokenizer.end_of_text_id] if kind == "gpt2" else []
    assert list(seen.values()) == [[*tokenizer.encode(text).ids, *end] for text in given]
    assert corpus.num_bytes == sum(len(text.encode()) for text in given)


def test_a_plain_file_is_divided_into_documents_as_chosen(gpt2_folder: Path, tmp_path: Path):
    tokenizer = Tokenizer.load(gpt2_folder)
    lines = [f"{text}\n" + "\n" * (i % 3 == 0) + "  \n" * (i % 7 == 0) for i, text in enumerate(texts(400, seed=6))]
    whole = "".join(lines)
    path = tmp_path / "book.txt"
    path.write_text(whole)
    for name, opener in (("book.txt.gz", gzip.open), ("book.txt.xz", lzma.open)):
        with opener(tmp_path / name, "wt") as file:
            file.write(whole)
    counts = {"file": 1, "lines": 400, "paragraphs": None}
    for documents, count in counts.items():
        corpora = [
            write_corpus(TextGeneration(documents=documents), str(tmp_path / name), tokenizer, 48, tmp_path / "tokens")
            for name in ("book.txt", "book.txt.gz", "book.txt.xz")
        ]
        assert len({corpus.fingerprint for corpus in corpora}) == 1
        assert count is None or corpora[0].num_documents == count
    corpus = write_corpus(TextGeneration(), str(path), tokenizer, 48, tmp_path / "tokens")
    ids = [token for group in corpus for token in group[0].target.ids]
    assert ids == [*tokenizer.encode(whole).ids, tokenizer.end_of_text_id], "reading in pieces gives the same tokens"


def test_each_row_of_json_lines_and_tables_is_a_document(gpt2_folder: Path, tmp_path: Path):
    tokenizer = Tokenizer.load(gpt2_folder)
    given = texts(30, seed=7)
    path = tmp_path / "texts.jsonl.xz"
    with lzma.open(path, "wt") as file:
        file.writelines(json.dumps({"title": f"t{i}", "text": text}) + "\n" for i, text in enumerate(given))
    corpora = [
        write_corpus(TextGeneration(), source, tokenizer, 48, tmp_path / f"tokens-{i}")
        for i, source in enumerate((path, given, [{"text": text} for text in given]))
    ]
    assert [corpus.num_documents for corpus in corpora] == [30, 30, 30]
    assert len({corpus.fingerprint for corpus in corpora}) == 1


@pytest.mark.parametrize("name", ["hub:wiki", "hub:someone/wiki", "hub:someone/wiki:en:train"])
def test_a_hub_data_set_is_not_read_as_a_plain_file(name: str, monkeypatch: pytest.MonkeyPatch):
    given = stream_rows([{"text": text} for text in texts(3)])
    monkeypatch.setattr("headway.tasks.data.read.open_hub", {name: given}.__getitem__)
    documents = open_documents(name, {}, TextGeneration())
    assert [piece.text for piece in documents.read()] == texts(3)


def test_held_out_text_is_not_trained_on(gpt2_folder: Path, tmp_path: Path):
    given = [f"{text} {i}" for i, text in enumerate(texts(200, seed=8, longest=8))]
    documents = open_documents(given, {}, TextGeneration())
    kept = [piece.text for piece in documents.part(0.2, 1, 0)]
    out = [piece.text for piece in documents.part(0, 0.2, 0)]
    assert sorted(kept + out) == sorted(given)
    assert 20 <= len(out) <= 60
    assert out != [piece.text for piece in documents.part(0, 0.2, 1)]


# Training.


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_resumed_run_ends_with_the_same_weights(kind: str, bert_folder: Path, gpt2_folder: Path, tmp_path: Path):
    task: Any = FillMask(next_sentence=True) if kind == "bert" else TextGeneration()
    folder = bert_folder if kind == "bert" else gpt2_folder
    options = {"config": CONFIG, "max_steps": 9, "save_steps": 3, "eval_fraction": 0.2}
    given = texts(60, seed=9)
    task.on(folder).fit(given, output=tmp_path / "whole", **options)
    for event in task.on(folder).train(given, output=tmp_path / "broken", **options):
        if isinstance(event, Saved) and event.step == 6:
            break
    task.on(folder).fit(given, output=tmp_path / "broken", resume=True, **options)
    for name in ("model.safetensors", "log.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "whole"]


def test_training_lowers_the_loss_of_held_out_text(bert_folder: Path, tmp_path: Path):
    given, held_out = texts(200, seed=10, longest=30), texts(40, seed=11, longest=30)
    model = FillMask().on(bert_folder)
    model.fit(given, output=tmp_path / "first", eval_fraction=0, config=CONFIG, max_steps=1)
    before = model.evaluate(held_out).metrics["loss"]
    model.fit(given, output=tmp_path / "second", eval_fraction=0, config=CONFIG, max_steps=60)
    assert model.evaluate(held_out).metrics["loss"] < before - 0.5
    assert model.evaluate(held_out).metrics == load(tmp_path / "second").evaluate(held_out).metrics


def test_the_dropout_of_training_is_not_saved_with_the_model(bert_folder: Path, tmp_path: Path):
    model = FillMask().on(bert_folder)
    model.fit(texts(20), output=tmp_path / "model", eval_fraction=0, config=CONFIG, max_steps=1, dropout=0.0)
    assert json.loads((tmp_path / "model/config.json").read_text())["hidden_dropout_prob"] == 0.1
    assert all(part.p == 0 for part in model.network.modules() if isinstance(part, torch.nn.Dropout))


def test_the_teachers_vector_of_a_word_is_the_mean_over_its_tokens(bert_folder: Path):
    teacher = Teacher(bert_folder)
    words = ["the", "parcelization", "dog"]
    ids = [teacher.tokenizer.encode(word).ids for word in words]
    assert len(ids[1]) > 1
    flat = teacher.tokenizer.join([token for word in ids for token in word])[0]
    hidden = teacher.model(PackedBatch.pack([flat]))[1:-1]
    expected = [part.mean(dim=0) for part in hidden.split([len(word) for word in ids])]
    found = teacher.word_vectors(teacher.targets([WordPositions(words, [1, 2, 6])], [9]))
    torch.testing.assert_close(found, torch.nn.functional.normalize(torch.stack(expected), dim=-1))


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A BERT with the hidden size of the smallest new model."""
    tokenizer = learn_wordpiece(texts(50), 60)
    torch.manual_seed(0)
    backbone = Bert(BertConfig(vocab_size=tokenizer.vocab_size, hidden_size=128, num_layers=1, num_heads=2))
    folder = tmp_path / "teacher"
    folder.mkdir()
    save_checkpoint(folder, Network(backbone))
    tokenizer.save(folder)
    return folder


def test_the_vocabulary_is_learned_without_the_texts_for_evaluation_and_for_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given, read = [f"{text} {i}" for i, text in enumerate(texts(100))], []

    def learn(some: Any, *options: Any) -> Any:
        read.extend(some)
        return learn_tokenizer(read, *options)

    monkeypatch.setattr("headway.tasks.language_modeling.from_scratch.learn_tokenizer", learn)
    new = {"folder": tmp_path / "new", "size": "tiny", "vocab_size": 60}
    model = on_new_model(FillMask(), given, **new, held_out=(0.2, 0.3))
    events = model.train(given, output=tmp_path / "out", config=CONFIG, eval_fraction=0.2, test_fraction=0.3)
    prepared = next(events)
    assert isinstance(prepared, Prepared)
    assert 30 < len(read) == prepared.examples < 70
    assert prepared.examples + prepared.eval_examples + prepared.test_examples == 100


def test_distillation_lowers_the_loss_and_leaves_no_trace_in_the_model(teacher: Path, tmp_path: Path):
    task = FillMask(teacher=str(teacher))
    model = on_new_model(task, texts(100), folder=tmp_path / "new", size="tiny", tokenizer_of=teacher)
    losses = [
        event.loss
        for event in model.train(texts(100), output=tmp_path / "out", eval_fraction=0, config=CONFIG, max_steps=30)
        if hasattr(event, "loss")
    ]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert not isinstance(model.network.head, DistillationHead)
    assert type(load(tmp_path / "out").network.head).__name__ == "MaskedLMHead"
    assert str(teacher) not in (tmp_path / "out/headway.json").read_text()


def test_a_trained_masked_language_model_can_be_distilled_further(teacher: Path, tmp_path: Path):
    on_new_model(FillMask(), texts(100), folder=tmp_path / "new", size="tiny", tokenizer_of=teacher)
    config = TrainConfig(max_steps=2, batch_size=8, learning_rate=1e-4)
    FillMask().on(tmp_path / "new").fit(texts(20), eval_fraction=0, output=tmp_path / "before", config=config)
    found = []
    for again in range(2):
        model = FillMask(teacher=str(teacher)).on(tmp_path / "before")
        model.fit(texts(20), eval_fraction=0, output=tmp_path / f"after-{again}", config=config)
        assert not isinstance(model.network.head, DistillationHead)
        found.append((tmp_path / f"after-{again}/model.safetensors").read_bytes())
    assert found[0] == found[1] != (tmp_path / "before/model.safetensors").read_bytes()


def test_a_student_starts_with_token_embeddings_of_its_teacher(teacher: Path, tmp_path: Path):
    task = FillMask(teacher=str(teacher))
    model = on_new_model(task, texts(50), folder=tmp_path / "new", size="tiny", vocab_size=45)
    found = model.network.backbone.token_embedding.weight
    known, tokenizer = load_backbone(teacher).network.backbone.token_embedding.weight, Tokenizer.load(teacher)
    tokens = model.tokenizer.tokens(range(model.tokenizer.vocab_size))
    ours = [i for i, token in enumerate(tokens) if tokenizer.id_of(token) is not None]
    theirs = [tokenizer.id_of(tokens[i]) for i in ours]
    assert len(ours) > 30
    # As many components as the teacher has: distances are kept.
    distances = [torch.cdist(table, table) for table in (found[ours], known[theirs])]
    torch.testing.assert_close(*distances, atol=1e-3, rtol=1e-3)
    with pytest.raises(HeadwayError, match="the hidden size of the teacher is 128 and that of the new model 256"):
        on_new_model(task, texts(50), folder=tmp_path / "wide", size="mini", vocab_size=45)


# Training from scratch.


def test_sequences_of_events_are_learned_and_continued(tmp_path: Path):
    melody = ["C4:1 E4:1 G4:2 <rest>:2 " * 12] * 20
    model = on_new_model(
        TextGeneration(max_new_tokens=6), melody, folder=tmp_path / "new", size="tiny", vocab_size=20,
        vocabulary="words", max_positions=64,
    )  # fmt: skip
    model.fit(melody, output=tmp_path / "out", eval_fraction=0, config=CONFIG, max_steps=80)
    found = load(tmp_path / "out").predict("C4:1 E4:1 G4:2 <rest>:2 C4:1 E4:1")
    assert found.continuation == "G4:2 <rest>:2 C4:1 E4:1 G4:2 <rest>:2"
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs("C4:1 nothing E4:1")["input_ids"] == model.tokenizer.encode("C4:1 nothing E4:1").ids


def test_transformers_ends_a_text_where_the_model_does(tmp_path: Path):
    melody = ["C4:1 E4:1 G4:2 C5:4"] * 20
    model = on_new_model(
        TextGeneration(max_new_tokens=9), melody, folder=tmp_path / "new", size="tiny", vocab_size=20,
        vocabulary="words", max_positions=64,
    )  # fmt: skip
    model.fit(melody, output=tmp_path / "out", eval_fraction=0, config=CONFIG, max_steps=60)
    found = load(tmp_path / "out").predict("C4:1 E4:1")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = theirs.generate(**tokenizer("C4:1 E4:1", return_tensors="pt"))[0]
    assert tokenizer.decode(ids[2:], skip_special_tokens=True) == found.continuation == "G4:2 C5:4"
    assert ids[-1] == model.tokenizer.end_of_text_id


def test_masked_events_are_predicted(tmp_path: Path):
    melody = ["C4:1 E4:1 G4:2 E4:1 C4:1 rest " * 6] * 20
    model = on_new_model(
        FillMask(), melody, folder=tmp_path / "new", size="tiny", vocab_size=20, vocabulary="words", max_positions=64
    )
    model.fit(melody, output=tmp_path / "out", eval_fraction=0, config=CONFIG, max_steps=150)
    assert model.predict("C4:1 E4:1 [MASK] E4:1 C4:1 rest").masks[0][0].word == "G4:2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--learn-tokenizer N, or --model"),
        ({"vocab_size": 100, "size": "huge"}, "--size huge: it must be one of tiny"),
        ({"vocab_size": 100, "vocabulary": "letters"}, "--vocabulary letters: it must be pieces or words"),
        ({"vocab_size": 8}, "has no room for"),
        ({"vocab_size": 100, "max_positions": 4}, "--max-positions 4"),
    ],
)
def test_an_invalid_option_of_a_new_model_is_named(tmp_path: Path, options: dict[str, Any], message: str):
    with pytest.raises(HeadwayError, match=message):
        on_new_model(FillMask(), texts(5), folder=tmp_path / "new", **{"size": "tiny", **options})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_probability": 1.5}, "--mask-probability 1.5"),
        ({"documents": "pages"}, "documents='pages' is invalid; it must be one of file"),
        ({"top": 0}, "--top 0"),
    ],
)
def test_an_invalid_option_is_named(options: dict[str, Any], message: str):
    with pytest.raises(HeadwayError, match=message):
        FillMask(**options)


def test_a_task_on_the_wrong_model_is_rejected(bert_folder: Path, gpt2_folder: Path):
    with pytest.raises(HeadwayError, match="fill-mask needs a BERT"):
        FillMask().on(gpt2_folder)
    with pytest.raises(HeadwayError, match="text-generation needs a GPT-2"):
        TextGeneration().on(bert_folder)
    with pytest.raises(HeadwayError, match="--stride 400: at most"):
        TextGeneration(stride=400).on(gpt2_folder)


def test_data_without_usable_text_is_rejected(bert_folder: Path, tmp_path: Path):
    model = FillMask().on(bert_folder)
    with pytest.raises(HeadwayError, match="no text to train on"):
        model.fit([{"text": " "}, {"text": ""}], output=tmp_path / "out", config=CONFIG)
    with pytest.raises(HeadwayError, match="expected a text, found a int"):
        model.fit([{"text": "the cat"}, {"text": 7}], output=tmp_path / "out", config=CONFIG)
    assert list(tmp_path.iterdir()) == []


MEMORY = """
import resource, sys
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextGeneration

small, large, model, output = sys.argv[1:]
config = TrainConfig(precision="fp32", device="cpu", max_steps=2, batch_size=2, save_steps=10)
peaks = []
for number, path in enumerate((small, large)):
    TextGeneration().on(model).fit(path, output=f"{output}-{number}", eval_fraction=0, config=config)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[1] - peaks[0])
"""


@pytest.mark.linux
@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(gpt2_folder: Path, tmp_path: Path):
    tokenizer = Tokenizer.load(gpt2_folder)
    on_new_model(TextGeneration(), texts(3), folder=tmp_path / "model", size="tiny", tokenizer_of=gpt2_folder)
    assert tokenizer.end_of_text_id is not None
    block = "".join(f"{text}.\n" for text in texts(4000, seed=12))
    (tmp_path / "small.txt").write_text(block * 8)
    with (tmp_path / "large.txt").open("w") as file:
        while file.tell() < 100_000_000:
            file.write(block)
    arguments = [str(tmp_path / name) for name in ("small.txt", "large.txt", "model", "output")]
    done = subprocess.run([sys.executable, "-c", MEMORY, *arguments], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10_000, "KiB of memory for 100 MB of text"


def test_columns_that_have_no_meaning_for_unlabelled_text_are_refused(tmp_path):
    rows = [{"text": "some text", "other": "more text"}]
    for name in ("pair", "label", "question"):
        with pytest.raises(HeadwayError, match=f"--{name}: training on texts without labels reads text only"):
            open_documents(rows, {"text": "text", name: "other"}, TextGeneration())
    (tmp_path / "a.txt").write_text("some text\n")
    with pytest.raises(HeadwayError, match="--text: plain text has no columns"):
        open_documents(tmp_path / "a.txt", {"text": "text"}, TextGeneration())
    assert list(open_documents(rows, {"text": "other", "pair": None, "label": ()}, TextGeneration()).read())
