"""Filters equal the processors of transformers, and samples follow the probabilities."""

from random import Random

import pytest
import torch
from headway.core.generation.generation_config import GenerationConfig
from headway.core.generation.sampling import filter_logits, penalize, sample
from transformers.generation import logits_process


def processors(config):
    """The same filters as processors of transformers, in its order."""
    made = []
    if config.temperature is not None:
        made.append(logits_process.TemperatureLogitsWarper(float(config.temperature)))
    if config.top_k is not None:
        made.append(logits_process.TopKLogitsWarper(config.top_k))
    if config.top_p is not None:
        made.append(logits_process.TopPLogitsWarper(config.top_p))
    if config.min_p is not None:
        made.append(logits_process.MinPLogitsWarper(config.min_p))
    return logits_process.LogitsProcessorList(made)


@pytest.mark.parametrize("vocab", [7, 300, 5000])
@pytest.mark.parametrize("seed", range(60))
def test_filters_equal_those_of_transformers_on_random_logits(vocab, seed):
    choose = Random(seed)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, vocab, generator=generator) * choose.choice([0.1, 1.0, 4.0])
    config = GenerationConfig(
        temperature=choose.choice([0.3, 1.0, 2.5]),
        top_k=choose.choice([None, 1, 3, 40, 600, 10_000]),
        top_p=choose.choice([None, 0.01, 0.5, 0.95, 1.0]),
        min_p=choose.choice([None, 0.001, 0.2, 1.0]),
    )
    before = logits.clone()
    torch.testing.assert_close(filter_logits(logits, config), processors(config)(None, logits), rtol=0, atol=0)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.3])
def test_the_repetition_penalty_equals_that_of_transformers(penalty):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 50, generator=generator)
    ids = torch.randint(0, 50, (5, 20), generator=generator)
    seen = torch.zeros(5, 50, dtype=torch.bool).scatter(1, ids, True)
    expected = logits_process.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits)
    torch.testing.assert_close(penalize(logits, seen, penalty), expected, rtol=0, atol=0)


def test_samples_follow_the_probabilities_and_are_never_excluded_tokens():
    logits = torch.tensor([[0.0, -torch.inf, 1.0, -torch.inf, 2.0, -torch.inf]])
    choose = Random(0)
    numbers = [choose.random() for _ in range(20_000)] + [0.0, 1 - 2**-53]
    tokens = sample(logits.expand(len(numbers), -1), numbers)
    shares = torch.bincount(tokens, minlength=6) / len(numbers)
    torch.testing.assert_close(shares, logits[0].softmax(0), rtol=0, atol=0.01)
    assert shares[1] == shares[3] == shares[5] == 0
    assert tokens[-2:].tolist() == [0, 4]
