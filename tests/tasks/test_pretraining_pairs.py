"""Pairs of segments in pretraining: ALBERT's order, and pairs with more special tokens than BERT's."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from headway.core.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from headway.core.models.heads import Network, language_model_head
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.core.training.training_config import TrainConfig
from headway.tasks import FillMask, load
from headway.tasks.data.corpus import Corpus, open_documents
from model_folders import make_folder

CONFIG = TrainConfig(precision="fp32", device="cpu", save_steps=1000, learning_rate=2e-3, batch_size=8)
DOCUMENTS = ["the cat sat on the mat " * 6, "my parcel has not arrived " * 6, "quick brown fox " * 9]


@pytest.fixture
def albert(unigram_tokenizer_folder: Path, tmp_path: Path) -> Path:
    """A published ALBERT with both heads of its pretraining."""
    backbone = load_checkpoint(make_folder("albert", unigram_tokenizer_folder, tmp_path)).network.backbone
    save_checkpoint(tmp_path, Network(backbone, language_model_head(backbone, True)))
    return tmp_path


def write_corpus(
    task: FillMask, tokenizer: Tokenizer, path: Path, given: list[str] = DOCUMENTS, limit: int = 48
) -> Corpus:
    documents = open_documents(given, {}, task)
    return Corpus.write(path, documents.read(), task, tokenizer, limit=limit, held_out=False)


def test_the_second_head_of_albert_learns_the_order_of_two_segments(albert: Path, tmp_path: Path):
    task = FillMask(next_sentence=True, mask_probability=0.01, sentence_order=True)
    tokenizer = Tokenizer.load(albert)
    corpus, in_order = write_corpus(task, tokenizer, tmp_path / "tokens"), 0
    for seed in range(60):
        for i, group in enumerate(corpus):
            (one,) = task.corrupt(group, seed)
            ids = list(one.input_ids)
            for place, token in zip(one.target.positions, one.target.ids, strict=True):
                ids[place] = token
            whole = corpus.ids_of(i)
            cuts = range(1, len(whole))
            orders = [(whole[:cut], whole[cut:]) for cut in cuts if one.target.is_next]
            orders += [(whole[cut:], whole[:cut]) for cut in cuts if not one.target.is_next]
            assert any(tokenizer.join(*order)[0] == ids for order in orders)
            in_order += one.target.is_next
    assert in_order / (60 * len(corpus)) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("starts_with_head", [True, False], ids=["its head", "a new head"])
def test_the_losses_of_albert_are_those_of_transformers(albert: Path, tmp_path: Path, starts_with_head: bool):
    if not starts_with_head:
        save_checkpoint(albert, Network(load_checkpoint(albert, head=None).network.backbone))
    model = FillMask(next_sentence=True).on(albert)
    model.fit(DOCUMENTS * 4, output=tmp_path / "model", config=CONFIG, max_steps=2)
    opened = load(tmp_path / "model")
    assert opened.task == model.task
    assert opened.task.sentence_order
    corpus = write_corpus(opened.task, model.tokenizer, tmp_path / "tokens")
    features = opened.task.corrupt([one for group in corpus for one in group], 0)
    total, count = opened.task.loss(opened.network(opened.task.pack(features)), opened.task.targets(features))
    theirs = transformers.AlbertForPreTraining.from_pretrained(tmp_path / "model").eval()
    expected = 0.0
    for one in features:
        labels = torch.full((1, len(one.input_ids)), -100)
        labels[0, one.target.positions] = torch.tensor(one.target.ids)
        given = {"input_ids": torch.tensor([one.input_ids]), "token_type_ids": torch.tensor([one.segment_ids])}
        order = torch.tensor([0 if one.target.is_next else 1])  # 1: they have changed places
        with torch.no_grad():
            expected += theirs(**given, labels=labels, sentence_order_label=order).loss.item() * len(one.target.ids)
    assert total.item() / count == pytest.approx(expected / count, abs=1e-5)


def test_a_published_albert_with_both_heads_is_known_by_its_order(albert: Path):
    model = load(albert)
    assert (model.task.next_sentence, model.task.sentence_order) == (True, True)
    assert model.predict("the [MASK] sat").masks
    assert 0 <= model.evaluate(DOCUMENTS).metrics["next_sentence_accuracy"] <= 1


def test_a_pair_with_four_special_tokens_is_not_longer_than_the_model_reads(
    unigram_tokenizer_folder: Path, tmp_path: Path
):
    """The layout of the multilingual sentence models: a BERT whose pairs are `<s> a </s></s> b </s>`."""
    tokenizer = Tokenizer.load(unigram_tokenizer_folder)
    assert tokenizer.num_special(pair=True) == 4
    folder = make_folder("bert", unigram_tokenizer_folder, tmp_path)
    model = FillMask(next_sentence=True).on(folder)
    given = ["the " * count for count in range(30, 100)]
    corpus = write_corpus(model.task, tokenizer, tmp_path / "tokens", given, model.limit)
    lengths = [len(one.input_ids) for group in corpus for one in model.task.corrupt(group, 0)]
    assert max(lengths) == max(corpus.lengths) == load_checkpoint(folder).network.config.max_positions
    model.fit(given, eval_fraction=0, config=replace(CONFIG, max_steps=1))
