"""Structural probes: the formulas of Hewitt & Manning, their scores, the vectors of words, and what they find."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
import transformers
from headway.core.checkpoints.checkpoint import load_backbone
from headway.core.errors import HeadwayError
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks.data.read import read_table
from headway.tasks.inspection import StructureResult, StructureScore, probe_structure
from headway.tasks.inspection.dependency_trees import DependencyTree, read_trees
from headway.tasks.inspection.layer_vectors import LayerVectors, WordPieces
from headway.tasks.inspection.structural_probe import (
    Treebank,
    TreeSplit,
    depth_loss,
    distance_loss,
    fit_probe,
    predict_trees,
)
from headway.tasks.inspection.tree_scores import score_trees, spanning_edges
from scipy.sparse.csgraph import minimum_spanning_tree, shortest_path
from treebanks import treebank

CPU = torch.device("cpu")


def random_tree(count: int, seed: int) -> DependencyTree:
    """A tree whose words are attached at random; the last word is punctuation."""
    chance = np.random.default_rng(seed)
    order = [*chance.permutation(count - 1).tolist(), count - 1]
    heads = [0] * count
    for i, word in enumerate(order[1:], start=1):
        heads[word] = 1 + order[int(chance.integers(0, i))]
    words = tuple(f"w{i}" for i in range(count))
    return DependencyTree(f"tree {seed}", words, tuple(heads), tuple(i == count - 1 for i in range(count)))


TREES = [random_tree(count, seed) for seed, count in enumerate([5, 9, 2, 12, 7])]
STARTS = [0, 5, 14, 16, 28]  # row of the first word of each


def bank() -> Treebank:
    return Treebank.build(TREES, STARTS, CPU)


# Trees.


def test_distances_and_depths_are_those_of_shortest_paths():
    for tree in TREES:
        graph = np.zeros((len(tree.words), len(tree.words)))
        for word, head in enumerate(tree.heads):
            if head:
                graph[word, head - 1] = 1
        expected = shortest_path(graph, directed=False, unweighted=True)
        np.testing.assert_array_equal(tree.distances, expected)
        np.testing.assert_array_equal(tree.depths, expected[tree.root])


def conllu(*heads: object, ids: list[object] | None = None) -> str:
    words = enumerate(heads, start=1)
    return "".join(f"{ids[i - 1] if ids else i}\tw{i}\t_\tX\t_\t_\t{head}\t_\t_\t_\n" for i, head in words) + "\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (conllu("_", "_", "_"), ["line 1", "word 1", "no head"]),
        (conllu(2, 0, "x"), ['word 3 has the head "x"']),
        (conllu(2, 0, 7), ['line 1, word 3 ("w3")', "its head is word 7", "has 3 words"]),
        (conllu(2, 0, 0), ["word 3", "second root"]),
        (conllu(2, 3, 1), ["word 1", "cycle"]),
        (conllu(0, 1, 4, 3), ["word 3", "cycle"]),
        (conllu(0, 2), ["word 2", "cycle"]),
        (conllu(2, 0, 2, 0, ids=[1, 2, 1, 2]), ["word 3 has the number 1", "blank line"]),
    ],
)
def test_heads_that_are_no_tree_are_named(tmp_path, content, words):
    (tmp_path / "a.conllu").write_text(conllu(0, 1) + content)
    with pytest.raises(HeadwayError) as error:
        read_trees(read_table(tmp_path / "a.conllu"), {})
    for word in (str(tmp_path / "a.conllu"), *words):
        assert word.replace("line 1", "line 4") in str(error.value)


@pytest.mark.parametrize(
    ("data", "columns", "words"),
    [
        ([{"text": "a cat", "label": "x"}] * 20, {}, "no column of words"),
        ([{"tokens": ["a", "cat"], "ner_tags": ["O", "O"]}] * 20, {}, "no column of heads"),
        ([{"tokens": ["a", "cat"], "head": [2]}] * 20, {}, "a head for every word"),
        ([{"tokens": ["a", "cat"], "head": [2, 0]}] * 20, {"label": "parent"}, r"no column of heads \(parent\)"),
        ([{"tokens": ["a", "cat"], "head": [2, 0]}] * 9, {}, "too few"),
        ([{"tokens": ["cat"], "head": [0]}] * 20, {}, "0 sentences of two words or more"),
        ([{"tokens": ["a", "cat"], "head": [2, 0]}] * 20, {}, "1 different sentence"),
    ],
)
def test_data_without_enough_trees_is_refused(bert_folder, data, columns, words):
    with pytest.raises(HeadwayError, match=words):
        list(probe_structure(bert_folder, data, columns=columns))


@pytest.mark.parametrize("option", ["seeds", "rank"])
def test_options_below_one_are_refused(bert_folder, option):
    with pytest.raises(HeadwayError, match=f"--{option} 0"):
        list(probe_structure(bert_folder, [], **{option: 0}))


def test_rows_with_lists_of_words_and_heads_are_trees():
    rows = [{"tokens": ["a", "cat", "!"], "head": ["2", 0, 2]}]
    (tree,) = read_trees(read_table(rows), {})
    assert (tree.heads, tree.punctuation) == ((2, 0, 2), (False, False, True))
    named = [{"w": ["a", "cat"], "parent": [2, 0]}]
    (tree,) = read_trees(read_table(named), {"text": "w", "label": "parent"})
    assert tree.heads == (2, 0)


# The formulas.


def plain_losses(vectors: torch.Tensor, weight: torch.Tensor) -> tuple[float, float]:
    """Section 2.2 of the paper, word by word: B is the transposed weight."""
    start, distances, depths = 0, 0.0, 0.0
    for tree in TREES:
        n = len(tree.words)
        h = vectors[start : start + n]
        for i in range(n):
            for j in range(n):
                difference = weight.T @ (h[i] - h[j])
                distances += abs(tree.distances[i, j] - float(difference @ difference)) / n**2
            norm = weight.T @ h[i]
            depths += abs(tree.depths[i] - float(norm @ norm)) / n
        start += n
    return distances / len(TREES), depths / len(TREES)


def test_the_losses_are_those_of_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(35, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    batch = bank().batch(torch.arange(len(TREES)))
    projected = vectors[batch.rows] @ weight
    found = float(distance_loss(projected, batch)), float(depth_loss(projected, batch))
    assert found == pytest.approx(plain_losses(vectors, weight), rel=1e-9)


def prim(distances: np.ndarray, words: list[int]) -> set[tuple[int, int]]:
    """The minimum spanning tree of some words, grown from the first."""
    tree, edges = {words[0]}, set()
    while len(tree) < len(words):
        a, b = min(((a, b) for a in tree for b in words if b not in tree), key=lambda edge: distances[edge])
        tree.add(b)
        edges.add((min(a, b), max(a, b)))
    return edges


def test_the_scores_are_those_of_plain_loops_and_of_scipy():
    chance = np.random.default_rng(0)
    noisy = [tree.distances + chance.random(tree.distances.shape) * 2 for tree in TREES]
    distances = [(one + one.T) / 2 for one in noisy]
    depths = [tree.depths + chance.random(len(tree.words)) * 2 for tree in TREES]
    right = total = roots = 0
    correlations: dict[int, list[float]] = {}
    of_depths: dict[int, list[float]] = {}
    for tree, distance, depth in zip(TREES, distances, depths, strict=True):
        words = [i for i in range(len(tree.words)) if not tree.punctuation[i]]
        gold, predicted = prim(tree.distances, words), prim(distance, words)
        assert spanning_edges(distance, tree.punctuation) == predicted
        inner = minimum_spanning_tree(distance[np.ix_(words, words)]).tocoo()
        assert {tuple(sorted(pair)) for pair in zip(inner.row.tolist(), inner.col.tolist(), strict=True)} == predicted
        attached = {(min(i, h - 1), max(i, h - 1)) for i, h in enumerate(tree.heads) if h and i in words}
        assert gold == attached  # the last word is a leaf
        right, total = right + len(gold & predicted), total + len(gold)
        roots += min(words, key=lambda i: depth[i]) == tree.root
        n = len(tree.words)
        rows = [scipy.stats.spearmanr(distance[i], tree.distances[i]).statistic for i in range(n)]
        correlations.setdefault(n, []).extend(rows)
        of_depths.setdefault(n, []).append(scipy.stats.spearmanr(depth, tree.depths).statistic)
    found = score_trees(TREES, distances, depths)
    assert 0.3 < found.uuas < 1
    assert (found.uuas, found.root_accuracy) == (right / total, roots / len(TREES))
    means = [float(np.mean([np.mean(one[n]) for n in one if n >= 5])) for one in (correlations, of_depths)]
    assert [found.distance_spearman, found.depth_spearman] == pytest.approx(means)


def test_equal_vectors_still_give_a_spanning_tree():
    assert len(spanning_edges(np.zeros((4, 4)), [False] * 4)) == 3
    assert len(spanning_edges(np.zeros((4, 4)), [False, True, False, True])) == 1
    assert spanning_edges(np.zeros((2, 2)), [True, False]) == frozenset()


def test_probes_find_trees_that_are_in_the_vectors():
    """Every edge is a separate direction, so that squared distances are tree distances; noise hides them."""
    trees = [random_tree(8, seed) for seed in range(120)]
    starts = list(range(0, 8 * len(trees), 8))
    chance = torch.Generator().manual_seed(0)
    vectors = 0.3 * torch.randn(8 * len(trees), 40, generator=chance)
    for tree, start in zip(trees, starts, strict=True):
        for word in tree.order:
            head = tree.heads[word]
            vectors[start + word, :8] = 0 if head == 0 else vectors[start + head - 1, :8]
            vectors[start + word, word] += float(head != 0)
    places = torch.linalg.qr(torch.randn(40, 40, generator=chance)).Q
    split = TreeSplit(Treebank.build(trees, starts, CPU), range(80), range(80, 90), range(90, 120))
    weights = [fit_probe(vectors @ places, split, loss, 8, 0) for loss in (distance_loss, depth_loss)]
    found = score_trees(trees[90:], *predict_trees(vectors @ places, split, *weights))
    assert found.uuas > 0.95
    assert found.root_accuracy > 0.8
    assert min(found.distance_spearman, found.depth_spearman) > 0.85


# Models.


def test_the_vector_of_a_word_is_the_mean_of_its_pieces_in_transformers(tiny_model, tmp_path):
    checkpoint = load_backbone(tiny_model)
    tokenizer = Tokenizer.load(tiny_model)
    sentences = [["the", "quickest", "foxes"], ["jumpy", "dogs", "sat", "on", "unlikely", "mats"]]
    pieces = [WordPieces.encode(tokenizer, words) for words in sentences]
    assert any(len(one.words) > len(words) for one, words in zip(pieces, sentences, strict=True))
    vectors = LayerVectors.write(tmp_path / "layers", checkpoint.network.backbone.eval(), pieces)
    reference = transformers.AutoModel.from_pretrained(tiny_model).eval()
    for i, (one, words) in enumerate(zip(pieces, sentences, strict=True)):
        with torch.no_grad():
            states = reference(torch.tensor([one.input_ids]), output_hidden_states=True).hidden_states
        for layer in range(vectors.num_layers):
            for word in range(len(words)):
                chosen = [one.first + piece for piece, of in enumerate(one.words) if of == word]
                expected = states[layer][0, chosen].mean(0)
                found = vectors.read(layer)[vectors.starts[i] + word]
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def run(model: Path, data: Any, **options: Any) -> StructureResult:
    *steps, last = probe_structure(model, data, device="cpu", **options)
    assert isinstance(last, StructureResult)
    assert all(isinstance(step, StructureScore) for step in steps)
    assert len(steps) == 2 * len(last.layers) * len(last.chain.scores)
    return last


@pytest.fixture
def sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("headway.tasks.inspection.structural_probe.MAX_EPOCHS", 2)
    path = tmp_path / "trees.conllu"
    path.write_text(treebank(30, lengths=range(5, 9)), encoding="utf-8")
    return path


def test_every_layer_is_probed_beside_random_weights_and_a_seed_gives_the_same_result(tiny_model, sentences):
    found = run(tiny_model, sentences, rank=4, seeds=2)
    assert [one.layer for one in found.layers] == [one.layer for one in found.random_layers] == [0, 1, 2]
    assert all(len(one.scores) == 2 for one in (*found.layers, *found.random_layers, found.chain))
    assert found.layers != found.random_layers
    assert 0 < found.chain.mean.uuas < 1
    assert (found.sentences, found.rank, len(found.trees)) == (30, 4, 6)
    for tree in found.trees:
        assert len(tree.gold) == len(tree.words) - 2  # without the full stop
        assert all(len(edges) == len(tree.gold) for edges in tree.predicted)
    again = run(tiny_model, sentences, rank=4, seeds=1)
    assert again.layers[1].scores == found.layers[1].scores[:1]
    assert again.random_layers[1].scores == found.random_layers[1].scores[:1]


def test_sentences_that_cannot_be_probed_are_left_out_and_counted(bert_folder, sentences):
    single = conllu(0).replace("w1", "cat")
    long = conllu(0, *range(1, 600)).replace("\tw", "\tcat")
    sentences.write_text(sentences.read_text() + single + long, encoding="utf-8")
    found = run(bert_folder, sentences, rank=2)
    assert found.sentences == 30
    assert "1 of 32 sentences have one word and are left out" in found.notes
    assert any("1 of 31 sentences are longer than the model's context" in note for note in found.notes)
    assert "20 of 31 sentences, drawn with seed 0 (--examples)" in run(bert_folder, sentences, most=20).notes


@pytest.mark.realdata
def test_trees_emerge_above_the_embeddings_of_minilm_and_not_from_random_weights(minilm, tmp_path):
    """Nearly every word occurs once, so that a probe cannot learn the words of a model with random weights."""
    vocabulary = json.loads((minilm / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    known = [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 5]

    def ending(*ends: str) -> list[str]:
        return [word for word in known if word.endswith(ends)]

    path = tmp_path / "trees.conllu"
    path.write_text(treebank(200, ending("ers"), ending("ed")[:600], ending("ous", "ful", "able")), encoding="utf-8")
    found = run(minilm, path)
    uuas, random = ([one.mean.uuas for one in layers] for layers in (found.layers, found.random_layers))
    assert found.best.layer in (2, 3, 4)
    assert max(uuas) > uuas[0] + 0.1
    assert max(uuas) > uuas[-1] + 0.1
    assert max(uuas) > max(random) + 0.15
