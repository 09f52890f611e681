"""Label likelihoods are those of a plain loop over transformers, whatever is cached, shared and batched."""

import random

import numpy as np
import pytest
import torch
import transformers
from headway.core.checkpoints.checkpoint import load_checkpoint
from headway.core.errors import HeadwayError
from headway.core.models.gpt2 import GPT2, GPT2Config
from headway.core.models.heads import Network
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks.language_modeling.loading import load_language_model
from headway.tasks.prompting import forward_passes
from headway.tasks.prompting.calibration import calibrate, independent_probabilities, probabilities
from headway.tasks.prompting.forward_passes import Context, ForwardPasses, Query
from headway.tasks.prompting.label_scores import label_log_likelihoods

VOCAB = 41


def published(folder, vocab_size=VOCAB, **changes):
    """A tiny GPT-2 of transformers, saved, whose large weights give peaked distributions."""
    sizes = {"vocab_size": vocab_size, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 96}
    special = {"bos_token_id": 0, "eos_token_id": 0, "attn_implementation": "eager"}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**sizes, **special, **changes})).eval()
    generator = torch.Generator().manual_seed(len(changes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3, generator=generator)
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(transformers' model, ours)."""
    folder = tmp_path_factory.mktemp("gpt2")
    return published(folder), load_checkpoint(folder).network


@torch.inference_mode()
def likelihood(theirs, before, label):
    """The log-likelihood of a label by one forward pass over the whole sequence."""
    logits = theirs(torch.tensor([[*before, *label]])).logits[0].log_softmax(-1)
    return sum(float(logits[len(before) + i - 1, token]) for i, token in enumerate(label))


def ids(choose, most, least=0):
    return tuple(choose.randrange(VOCAB) for _ in range(choose.randint(least, most)))


def some_labels(choose):
    """Labels of one to four tokens; some share a prefix, and some are a prefix of another."""
    labels = [ids(choose, 4, 1) for _ in range(choose.randint(1, 4))]
    for label in list(labels):
        labels.append(label[: choose.randint(1, len(label))] + ids(choose, 2))
    return tuple(dict.fromkeys(labels))


def some_contexts(choose):
    shared = some_labels(choose)
    return [
        Context(
            ids(choose, 9) if choose.random() < 0.8 else (),
            tuple(
                Query(ids(choose, 7, 1), shared if choose.random() < 0.7 else some_labels(choose))
                for _ in range(choose.randint(0, 4))
            ),
        )
        for _ in range(choose.randint(1, 4))
    ]


@pytest.mark.parametrize("seed", range(40))
def test_likelihoods_are_those_of_a_plain_loop_over_transformers_logits(pair, seed, monkeypatch):
    theirs, network = pair
    choose = random.Random(seed)
    contexts = some_contexts(choose)
    monkeypatch.setattr(forward_passes, "MAX_LOGITS", choose.choice([1, 3 * VOCAB, 2**20]))
    found = label_log_likelihoods(network, contexts, batch_tokens=choose.choice([1, 6, 30, 2048]))
    for context, of_context in zip(contexts, found, strict=True):
        for query, scores in zip(context.queries, of_context, strict=True):
            before = context.input_ids + query.input_ids
            expected = [likelihood(theirs, before, label) for label in query.labels]
            assert scores == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("seed", range(10))
def test_a_shared_context_changes_nothing(pair, seed):
    _, network = pair
    choose = random.Random(seed)
    before = ids(choose, 20, 5)
    queries = [Query(ids(choose, 7, 1), some_labels(choose)) for _ in range(12)]
    (shared,) = label_log_likelihoods(network, [Context(before, tuple(queries))], batch_tokens=40)
    whole = [Query(before + query.input_ids, query.labels) for query in queries]
    (alone,) = label_log_likelihoods(network, [Context((), tuple(whole))])
    for one, other in zip(shared, alone, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_single_token_labels_need_no_extra_pass_and_shared_prefixes_are_computed_once(pair, monkeypatch):
    _, network = pair
    read = []
    plain = ForwardPasses.forward

    def spy(scorer, cache, sequences):
        read.append([list(sequence) for sequence in sequences])
        return plain(scorer, cache, sequences)

    monkeypatch.setattr(ForwardPasses, "forward", spy)
    label_log_likelihoods(network, [Context((1, 2), (Query((3,), ((4,), (5,))),) * 3)])
    assert read == [[[1, 2]], [[3]] * 3]
    read.clear()
    labels = ((7, 8, 9), (7, 8), (7, 5), (6, 7), (4,))
    label_log_likelihoods(network, [Context((1, 2), (Query((3,), labels),) * 2)])
    assert read == [[[1, 2]], [[3]] * 2, [[6]] * 2, [[7, 8]] * 2]


def test_the_head_is_applied_to_the_needed_positions_only(pair):
    _, network = pair
    rows = []
    hook = network.head.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    label_log_likelihoods(network, [Context((1,) * 30, (Query((2,) * 9, ((3,), (4, 5), (4, 6))),) * 5)])
    hook.remove()
    assert rows == [5, 5]  # one per query, and one per query after token 4


def test_no_forward_pass_exceeds_its_token_budget(pair, monkeypatch):
    _, network = pair
    sizes = []
    plain = ForwardPasses.forward

    def spy(scorer, cache, sequences):
        sizes.append(len(sequences) * max(map(len, sequences)))
        return plain(scorer, cache, sequences)

    monkeypatch.setattr(ForwardPasses, "forward", spy)
    choose = random.Random(0)
    queries = tuple(Query(ids(choose, 12, 1), ((1, 2, 3), (2, 1), (3,))) for _ in range(200))
    label_log_likelihoods(network, [Context((5, 6), queries)], batch_tokens=64)
    assert len(sizes) > 20
    assert max(sizes) <= 64


def test_a_network_without_a_language_model_head_is_rejected():
    bare = Network(GPT2(GPT2Config.named("tiny", vocab_size=9))).eval()
    with pytest.raises(HeadwayError, match="language-model head"):
        label_log_likelihoods(bare, [Context((), (Query((1,), ((2,), (3,))),))])


# -- calibration


def test_probabilities_sum_to_one_and_are_length_normalized_on_request():
    scores = np.log([[0.2, 0.05, 0.1]])
    assert probabilities(scores)[0] == pytest.approx(np.array([0.2, 0.05, 0.1]) / 0.35)
    by_mean = probabilities(scores, [1, 2, 1])[0]
    assert by_mean == pytest.approx(np.array([0.2, 0.05**0.5, 0.1]) / (0.3 + 0.05**0.5))


@pytest.mark.parametrize("seed", range(30))
def test_calibration_divides_by_the_prior_and_decides_for_two_labels_as_subtraction_does(seed):
    generator = np.random.default_rng(seed)
    scores = generator.dirichlet([1, 1], size=20)
    prior = generator.dirichlet([1, 1])
    found = calibrate(scores, prior)
    weighed = scores @ np.diag(1 / prior)  # Zhao et al.: W = diag(p)^-1
    assert found == pytest.approx(weighed / weighed.sum(-1, keepdims=True))
    assert (found.argmax(-1) == (scores - prior).argmax(-1)).all()


def test_a_label_applies_if_the_text_makes_it_more_likely_than_its_prior():
    scores, prior = np.array([[0.5, 0.3, 0.2]]), np.array([0.6, 0.2, 0.2])
    assert (independent_probabilities(scores, prior) >= 0.5).tolist() == [[False, True, True]]
    assert (independent_probabilities(scores) >= 0.5).tolist() == [[True, False, False]]
    assert np.isfinite(calibrate(np.array([[0.0, 1.0]]), np.array([0.0, 1.0]))).all()


# -- models


def test_every_tied_gpt2_is_a_language_model_whatever_its_head(tmp_path, byte_level_folder):
    vocab_size = Tokenizer.load(byte_level_folder).vocab_size
    published(tmp_path / "lm", vocab_size)
    whole = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "lm")
    whole.transformer.save_pretrained(tmp_path / "base")
    transformers.GPT2ForSequenceClassification.from_pretrained(tmp_path / "lm").save_pretrained(tmp_path / "labels")
    found = []
    for name in ("lm", "base", "labels"):
        Tokenizer.load(byte_level_folder).save(tmp_path / name)
        network, _ = load_language_model(tmp_path / name)
        found.append(label_log_likelihoods(network, [Context((5,), (Query((6,), ((7, 8), (9,))),))]))
    assert found[0] == found[1] == found[2]


def test_a_model_that_is_not_a_language_model_is_rejected(tmp_path, byte_level_folder, bert_folder):
    with pytest.raises(HeadwayError, match=r"is a BERT.*needs a GPT-2"):
        load_language_model(bert_folder)
    with pytest.raises(HeadwayError, match="There is no model"):
        load_language_model(tmp_path / "nowhere")
    vocab_size = Tokenizer.load(byte_level_folder).vocab_size
    published(tmp_path / "untied", vocab_size, tie_word_embeddings=False).transformer.save_pretrained(
        tmp_path / "bare"
    )
    Tokenizer.load(byte_level_folder).save(tmp_path / "bare")
    with pytest.raises(HeadwayError, match="has no language-model head"):
        load_language_model(tmp_path / "bare")
    published(tmp_path / "small")
    Tokenizer.load(byte_level_folder).save(tmp_path / "small")
    with pytest.raises(HeadwayError, match="do not belong together"):
        load_language_model(tmp_path / "small")
