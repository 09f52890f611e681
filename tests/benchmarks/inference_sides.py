"""One side of tests/benchmarks/inference.py, which starts this file anew for every turn.

Reads what is to be done as JSON from the command line, does it, writes what came out beside it and prints what was
measured as JSON. Nothing but the chosen side is imported, so that nobody's threads or memory stand in another's way.

Shapes: C hidden size, I intermediate size, L layers.
"""

import csv
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import that reads it

import numpy as np
import torch
from sides import DATA, fixed_part, minilm

BATCH = 32  # of the sides that pad
LIMIT = 256  # tokens
PROMPT, NEW = 64, 64  # tokens
WALL_ROWS = (256, 1024, 4096)
FEWEST = 600  # rows to fine-tune on in a trial: all labels are among them
READ = 2**28  # numbers: 1 GiB, far more than any cache
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Job:
    """What one process does."""

    part: str
    side: str
    precision: str
    work: str  # a data set, a batch size or a model
    rows: int  # at most
    repeats: int
    cache: str  # the folder with the models
    outputs: str  # the .npy file for what comes out


# -- what both sides read


def texts_of(name: str, most: int) -> list[str]:
    """Texts in the order of their file."""
    if name == "movie_reviews":
        lines = (DATA / name / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["text"] for line in lines[:most]]
    lines = (DATA / name / "dev.tsv").read_text(encoding="utf-8").splitlines()[:most]
    return [line.split("\t")[0] for line in lines]


def sst2_rows(part: str, most: int) -> list[dict[str, str]]:
    """Rows with text and label."""
    lines = (DATA / "sst2" / f"{part}.tsv").read_text(encoding="utf-8").splitlines()
    return [dict(zip(("text", "label"), line.split("\t"), strict=True)) for line in fixed_part(lines, most)]


def wnut17_rows(part: str, most: int) -> list[dict[str, list[str]]]:
    """Rows with words and tags."""
    found: list[dict[str, list[str]]] = [{"tokens": [], "ner_tags": []}]
    for line in (DATA / "wnut17" / f"{part}.conll").read_text(encoding="utf-8").split("\n"):
        if not line.strip():
            found.append({"tokens": [], "ner_tags": []})
            continue
        word, tag = line.split("\t")
        found[-1]["tokens"].append(word)
        found[-1]["ner_tags"].append(tag.strip())
    return fixed_part([one for one in found if one["tokens"]], most)


def stsb_rows(part: str, most: int) -> list[dict[str, Any]]:
    """Pairs with scores."""
    with (DATA / "stsb" / f"{part}.csv").open(encoding="utf-8", newline="") as file:
        rows = [{"text": row[0], "pair": row[1], "score": float(row[2])} for row in csv.reader(file)]
    return fixed_part(rows, most)


