"""The HTTP API under load, with a client of long texts beside 63 of short ones; and fuzzed by its schema."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import schemathesis
from campaign_options import SCALE, SEED, cases
from headway.tasks import TextClassification, TextToText
from headway.ui.http.api import create_api
from headway.ui.http.limits import Limits
from headway.ui.model_registry import ModelRegistry
from schemathesis.config import SchemathesisConfig

pytestmark = pytest.mark.campaign

CLIENTS = 64
SECONDS = 60  # of the whole load, in two halves
MAX_RATIO = 3.0  # of the 95th percentile of short texts beside a client of long ones, to that alone
WORDS = (
    "the",
    "film",
    "was",
    "a",
    "lovely",
    "story",
    "of",
    "people",
    "who",
    "walk",
    "by",
    "a",
    "river",
    "and",
    "never",
    "talk",
)


@pytest.fixture(scope="session")
def classifier(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads long texts in windows."""
    rows = [{"text": " ".join(WORDS[i % 8 :]), "label": "even" if i % 2 else "odd"} for i in range(32)]
    folder = tmp_path_factory.mktemp("models") / "classifier"
    TextClassification().on(minilm).fit(rows, output=folder, eval_fraction=0, max_steps=1, precision="fp32")
    return folder


@dataclass
class Load:
    """What clients measured: seconds of each request, and the statuses other than 200."""

    short: list[float] = field(default_factory=list)
    long: list[float] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)

    def percentile(self, which: int) -> float:
        """Of the short texts, in milliseconds."""
        return float(np.percentile(self.short, which)) * 1000

    def __str__(self) -> str:
        return f"p50 {self.percentile(50):.0f} ms, p95 {self.percentile(95):.0f} ms"


@contextmanager
def serving(*arguments: object) -> Iterator[int]:
    """`headway serve` in a separate process; yields its port."""
    command = [sys.executable, "-m", "headway.ui.cli", "serve", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})
    try:
        assert process.stdout is not None
        ready = re.search(r"http://[\d.]+:(\d+)", process.stdout.readline())
        assert ready is not None
        yield int(ready[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


async def send_until(
    end: float, port: int, text: Callable[[], str], seconds: list[float], errors: list[bytes]
) -> None:
    """One client, which sends its next text when it has the answer to the one before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    while time.perf_counter() < end:
        body = json.dumps({"inputs": [text()]}).encode()
        start = time.perf_counter()
        writer.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        said = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", said, re.IGNORECASE)
        assert length is not None
        await reader.readexactly(int(length[1]))
        seconds.append(time.perf_counter() - start)
        if not said.startswith(b"HTTP/1.1 200"):
            errors.append(said.partition(b"\r\n")[0])
    writer.close()


async def measure(port: int, seconds: float, num_short: int, long_words: int | None) -> Load:
    """Clients of short texts, and one of long texts beside them if `long_words` is given."""
    random, load = Random(SEED), Load()

    def text(words: int) -> str:
        return " ".join(random.choice(WORDS) for _ in range(words))

    end = time.perf_counter() + seconds
    clients = [
        send_until(end, port, lambda: text(random.randint(4, 16)), load.short, load.errors) for _ in range(num_short)
    ]
    if long_words is not None:
        clients.append(send_until(end, port, lambda: text(long_words), load.long, load.errors))
    await asyncio.gather(*clients)
    return load


@pytest.mark.parametrize("words", [400, 19_000], ids=["reviews", "books"])
def test_a_client_of_long_texts_slows_short_ones_by_a_factor_of_three_at_most(classifier, words):
    half = SECONDS * SCALE / 4
    with serving(classifier, "--timeout", 300) as port:  # a machine may be slow
        asyncio.run(measure(port, half / 4, CLIENTS - 1, words))  # warm up
        alone = asyncio.run(measure(port, half, CLIENTS - 1, None))
        beside = asyncio.run(measure(port, half, CLIENTS - 1, words))
    ratio = beside.percentile(95) / alone.percentile(95)
    print(f"\n{CLIENTS - 1} clients of short texts, alone: {alone}")
    print(f"beside a client of texts of {words:,} words: {beside}; ratio {ratio:.2f}")
    print(f"{len(beside.long)} long texts in at most {max(beside.long):.1f} s; {os.getloadavg()[0]:.1f} processes")
    assert alone.errors == beside.errors == []
    assert beside.long  # not starved
    assert ratio <= MAX_RATIO


def test_schemathesis_finds_nothing(bert_folder, gpt2_folder, classifier, tmp_path):
    rows = [{"input": f"the {i}", "output": f"my {i}"} for i in range(8)]
    once = {"max_steps": 1, "eval_fraction": 0, "device": "cpu", "progress": False}
    TextToText(eval_outputs=0).on(gpt2_folder).fit(rows, output=tmp_path / "pairs", **once)
    limits = Limits(max_new_tokens=4, max_samples=3, max_characters=1000, max_texts=8)
    api = create_api(
        ModelRegistry([classifier, bert_folder, gpt2_folder, tmp_path / "pairs"], built_in=False), limits=limits
    )
    options = {"seed": SEED, "generation": {"max-examples": len(cases(200))}}
    schema = schemathesis.openapi.from_asgi("/openapi.json", api, config=SchemathesisConfig.from_dict(options))
    found: list[str] = []
    operations: set[str] = set()
    for event in schemathesis.engine.from_schema(schema).execute():
        kind = type(event).__name__
        if "Error" in kind:
            found.append(f"{kind}: {event.value}")
        if kind == "ScenarioFinished":
            operations.add(event.recorder.label)
            found += list(failures_of(event.recorder))
    api.state.serving.close(10)
    assert found == []
    described = {f"{method.upper()} {path}" for path, methods in api.openapi()["paths"].items() for method in methods}
    assert described <= operations


def failures_of(recorder: Any) -> Iterator[str]:
    """The failed checks of an operation's cases."""
    for checks in recorder.checks.values():
        for check in checks:
            if check.failure_info is not None:
                failure, example = check.failure_info.failure, check.failure_info.code_sample
                yield f"{recorder.label}, {check.name}: {failure.title}. {failure.message}\n{example}"
