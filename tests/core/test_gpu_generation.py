"""Generation on a GPU gives the texts of the CPU, and waits for the GPU once per token."""

import warnings
from random import Random

import pytest
import torch
from headway.core.generation import beam_search, decoding, sampling
from headway.core.generation.generation import generate_ids
from headway.core.generation.generation_config import GenerationConfig
from headway.core.generation.sampling import filter_logits
from headway.core.models import cache, cache_attention
from headway.core.models.gpt2 import GPT2, GPT2Config
from headway.core.models.heads import Network, language_model_head
from parity import sequences, stir

VOCAB, END = 61, 60
MODULES = (beam_search, decoding, sampling, cache, cache_attention)
OPTIONS = {
    "greedy": {},
    "a penalty": {"repetition_penalty": 1.3},
    "samples": {"temperature": 0.9, "num_return_sequences": 3, "seed": 4},
    "filters": {"top_k": 20, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2, "seed": 1},
    "top-p": {"top_p": 0.8, "temperature": 1.3},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "beams and a penalty": {"num_beams": 4, "repetition_penalty": 1.4, "early_stopping": "yes"},
    "a sliding context": {"context": "slide", "max_new_tokens": 40},
}


def new_network():
    torch.manual_seed(0)
    backbone = GPT2(GPT2Config(vocab_size=VOCAB, max_positions=32, hidden_size=24, num_layers=2, num_heads=3))
    return stir(Network(backbone, language_model_head(backbone))).eval()


@pytest.fixture(scope="module")
def network():
    return new_network()


def prompts(seed, shared=0):
    choose = Random(seed)
    start = sequences([shared], VOCAB, seed)[0] if shared else []
    return [[*start, *rest] for rest in sequences([choose.randint(1, 9) for _ in range(5)], VOCAB, seed + 1)]


def texts(network, given, options):
    config = GenerationConfig(**{"max_new_tokens": 14, **options})
    found = generate_ids(network, given, config, end_of_text_id=END)
    return [[list(one.token_ids) for one in texts] for texts in found], [one.score for texts in found for one in texts]


def as_on_a_gpu(monkeypatch):
    for module in MODULES:
        monkeypatch.setattr(module, "is_asynchronous", lambda _: True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_generation_as_on_a_gpu_gives_the_texts_of_the_cpu(network, monkeypatch, options, seed):
    monkeypatch.setattr(decoding, "MIN_SHARED_PREFIX", 4)
    given = prompts(seed, shared=6 * (seed % 2))
    expected, scores = texts(network, given, options)
    as_on_a_gpu(monkeypatch)
    found, found_scores = texts(network, given, options)
    assert found == expected
    assert found_scores == pytest.approx(scores, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_generation_reads_nothing_from_a_device_but_the_chosen_tokens(monkeypatch, options):
    choose, reads = Random(0), []

    def read(tokens, scores):
        """On the meta device: any tokens, the best first."""
        assert tokens.is_meta
        assert scores.is_meta
        reads.append(len(tokens))
        return choose.choices(range(VOCAB), k=len(tokens)), sorted((-choose.random() for _ in tokens), reverse=True)

    for module in (decoding, beam_search):
        monkeypatch.setattr(module, "read_tokens", read)
    monkeypatch.setattr(sampling, "HAVE_FLOAT64", ("meta",))
    config = GenerationConfig(**{"max_new_tokens": 9, **options})
    generate_ids(new_network().to("meta"), prompts(0), config, end_of_text_id=END)
    assert len(reads) <= config.max_new_tokens


@pytest.mark.parametrize("scores", [[0.5, -1e-30, float("-inf")], [-123.456]])
def test_tokens_and_scores_are_read_exactly_in_one_transfer(monkeypatch, scores):
    tokens, scores = torch.arange(2**24 + 1, 2**24 + 1 + len(scores)), torch.tensor(scores)
    expected = decoding.read_tokens(tokens, scores)
    monkeypatch.setattr(decoding, "is_asynchronous", lambda _: True)
    assert decoding.read_tokens(tokens, scores) == expected == (tokens.tolist(), scores.tolist())


@pytest.mark.parametrize("top_p", [0.1, 0.9, 0.999])
def test_top_p_of_the_whole_vocabulary_keeps_the_tokens_that_the_first_candidates_give(monkeypatch, top_p):
    logits = torch.randn(6, 3000, generator=torch.Generator().manual_seed(0)) * 4
    expected = filter_logits(logits, GenerationConfig(top_p=top_p))
    monkeypatch.setattr(sampling, "is_asynchronous", lambda _: True)
    assert torch.equal(filter_logits(logits, GenerationConfig(top_p=top_p)), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_generation_on_a_gpu_gives_the_texts_of_the_cpu(network, options):
    given = prompts(3)
    assert texts(new_network().to("cuda"), given, options)[0] == texts(network, given, options)[0]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_generation_waits_for_a_gpu_once_per_token(options, dtype):
    there = new_network().to("cuda", dtype)
    config = GenerationConfig(**{"max_new_tokens": 9, **options})
    generate_ids(there, prompts(1), config)  # the first run loads kernels
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            generate_ids(there, prompts(2), config)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [str(one.message) for one in caught if "called a synchronizing" in str(one.message)]
    assert 0 < len(waits) <= config.max_new_tokens