def token_ids(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """The token ids that every side of a classification gets."""
    from headway.core.tokenizers.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    return [tokenizer.join(ids[: LIMIT - 2])[0] for ids in tokenizer.encode_ids(texts)]


def prompts_of(size: int) -> list[list[int]]:
    """Random prompts for a batch of this size."""
    draw = torch.Generator().manual_seed(size)
    return torch.randint(0, 50256, (size, PROMPT), generator=draw).tolist()


def padded_batches(sequences: Sequence[Sequence[int]], pad: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of 32 in their order: ids and mask."""
    for start in range(0, len(sequences), BATCH):
        part = sequences[start : start + BATCH]
        ids = np.full((len(part), max(map(len, part))), pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, one in enumerate(part):
            ids[row, : len(one)], mask[row, : len(one)] = one, 1
        yield ids, mask


# -- what is measured


def timed(job: Job, work: Callable[[], Any]) -> tuple[float, Any]:
    """The median of the seconds that some work takes, once warm, and what came of it."""
    found = work()
    seconds = []
    for _ in range(job.repeats):
        began = time.perf_counter()
        found = work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), found


def flops(config: Any, lengths: Sequence[int]) -> float:
    """Multiplications and additions of the layers' matrix products and of attention."""
    per_token = 2 * config.num_layers * (4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size)
    attention = 4 * config.num_layers * config.hidden_size
    return sum(n * per_token + n * n * attention for n in lengths)


def matrix_rate(config: Any, precision: str) -> float:
    """Operations a second of a layer's four products and nothing else, at the best number of rows: the wall."""
    from headway.core.inference.linears import Int8Linear, PackedLinear

    size, wide = config.hidden_size, config.intermediate_size
    shapes = [(size, 3 * size), (size, size), (size, wide), (wide, size)]
    best = 0.0
    for rows in WALL_ROWS:
        work = []
        for inputs, outputs in shapes:
            linear, x = torch.nn.Linear(inputs, outputs), torch.randn(rows, inputs)
            if precision == "int8":
                packed = Int8Linear(linear, "none").weight
                work.append(lambda x=x, packed=packed: torch.ops.quantized.linear_dynamic(x, packed))
            else:
                layer, x = PackedLinear(linear, "none", DTYPES[precision]), x.to(DTYPES[precision])
                work.append(lambda x=x, layer=layer: layer(x))
        operations = sum(2 * rows * inputs * outputs for inputs, outputs in shapes)
        best = max(best, operations / fastest(lambda work=work: [one() for one in work]))
    return best


def read_rate() -> float:
    """Bytes a second of reading memory once: the wall."""
    numbers = torch.ones(READ)
    square = numbers.view(2**14, -1)
    vector = torch.ones(square.shape[1])
    return 4 * READ / min(fastest(numbers.sum, 3), fastest(lambda: torch.mv(square, vector), 3))


def fastest(work: Callable[[], Any], times: int = 10) -> float:
    """Seconds of the fastest of several times."""
    work()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


# -- classification


@torch.inference_mode()
def classify(job: Job) -> dict[str, Any]:
    """Logits of token ids, in batches as each side makes them."""
    model, data = ("sst2", job.work) if job.part == "classification" else (job.work, "sst2")
    folder = Path(job.cache) / model
    sequences = token_ids(folder, texts_of(data, job.rows))
    sides = {"headway": _classify_ours, "transformers": _classify_transformers, "onnxruntime": _classify_onnx}
    work, more = sides[job.side](job, folder, sequences)
    seconds, found = timed(job, work)
    np.save(job.outputs, found)
    return {"seconds": seconds, "tokens": sum(map(len, sequences)), **more()}


def _classify_ours(job: Job, folder: Path, sequences: Sequence[list[int]]) -> Any:
    from headway.core.checkpoints.checkpoint import load_checkpoint
    from headway.core.inference.inference import prepare_for_inference
    from headway.core.models.packing import BatchSampler, PackedBatch
    from headway.tasks.data.features import INFERENCE_BATCH_TOKENS

    network = load_checkpoint(folder).network
    network = network if job.precision == "plain" else prepare_for_inference(network, job.precision)
    lengths = [len(one) for one in sequences]

    def work() -> np.ndarray:
        found = torch.empty(len(sequences), 2)
        for indices in BatchSampler(lengths, batch_tokens=INFERENCE_BATCH_TOKENS).by_length():
            found[indices] = network(PackedBatch.pack([sequences[i] for i in indices])).float()
        return found.numpy()

    def walls() -> dict[str, float]:
        if job.precision == "plain":
            return {}
        return {"flops": flops(network.config, lengths), "wall": matrix_rate(network.config, job.precision)}

    return work, walls


def _classify_transformers(job: Job, folder: Path, sequences: Sequence[list[int]]) -> Any:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=DTYPES[job.precision]).eval()

    def work() -> np.ndarray:
        batches = padded_batches(sequences, model.config.pad_token_id)
        found = [
            model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits
            for ids, mask in batches
        ]
        return torch.cat(found).float().numpy()

    return work, dict


def _classify_onnx(job: Job, folder: Path, sequences: Sequence[list[int]]) -> Any:
    import onnxruntime

    file = folder.with_name("sst2.int8.onnx" if job.precision == "int8" else "sst2.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def work() -> np.ndarray:
        return np.concatenate(
            [
                session.run(
                    ["logits"], {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
                )[0]
                for ids, mask in padded_batches(sequences)
            ]
        )

    return work, dict


# -- embedding


def embed(job: Job) -> dict[str, Any]:
    """Vectors of texts, from the texts on."""
    texts = texts_of(job.work, job.rows)
    lengths = [len(one) for one in token_ids(minilm(), texts)]
    more: dict[str, float] = {}
    if job.side == "headway":
        from headway.tasks import Embedder

        embedder = Embedder(minilm(), precision=job.precision, long_texts="cut")  # as on the other side
        seconds, found = timed(job, lambda: embedder.embed(texts))
        config = embedder.backbone.config
        more = {"flops": flops(config, lengths), "wall": matrix_rate(config, job.precision)}
    else:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(minilm()), device="cpu").to(DTYPES[job.precision])
        seconds, found = timed(
            job, lambda: model.encode(texts, batch_size=BATCH, convert_to_tensor=True).float().numpy()
        )
    np.save(job.outputs, found)
    return {"seconds": seconds, "tokens": sum(lengths), **more}


# -- generation


def generate(job: Job) -> dict[str, Any]:
    """New tokens of random prompts; greedy, and none of them ends a text."""
    prompts = prompts_of(int(job.work))
    sides = {
        "headway": _generate_ours, "transformers": _generate_transformers, "ctranslate2": _generate_ctranslate2
    }  # fmt: skip
    work, more = sides[job.side](job, prompts)
    seconds, found = timed(job, work)
    np.save(job.outputs, np.array(found))
    return {"seconds": seconds, "tokens": len(prompts) * NEW, **more()}


def _generate_ours(job: Job, prompts: list[list[int]]) -> Any:
    from headway.core.checkpoints.checkpoint import load_checkpoint
    from headway.core.generation.generation import generate_ids
    from headway.core.generation.generation_config import GenerationConfig
    from headway.core.inference.inference import prepare_for_inference

    plain = load_checkpoint(Path(job.cache) / "gpt2").network
    network = prepare_for_inference(plain, job.precision)
    products = sum(part.weight.numel() for part in plain.modules() if isinstance(part, torch.nn.Linear))

    def work() -> list[list[int]]:
        found = generate_ids(network, prompts, GenerationConfig(max_new_tokens=NEW))
        return [list(one.token_ids) for (one,) in found]

    # Every matrix is read once for each new token.
    return work, lambda: {"read": products * BYTES[job.precision] * NEW, "wall": read_rate()}


def _generate_transformers(job: Job, prompts: list[list[int]]) -> Any:
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(Path(job.cache) / "gpt2", dtype=DTYPES[job.precision]).eval()
    model.generation_config.eos_token_id = None
    ids = torch.tensor(prompts)

    def work() -> list[list[int]]:
        found = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW, pad_token_id=0
        )
        return found[:, PROMPT:].tolist()

    return work, dict


def _generate_ctranslate2(job: Job, prompts: list[list[int]]) -> Any:
    import ctranslate2

    kind = {"fp32": "float32", "int8": "int8"}[job.precision]
    model = ctranslate2.Generator(
        str(Path(job.cache) / "gpt2-ctranslate2"), compute_type=kind, intra_threads=torch.get_num_threads()
    )
    tokens = [[str(token) for token in one] for one in prompts]

    def work() -> list[list[int]]:
        found = model.generate_batch(
            tokens, max_length=NEW, min_length=NEW, sampling_topk=1, include_prompt_in_result=False
        )
        return [one.sequences_ids[0] for one in found]

    return work, dict


# -- scores, memory


def score(job: Job) -> dict[str, Any]:
    """The figure of a task that Headway evaluates in a precision."""
    from headway.tasks import load

    folders = {"stsb": minilm()}
    parts = {"sst2": ("dev", sst2_rows), "wnut17": ("dev", wnut17_rows), "stsb": ("test", stsb_rows)}
    part, rows_of = parts[job.work]
    model = load(folders.get(job.work, Path(job.cache) / job.work))
    model.precision = job.precision
    found = model.evaluate(rows_of(part, job.rows)).metrics
    name = "f1" if job.work == "wnut17" else next(iter(found))
    return {"figure": name, "score": found[name]}


def remember(job: Job) -> dict[str, Any]:
    """MB at most while a model is opened, readied and asked once, beyond what the imports took."""
    from headway.core.checkpoints.checkpoint import load_checkpoint
    from headway.core.generation.generation import generate_ids
    from headway.core.generation.generation_config import GenerationConfig
    from headway.core.inference.inference import load_for_inference
    from headway.core.inference.linears import PackedLinear
    from headway.tasks import load

    folder = Path(job.cache) / job.work
    PackedLinear(torch.nn.Linear(64, 64), "none", torch.float32)(torch.zeros(64, 64))  # starts the threads
    before, held_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, held()
    checkpoint = load_checkpoint(folder, filled=False)
    count = sum(parameter.numel() for parameter in checkpoint.network.parameters())
    if job.work == "gpt2":
        network = load_for_inference(checkpoint, job.precision, torch.device("cpu"))
        generate_ids(network, prompts_of(1), GenerationConfig(max_new_tokens=4))
    else:
        model = load(folder)
        model.precision = job.precision
        model.predict("a lovely film")
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"peak": peak, "held": held() - held_before, "weights": count * BYTES[job.precision] / 2**20}


