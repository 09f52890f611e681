"""Vectors of texts and words equal a direct computation with transformers for every option."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from headway.core.errors import HeadwayError
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import Embedder, load
from headway.tasks.data.features import TextLength
from headway.tasks.data.read import stream_rows
from headway.tasks.data.rows import CHUNK_ROWS
from headway.tasks.embedding.embedder import cosines
from headway.tasks.embedding.pooling import Pooling
from headway.tasks.embedding.published_pooling import PublishedPooling

TEXTS = ["the cat sat on the mat", "my parcel", "", "Ada Lovelace lived in London, and wrote the first program."]
LONG = "the cat sat on the mat, the dog sat on the cat " * 20


def hidden_states(folder: Path, text: str) -> list[torch.Tensor]:
    """The hidden states of a text by transformers, (n, C) for each layer."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer.load(folder)
    ids, _ = tokenizer.join(tokenizer.encode(text).ids)
    with torch.no_grad():
        return [state[0] for state in model(torch.tensor([ids]), output_hidden_states=True).hidden_states]


POOLED = {
    "cls": lambda states: states[0],
    "last": lambda states: states[-1],
    "mean": lambda states: states.mean(0),
    "max": lambda states: states.amax(0),
    "cls,mean": lambda states: torch.cat([states[0], states.mean(0)]),
    "first": lambda states: states[0],  # the old name of cls
}


@pytest.mark.parametrize("pooling", POOLED)
def test_every_pooling_equals_a_direct_computation(tiny_model, pooling):
    found = Embedder(tiny_model, pooling=pooling).embed(TEXTS)
    expected = torch.stack([POOLED[pooling](hidden_states(tiny_model, text)[-1]) for text in TEXTS])
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize("layer", [0, 1, 2, -1, -3])
def test_any_layer_can_be_read(tiny_model, layer):
    found = Embedder(tiny_model, layer=layer).embed(TEXTS[0])
    np.testing.assert_allclose(found, hidden_states(tiny_model, TEXTS[0])[layer].mean(0).numpy(), atol=1e-5)


def test_the_last_layers_are_summed_or_concatenated(tiny_model):
    one, two = hidden_states(tiny_model, TEXTS[0])[-2:]
    summed = Embedder(tiny_model, last_layers=2).embed(TEXTS[0])
    concatenated = Embedder(tiny_model, last_layers=2, combine="concat")
    np.testing.assert_allclose(summed, (one + two).mean(0).numpy(), atol=1e-5)
    np.testing.assert_allclose(concatenated.embed(TEXTS[0]), torch.cat([one, two], -1).mean(0).numpy(), atol=1e-5)
    assert concatenated.size == 64


def test_layers_above_the_chosen_one_are_not_computed(tiny_model, monkeypatch):
    embedder = Embedder(tiny_model, layer=1)
    monkeypatch.setattr(embedder.backbone.blocks[1], "forward", lambda *_: pytest.fail("computed"))
    embedder.embed(TEXTS)


