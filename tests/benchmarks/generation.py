"""Generation beside transformers' `generate`: tokens a second for one prompt and for eight.

    python tests/benchmarks/generation.py

GPT-2 in the shape of 124 million parameters with random weights, in fp32, greedy: prompts of 64 tokens, 64 new tokens
each, none of which ends a text. Both sides run in one process, in turn, three times; the table shows medians. Checks
that the tokens are the same, and exits with 1 when a goal is missed.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import that reads it

import torch
from headway.core.checkpoint import load_checkpoint
from headway.core.generation import GenerationConfig, generate_ids
from headway.core.gpt2 import GPT2Config
from headway.core.heads import Network
from headway.core.inference import ready
from machine import describe_machine

PROMPT = 64
NEW = 64
ROUNDS = 3
GOALS = {1: 1.6, 8: 3.0}  # batch size -> how many times as fast


def models(folder: Path) -> tuple[Any, Network]:
    """Transformers' model and ours, with the same random weights."""
    from transformers import GPT2Config as PublishedConfig
    from transformers import GPT2LMHeadModel

    torch.manual_seed(0)
    fields = GPT2Config.named("124M").to_hf()
    GPT2LMHeadModel(PublishedConfig(**fields)).save_pretrained(folder)
    return GPT2LMHeadModel.from_pretrained(folder).eval(), ready(load_checkpoint(folder).network)


def theirs(model: Any, prompts: list[list[int]], new: int) -> list[list[int]]:
    """What transformers adds to the prompts."""
    ids = torch.tensor(prompts)
    model.generation_config.eos_token_id = None
    found = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new, pad_token_id=0
    )
    return found[:, ids.shape[1] :].tolist()


def ours(network: Network, prompts: list[list[int]], new: int) -> list[list[int]]:
    """What Headway adds to the prompts."""
    found = generate_ids(network, prompts, GenerationConfig(max_new_tokens=new))
    return [list(one.token_ids) for (one,) in found]


def timed(side: Any, *given: Any) -> tuple[float, list[list[int]]]:
    """Seconds, and what came out."""
    start = time.perf_counter()
    found = side(*given)
    return time.perf_counter() - start, found


def compare(model: Any, network: Network, size: int) -> bool:
    """One line of the table; whether its goal is met."""
    generator = torch.Generator().manual_seed(size)
    prompts = torch.randint(0, 50256, (size, PROMPT), generator=generator).tolist()
    for side, given in ((theirs, model), (ours, network)):
        side(given, prompts, 4)  # warm up
    seconds: dict[str, list[float]] = {"theirs": [], "ours": []}
    same = True
    for _ in range(ROUNDS):
        their_time, expected = timed(theirs, model, prompts, NEW)
        our_time, found = timed(ours, network, prompts, NEW)
        same &= found == expected
        seconds["theirs"].append(their_time)
        seconds["ours"].append(our_time)
    rates = {name: size * NEW / statistics.median(times) for name, times in seconds.items()}
    ratio = rates["ours"] / rates["theirs"]
    met = same and ratio >= GOALS[size]
    notes = ("" if same else " TOKENS DIFFER") + ("" if met else " MISSED")
    line = f"| {size} | {rates['theirs']:.1f} | {rates['ours']:.1f} | {ratio:.2f} | {GOALS[size]} |{notes}"
    print(line, flush=True)
    return met


def main() -> None:
    """Prints the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"{describe_machine('transformers')}, fp32")
    with tempfile.TemporaryDirectory() as folder:
        model, network = models(Path(folder))
    print("| batch | transformers tokens/s | Headway tokens/s | ratio | goal |\n|---|---|---|---|---|")
    met = [compare(model, network, size) for size in GOALS]
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