def held() -> float:
    """MB of its own that the process holds now, without files that are only mapped."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


# -- the models, made once


def prepare(job: Job) -> dict[str, Any]:
    """Makes the model of that name in the cache: fine-tuned with Headway, exported, or drawn at random."""
    cache = Path(job.cache)
    made = {
        "sst2": _fine_tune, "wnut17": _fine_tune, "onnx": _export, "gpt2": _draw_gpt2, "ctranslate2": _convert,
        "bert": _draw_encoder, "distilbert": _draw_encoder, "roberta": _draw_encoder,
    }  # fmt: skip
    cache.mkdir(parents=True, exist_ok=True)
    made[job.work](job, cache)
    return {}


def _fine_tune(job: Job, cache: Path) -> None:
    from headway.tasks import TextClassification, TokenClassification

    if (cache / job.work).exists():
        return
    task, rows, epochs = {
        "sst2": (TextClassification(), sst2_rows, 1),
        "wnut17": (TokenClassification(), wnut17_rows, 3),
    }[job.work]
    most = max(job.rows, FEWEST)
    task.on(minilm()).fit(
        rows("train", most), rows("dev", most), output=cache / job.work, epochs=epochs, learning_rate=2e-4
    )


def _export(job: Job, cache: Path) -> None:
    from headway.tasks.export import export
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if not (cache / "sst2.onnx").exists():
        export(cache / "sst2", cache / "sst2.onnx")
    if not (cache / "sst2.int8.onnx").exists():
        quantize_dynamic(
            cache / "sst2.onnx", cache / "sst2.int8.onnx", weight_type=QuantType.QInt8, per_channel=True
        )  # fmt: skip


def _draw_gpt2(job: Job, cache: Path) -> None:
    from headway.core.checkpoints.families.registry import write_config
    from headway.core.models.gpt2 import GPT2Config
    from tokenizers import Tokenizer, models
    from transformers import GPT2Config as PublishedConfig
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

    if (cache / "gpt2").exists():
        return
    torch.manual_seed(0)
    GPT2LMHeadModel(PublishedConfig(**write_config(GPT2Config.named("124M")))).save_pretrained(cache / "gpt2")
    words = Tokenizer(models.WordLevel({str(i): i for i in range(50257)}, unk_token="50256"))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "50256")
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(cache / "gpt2")


def _draw_encoder(job: Job, cache: Path) -> None:
    from headway.core.checkpoints.checkpoint import save_checkpoint
    from headway.core.checkpoints.families.registry import FAMILIES
    from headway.core.models.heads import Network, SequenceHead, new_backbone, reads_segments
    from headway.core.tokenizers.tokenizer import Tokenizer

    folder = cache / job.work
    if (folder / "config.json").exists():
        return
    folder.mkdir(exist_ok=True)
    published = DATA.parent / "tokenizers"
    if job.work == "roberta":
        _write_roberta_vocabulary(published / "gpt2", folder)
    tokenizer = Tokenizer.load(folder if job.work == "roberta" else published / "bert-base-uncased")
    torch.manual_seed(0)
    config = FAMILIES[job.work].config
    network = Network(new_backbone(config), SequenceHead(config, 2))
    tokenizer.save(folder, segments=reads_segments(config))
    save_checkpoint(folder, network)


def _write_roberta_vocabulary(gpt2: Path, folder: Path) -> None:
    """The vocabulary of GPT-2 after RoBERTa's special tokens."""
    pieces = json.loads((gpt2 / "vocab.json").read_text(encoding="utf-8"))
    names = ["<s>", "<pad>", "</s>", "<unk>", *(piece for piece in pieces if piece != "<|endoftext|>"), "<mask>"]
    vocabulary = {name: i for i, name in enumerate(names)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_bytes((gpt2 / "merges.txt").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))


def _convert(job: Job, cache: Path) -> None:
    from ctranslate2.converters import TransformersConverter

    if not (cache / "gpt2-ctranslate2").exists():
        TransformersConverter(str(cache / "gpt2")).convert(str(cache / "gpt2-ctranslate2"))


PARTS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "classification": classify,
    "families": classify,
    "embedding": embed,
    "generation": generate,
    "scores": score,
    "memory": remember,
    "prepare": prepare,
}

if __name__ == "__main__":
    asked = Job(**json.loads(sys.argv[1]))
    print("\n" + json.dumps(PARTS[asked.part](asked)))
