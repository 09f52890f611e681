"""Requests over HTTP: Headway beside the same model one request at a time, and beside sentence-transformers' batches.

    python tests/benchmarks/serving.py

64 clients, each of which sends its next text when it has the answer to the one before, over a connection that stays
open. The texts are those of sst2, some of them replaced by whole movie reviews. MiniLM as it was published makes the
vectors, and the same with a classifier of one training step gives the labels.

- Headway is `headway serve`, as it is installed.
- One at a time is the same Headway model behind FastAPI, a lock around it: what one writes first.
- Padded is sentence-transformers behind FastAPI, whatever waits encoded at once, in batches of 32 sorted by length.

Clients and server are separate processes, the sides in turn. Every answer of Headway's is compared with what the
model says offline.

Needs the labelled files (HEADWAY_DATA, or the folder data of shared/ beside the checkout) and the extra `bench`.
Prints a table, and exits with 1 when a goal is missed.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import that reads it

import numpy as np
from machine import describe_machine
from sides import DATA, minilm

CLIENTS = 64
ONE_AT_A_TIME_GOAL, PADDED_GOAL = 3.0, 1.5
APART_GOAL = 1e-5  # of probabilities and vectors in fp32
BATCH = 32
MOST_AT_ONCE = 256  # texts that the padded server encodes at once


def mixed_texts(most: int, reviews: float) -> list[str]:
    """Texts of sst2, a part of them replaced by movie reviews, in an order that is the same every time."""
    chances = Random(0)
    lines = (DATA / "sst2" / "train.tsv").read_text(encoding="utf-8").splitlines()[:most]
    texts = [line.split("\t")[0] for line in lines]
    rows = (DATA / "movie_reviews" / "movie_reviews.jsonl").read_text(encoding="utf-8").splitlines()
    for place in chances.sample(range(len(texts)), round(reviews * len(texts))):
        texts[place] = json.loads(chances.choice(rows))["text"]
    return texts


@dataclass(frozen=True)
class Work:
    """What is asked over HTTP, and by which side's server."""

    name: str
    task: str  # classify or embed
    side: str  # headway, single or padded

    @property
    def path(self) -> str:
        """Where it is asked."""
        if self.side != "headway":
            return "/"
        return "/predict" if self.task == "classify" else "/embed"

    def body(self, text: str) -> Any:
        """How a text is sent."""
        if self.side != "headway":
            return {"text": text}
        return {"inputs": [text]} if self.task == "classify" else {"texts": [text]}

    def numbers(self, answer: Any) -> list[float]:
        """What came back: the probabilities of the labels, or the vector."""
        if self.side == "headway":
            answer = answer["predictions"][0] if self.task == "classify" else answer["vectors"][0]
        return list(answer["scores"].values()) if self.task == "classify" else answer


@dataclass(frozen=True)
class Measured:
    """What the clients saw."""

    seconds: float
    waits: list[float]  # of each request
    answers: list[list[float]]
    errors: int

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.waits) / self.seconds


# -- the servers, each in a separate process


def serve_single(task: str, folder: str, precision: str) -> Any:
    """One request at a time."""
    from fastapi import FastAPI
    from headway.tasks import Embedder, load
    from pydantic import BaseModel

    app, lock = FastAPI(), threading.Lock()
    embedder = Embedder(folder, precision=precision) if task == "embed" else None
    model = load(folder) if task == "classify" else None
    if model is not None:
        model.precision = precision

    class Asked(BaseModel):
        text: str

    @app.post("/")
    def answer(asked: Asked) -> Any:
        with lock:
            if embedder is not None:
                return embedder.embed(asked.text).tolist()
            assert model is not None
            return model.predict(asked.text).to_json()

    return app


def serve_padded(folder: str) -> Any:
    """sentence-transformers: whatever waits is encoded at once."""
    from contextlib import asynccontextmanager

    from fastapi import FastAPI
    from pydantic import BaseModel
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    waiting: asyncio.Queue[tuple[str, asyncio.Future[Any]]] = asyncio.Queue()

    async def work() -> None:
        while True:
            batch = [await waiting.get()]
            while not waiting.empty() and len(batch) < MOST_AT_ONCE:
                batch.append(waiting.get_nowait())
            found = await asyncio.to_thread(model.encode, [text for text, _ in batch], batch_size=BATCH)
            for (_, future), vector in zip(batch, found, strict=True):
                future.set_result(vector.tolist())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        task = asyncio.create_task(work())
        yield
        task.cancel()

    app = FastAPI(lifespan=lifespan)

    class Asked(BaseModel):
        text: str

    @app.post("/")
    async def answer(asked: Asked) -> Any:
        future = asyncio.get_running_loop().create_future()
        waiting.put_nowait((asked.text, future))
        return await future

    return app


def serve(side: str, task: str, folder: str, precision: str) -> None:
    """A server that is not Headway's, until it is ended."""
    import uvicorn

    app = serve_padded(folder) if side == "padded" else serve_single(task, folder, precision)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2 * CLIENTS)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run([listener])


