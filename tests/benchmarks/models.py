"""Speed and memory of the published sizes on this machine, for docs/models.md.

    python tests/benchmarks/models.py

Every size has random weights and the vocabulary of its family; a fresh process measures it. Prediction: 512 texts of 8
to 56 tokens (32 on average), from token ids to logits, in fp32 and in bf16. Training: a step of AdamW on about 1,000
such tokens in fp32, with a head for two labels. Each is the fastest of three turns on one thread, in seconds of the
processor, which other processes hardly change; two cores take about half the time. Memory is the process's peak.
"""

import json
import random
import resource
import subprocess
import sys
import time
from dataclasses import replace

import torch
from headway.core.checkpoints.families.registry import FAMILIES
from headway.core.cpu import use_available_cores
from headway.core.inference.inference import prepare_for_inference
from headway.core.models.heads import Network, SequenceHead, new_backbone
from headway.core.models.packing import BatchSampler, PackedBatch
from machine import describe_machine

# Layers, hidden size -> family, and what else differs.
SHAPES = {
    "6 x 384": ("bert", 6, 384, {}),
    "12 x 256": ("electra", 12, 256, {"embedding_size": 128}),
    "12 x 384": ("bert", 12, 384, {"vocab_size": 250037}),
    "6 x 768": ("distilbert", 6, 768, {}),
    "12 x 768": ("roberta", 12, 768, {"num_segments": 1}),
    "24 x 1,024": ("roberta", 24, 1024, {"num_segments": 1}),
}
TEXTS, TURNS, TRAINING_TOKENS = 512, 3, 1024


def texts(vocabulary: int) -> list[list[int]]:
    chance = random.Random(0)
    return [[chance.randrange(vocabulary) for _ in range(chance.randint(8, 56))] for _ in range(TEXTS)]


def best_of(run) -> float:
    """The seconds of the fastest turn."""
    seconds = []
    for _ in range(TURNS):
        began = time.process_time()
        run()
        seconds.append(time.process_time() - began)
    return min(seconds)


def measure(shape: str, what: str) -> dict[str, float]:
    """Texts per second (prediction) or tokens per second (training), and the peak memory in MB."""
    family, layers, size, changes = SHAPES[shape]
    use_available_cores()
    torch.set_num_threads(1)
    sizes = {"num_layers": layers, "hidden_size": size, "num_heads": size // 64, "intermediate_size": 4 * size}
    config = replace(FAMILIES[family].config, **{**sizes, **changes})
    network = Network(new_backbone(config), SequenceHead(config, 2))
    sequences = texts(config.vocab_size)
    if what == "training":
        kept = sequences[: TRAINING_TOKENS // 32]
        batch = PackedBatch.pack(kept)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(batch), torch.zeros(len(kept), dtype=torch.long)).backward()
            optimizer.step()

        rate = sum(map(len, kept)) / best_of(step)
    else:
        prepared = prepare_for_inference(network.eval(), what)
        batches = [
            PackedBatch.pack([sequences[i] for i in indices])
            for indices in BatchSampler(list(map(len, sequences)), batch_tokens=2048).by_length()
        ]

        @torch.inference_mode()
        def predict() -> None:
            for one in batches:
                prepared(one)

        rate = TEXTS / best_of(predict)
    return {"rate": rate, "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    print(describe_machine())
    print("| Layers x hidden size | Texts/s, fp32 | Texts/s, bf16 | Training, tokens/s | Training, peak GB |")
    print("|---|---|---|---|---|")
    for shape in SHAPES:
        found = {}
        for what in ("fp32", "bf16", "training"):
            ran = subprocess.run([sys.executable, __file__, shape, what], capture_output=True, text=True, check=True)
            found[what] = json.loads(ran.stdout)
        rates = " | ".join(f"{found[what]['rate']:,.0f}" for what in ("fp32", "bf16", "training"))
        print(f"| {shape} | {rates} | {found['training']['MB'] / 1024:.1f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(*sys.argv[1:])))
    else:
        main()