def test_vectors_are_normalized_on_request(tiny_model):
    found = Embedder(tiny_model, normalize=True).embed(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_a_batch_gives_the_vectors_of_its_single_texts_in_order(tiny_model):
    embedder = Embedder(tiny_model)
    alone = np.stack([embedder.embed(text) for text in TEXTS])
    np.testing.assert_allclose(embedder.embed(TEXTS), alone, atol=1e-6)
    np.testing.assert_allclose(embedder.embed(TEXTS[::-1])[::-1], alone, atol=1e-6)
    assert embedder.embed([]).shape == (0, 32)


def test_a_stream_gives_the_same_vectors_in_chunks(bert_folder):
    embedder = Embedder(bert_folder, layer=0)
    texts = [f"the cat {i}" for i in range(CHUNK_ROWS + 3)]
    chunks = list(embedder.embed_stream(iter(texts)))
    assert [len(chunk) for chunk in chunks] == [CHUNK_ROWS, 3]
    np.testing.assert_allclose(np.concatenate(chunks)[-4:], embedder.embed(texts[-4:]), atol=1e-6)


def test_a_long_text_is_the_mean_of_its_windows_or_cut(bert_folder):
    ids = Tokenizer.load(bert_folder).encode(LONG).ids
    embedder = Embedder(bert_folder)
    windows = embedder.windowing.divide(len(ids))
    assert len(windows) > 2
    assert {i for window in windows for i in window} == set(range(len(ids)))
    model = transformers.AutoModel.from_pretrained(bert_folder).eval()
    vectors = []
    for window in windows:
        sequence, _ = embedder.tokenizer.join([ids[i] for i in window])
        with torch.no_grad():
            vectors.append(model(torch.tensor([sequence])).last_hidden_state[0].mean(0))
    np.testing.assert_allclose(embedder.embed(LONG), torch.stack(vectors).mean(0).numpy(), atol=1e-5)
    assert embedder.num_cut == 0

    cut = Embedder(bert_folder, long_texts="cut")
    assert (cut.embed([LONG]) == cut.embed([LONG + " the parcel"])).all()
    cut.embed(["the cat"])
    assert (cut.num_texts, cut.num_cut) == (3, 2)
    assert cut.measure([LONG, "the cat"]) == [TextLength(len(ids) + 2, len(ids) + 2 - 48), TextLength(4, 0)]
    assert [one.truncated for one in embedder.measure([LONG, "the cat"])] == [False, False]


def test_half_precision_vectors_are_close(tiny_model):
    exact, half = (Embedder(tiny_model, precision=name).embed(TEXTS) for name in ("fp32", "bf16"))
    assert half.dtype == np.float32
    assert cosines(exact, half).diagonal().min() > 0.999


def test_a_word_is_the_mean_of_its_tokens_in_context(tiny_model):
    text = "Ada Lovelace, naïve café 🙂"
    found = Embedder(tiny_model).embed_words(text)
    assert all(text[word.start : word.end] == word.text for word in found.words)
    assert [word.text for word in found.words][:3] == ["Ada", "Lovelace", ","]
    tokenizer = Tokenizer.load(tiny_model)
    states = hidden_states(tiny_model, text)[-1][int(tokenizer.cls_id is not None) :]
    inside = [i for i, (start, end) in enumerate(tokenizer.encode(text).offsets) if start < 12 and end > 4]
    np.testing.assert_allclose(found.vectors[1], states[inside].mean(0).numpy(), atol=1e-5)
    assert Embedder(tiny_model).embed_words("").vectors.shape == (0, 32)


def test_every_word_of_a_long_text_has_a_vector(tiny_model):
    found = Embedder(tiny_model).embed_words(LONG)
    assert len(found.words) == len(found.vectors) == 20 * 13
    cut = Embedder(tiny_model, long_texts="cut").embed_words(LONG)
    assert cut.words == found.words[: len(cut.words)]


def test_a_file_is_embedded_row_by_row(bert_folder, tmp_path):
    (tmp_path / "data.csv").write_text("id,review\n1,the cat sat\n2,\n")
    embedder = Embedder(bert_folder)
    ((rows, vectors, lengths),) = embedder.embed_rows(stream_rows(tmp_path / "data.csv"), "review")
    assert [row["id"] for row in rows] == ["1", "2"]
    np.testing.assert_allclose(vectors, embedder.embed(["the cat sat", ""]), atol=1e-6)
    assert lengths == [TextLength(5, 0), TextLength(2, 0)] == embedder.measure(["the cat sat", ""])


def test_a_published_limit_divides_long_texts_unless_they_are_to_be_cut(bert_folder, tmp_path):
    """sentence-transformers reads `max_seq_length` tokens, so that texts that differ behind them are equal."""
    folder = shutil.copytree(bert_folder, tmp_path / "model")
    PublishedPooling(Pooling(), max_length=12).write(folder, 32)
    texts = ["the cat sat on the mat " * 3 + end for end in ("my parcel", "Ada Lovelace")]
    model, tokenizer = transformers.AutoModel.from_pretrained(folder).eval(), Tokenizer.load(folder)
    expected = []
    for ids in tokenizer.encode_ids(texts):
        with torch.no_grad():
            given = torch.tensor([tokenizer.join(ids[:10])[0]])
            expected.append(model(given).last_hidden_state[0].mean(0))
    first, second = Embedder(folder, long_texts="cut").embed(texts)
    np.testing.assert_allclose([first, second], torch.stack(expected).numpy(), atol=1e-5)
    assert (first == second).all()
    first, second = Embedder(folder).embed(texts)
    assert np.abs(first - second).max() > 1e-3
    assert load(folder).predict((texts[0], texts[1])).similarity < 1
    cut = load(folder, long_texts="cut").predict([(texts[0], texts[1]), ("the cat", "the cat")])
    assert cut[0].similarity == pytest.approx(1)
    assert [one.truncated for one in cut] == [True, False]


def minilm_by_transformers(minilm: Path, texts: list[str]) -> np.ndarray:
    """What sentence-transformers computes for this model: the normalized mean over at most 256 tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    model = transformers.BertModel.from_pretrained(minilm).eval()
    vectors = []
    for text in texts:
        with torch.no_grad():
            given = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
            vectors.append(model(**given).last_hidden_state[0].mean(0))
    return torch.nn.functional.normalize(torch.stack(vectors), dim=-1).numpy()


def test_a_sentence_transformers_folder_gives_its_own_vectors(minilm):
    embedder = Embedder(minilm)
    texts = ["A man is eating.", "Someone has a meal!", "", "naïve café 🙂 猫"]
    expected = minilm_by_transformers(minilm, [*texts, LONG])
    np.testing.assert_allclose(embedder.embed(texts), expected[:-1], atol=1e-5)
    cut = Embedder(minilm, long_texts="cut")
    np.testing.assert_allclose(cut.embed([*texts, LONG]), expected, atol=1e-5)
    assert cut.num_cut == 1
    assert embedder.limit == 256
    assert embedder.similarity(texts[0], texts[1]) > embedder.similarity(texts[0], texts[3])


@pytest.mark.realdata
def test_a_thousand_texts_have_sentence_transformers_vectors(minilm, data_folder):
    lines = (data_folder / "sst2/dev.tsv").read_text(encoding="utf-8").splitlines()[:872]
    reviews = (data_folder / "movie_reviews/movie_reviews.jsonl").read_text(encoding="utf-8").splitlines()[:20]
    texts = [*(line.split("\t")[0] for line in lines), *(json.loads(line)["text"] for line in reviews)]
    expected = minilm_by_transformers(minilm, texts)
    np.testing.assert_allclose(Embedder(minilm, long_texts="cut").embed(texts), expected, atol=1e-5)
    np.testing.assert_allclose(Embedder(minilm).embed(texts[:872]), expected[:872], atol=1e-5)


@pytest.mark.parametrize(
    "pooling", [Pooling(("cls",)), Pooling(("mean", "max"), normalize=True), Pooling(("mean_sqrt",))]
)
def test_published_settings_are_read_as_they_were_written(bert_folder, tmp_path, pooling):
    folder = shutil.copytree(bert_folder, tmp_path / "model")
    written = PublishedPooling(pooling, max_length=20, lower_case=True, prompt="query: ")
    written.write(folder, 32)
    read = PublishedPooling.read(folder)
    assert read is not None
    assert set(read.pooling.modes) == set(pooling.modes)
    assert (read.pooling.normalize, read.max_length, read.lower_case, read.prompt) == (
        pooling.normalize, 20, True, "query: ",
    )  # fmt: skip
    embedder = Embedder(folder)
    plain = Embedder(bert_folder, pooling=embedder.config.pooling, normalize=pooling.normalize, max_length=20)
    np.testing.assert_allclose(embedder.embed("The Cat"), plain.embed("query: the cat"), atol=1e-6)


def test_a_newer_pooling_file_is_read(bert_folder, tmp_path):
    folder = shutil.copytree(bert_folder, tmp_path / "model")
    PublishedPooling(Pooling()).write(folder, 32)
    (folder / "1_Pooling/config.json").write_text('{"embedding_dimension": 32, "pooling_mode": "cls"}')
    read = PublishedPooling.read(folder)
    assert read is not None
    assert read.pooling.modes == ("cls",)


def broken(folder: Path, name: str, content: str) -> None:
    PublishedPooling(Pooling(), prompt="query: ").write(folder, 32)
    (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("modules.json", "{", "not valid JSON"),
        ("modules.json", '[{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]', "a module Dense"),
        ("modules.json", "[]", "names no Pooling"),
        ("1_Pooling/config.json", '{"pooling_mode": "magic"}', "the pooling 'magic' is unknown"),
        ("1_Pooling/config.json", '{"pooling_mode": "mean", "include_prompt": false}', "leaves the prompt out"),
    ],
)
def test_an_unreadable_folder_is_rejected_with_the_reason(bert_folder, tmp_path, name, content, words):
    folder = shutil.copytree(bert_folder, tmp_path / "model")
    broken(folder, name, content)
    with pytest.raises(HeadwayError, match=words):
        Embedder(folder)
    assert Embedder(folder, pooling="mean").embed("the cat").shape == (32,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pooling": "median"}, "--pooling median"),
        ({"combine": "product"}, "combine='product'"),
        ({"layer": 1, "last_layers": 2}, "Choose one of them"),
        ({"last_layers": 0}, "--last-layers 0"),
        ({"max_length": 1000}, "reads 3 to 48 tokens"),
        ({"precision": "fp8"}, "precision='fp8'"),
        ({"long_texts": "drop"}, "long_texts='drop'"),
        ({"colour": "red"}, "no option 'colour'"),
    ],
)
def test_an_invalid_option_is_named(bert_folder, options, words):
    with pytest.raises(HeadwayError, match=words):
        Embedder(bert_folder, **options)


def test_a_layer_that_does_not_exist_is_rejected(bert_folder):
    with pytest.raises(HeadwayError, match=r"the layers 0 .* to 2"):
        Embedder(bert_folder, layer=3).embed("the cat")


def test_an_input_that_is_not_a_text_is_rejected(bert_folder):
    with pytest.raises(HeadwayError, match="text 2 is a int"):
        Embedder(bert_folder).embed(["the cat", 3])  # pyright: ignore[reportArgumentType]


@pytest.mark.linux
@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(bert_folder, tmp_path):
    """Runs in a separate process, because the peak of a process never decreases."""
    script = (
        "import resource, sys\n"
        "from headway.tasks import Embedder\n"
        "from headway.tasks.data.read import stream_rows\n"
        "from headway.tasks.embedding.vectors_file import VectorsWriter\n"
        "embedder = Embedder(sys.argv[1])\n"
        "with VectorsWriter(sys.argv[3], embedder.size) as writer:\n"
        "    for rows, vectors, _ in embedder.embed_rows(stream_rows(sys.argv[2]), 'text'):\n"
        "        writer.write(rows, vectors)\n"
        "        print(writer.written, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    )
    data, output = tmp_path / "lines.csv", tmp_path / "vectors.npy"
    data.write_text("id,text\n" + "".join(f"{i},the cat {i} sat\n" for i in range(200_000)))
    command = [sys.executable, "-c", script, str(bert_folder), str(data), str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    peaks = {int(written): float(peak) for written, peak in map(str.split, done.stdout.splitlines())}
    early = min(written for written in peaks if written >= 10_000)
    assert peaks[200_000] - peaks[early] < 15  # MB; the vectors alone are 24
    assert np.load(output, mmap_mode="r").shape == (200_000, 32)