@contextmanager
def server(work: Work, folder: Path, precision: str) -> Iterator[int]:
    """One side's server: its port."""
    if work.side == "headway":
        command = [sys.executable, "-m", "headway.ui.cli", "serve", str(folder), "--precision", precision]
    else:
        command = [sys.executable, __file__, "serve", work.side, work.task, str(folder), precision]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = next((found for line in process.stdout if (found := re.search(r"http://[\d.]+:(\d+)", line))), None)
        if ready is None:
            raise SystemExit(f"{' '.join(command)} ended with {process.wait()}")
        yield int(ready[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


# -- the clients, in a process of their own


async def ask_all(port: int, path: str, bodies: Sequence[bytes]) -> tuple[float, list[float], list[bytes], int]:
    """Sends every body: the seconds of all together, of each, the answers, and how many were no answers."""
    numbers = count()
    waits, answers, errors = [0.0] * len(bodies), [b""] * len(bodies), 0
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ".encode()

    async def client() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (number := next(numbers)) < len(bodies):
            body = bodies[number]
            began = time.perf_counter()
            writer.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
            said = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", said, re.IGNORECASE)
            assert length is not None
            answers[number] = await reader.readexactly(int(length[1]))
            waits[number] = time.perf_counter() - began
            errors += not said.startswith(b"HTTP/1.1 200")
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return time.perf_counter() - began, waits, answers, errors


def run_clients(port: int, path: str) -> None:
    """The clients: bodies from stdin, what was measured to stdout."""
    bodies = [line.encode() for line in sys.stdin.read().splitlines()]
    asyncio.run(ask_all(port, path, bodies[: 4 * CLIENTS]))  # warm up
    seconds, waits, answers, errors = asyncio.run(ask_all(port, path, bodies))
    print(json.dumps([seconds, waits, [answer.decode() for answer in answers], errors]))


def measure(work: Work, texts: Sequence[str], folder: Path, precision: str) -> Measured:
    """Starts one side's server and the clients."""
    with server(work, folder, precision) as port:
        command = [sys.executable, __file__, "ask", str(port), work.path]
        bodies = "\n".join(json.dumps(work.body(text)) for text in texts)
        done = subprocess.run(command, input=bodies, stdout=subprocess.PIPE, text=True, check=True)
    seconds, waits, answers, errors = json.loads(done.stdout)
    numbers = [] if errors else [work.numbers(json.loads(answer)) for answer in answers]
    return Measured(seconds, waits, numbers, errors)


# -- the table


def offline(task: str, texts: Sequence[str], folder: Path, precision: str) -> np.ndarray:
    """What the model says without a server."""
    from headway.tasks import Embedder, load

    if task == "embed":
        return Embedder(folder, precision=precision).embed(texts)
    model = load(folder)
    model.precision = precision
    return np.array([list(prediction.to_json()["scores"].values()) for prediction in model.predict(list(texts))])


def make_classifier(texts: Sequence[str], folder: Path) -> Path:
    """MiniLM with a classifier that has hardly learnt anything."""
    from headway.tasks import TextClassification

    rows = [{"text": text[:100], "label": str(i % 2)} for i, text in enumerate(texts[:32])]
    TextClassification().on(minilm()).fit(rows, output=folder, eval_fraction=0, max_steps=1, precision="fp32")
    return folder


def compare(texts: Sequence[str], rounds: int, precision: str, tasks: Sequence[str]) -> bool:
    """All sides in turn; whether every goal is met."""
    print("| what | side | requests/s | p50, ms | p95, ms | ratio | goal | errors | apart |")
    print("|---|---|---|---|---|---|---|---|---|")
    met = True
    with tempfile.TemporaryDirectory() as scratch:
        for task in tasks:
            folder = minilm() if task == "embed" else make_classifier(texts, Path(scratch) / "classifier")
            sides = {"headway": 0.0, "single": ONE_AT_A_TIME_GOAL}
            if task == "embed" and precision == "fp32":
                sides["padded"] = PADDED_GOAL
            works = {side: Work(f"{task}, {precision}", task, side) for side in sides}
            runs = [
                {side: measure(work, texts, folder, precision) for side, work in works.items()} for _ in range(rounds)
            ]
            truth = offline(task, texts, folder, precision)
            for side, goal in sides.items():
                found = [run[side] for run in runs]
                ratio = statistics.median(run["headway"].rate / run[side].rate for run in runs)
                errors = sum(one.errors for one in found)
                apart = max(
                    float(np.abs(np.array(one.answers) - truth).max()) if one.answers else 1.0 for one in found
                )
                fine = errors == 0 and ratio >= goal
                fine &= side != "headway" or precision != "fp32" or apart <= APART_GOAL
                met &= fine
                waits = np.array([wait for one in found for wait in one.waits]) * 1000
                compared = f"{ratio:.2f} | {goal}" if goal else "|"
                print(
                    f"| {works[side].name} | {side} | {statistics.median(one.rate for one in found):.0f} "
                    f"| {np.percentile(waits, 50):.0f} | {np.percentile(waits, 95):.0f} "
                    f"| {compared} | {errors} | {apart:.1e} |{'' if fine else ' MISSED'}",
                    flush=True,
                )
    return met


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--requests", type=int, default=4000, help="of each side and round")
    parser.add_argument("--reviews", type=float, default=0.05, help="the part of them that are movie reviews")
    parser.add_argument("--rounds", type=int, default=3, help="the sides in turn")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--task", action="append", choices=["classify", "embed"], help="only this one")
    given = parser.parse_args()
    if given.rest and given.rest[0] == "serve":
        serve(*given.rest[1:])
        return
    if given.rest:
        run_clients(int(given.rest[1]), given.rest[2])
        return
    print(describe_machine("fastapi", "uvicorn", "sentence-transformers"))
    texts = mixed_texts(given.requests, given.reviews)
    print(f"{len(texts)} requests of {CLIENTS} clients, {given.reviews:.0%} of the texts are movie reviews")
    sys.exit(0 if compare(texts, given.rounds, given.precision, given.task or ["classify", "embed"]) else 1)


if __name__ == "__main__":
    main()
