"""Damages files at random: the values of JSON, the header of safetensors, and the bytes of anything."""

import copy
import json
import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any

ODD_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3.5, -0.0, 10**8, 2**31, 2**63, 10**30, 1e-300, 1e308, float("inf"), float("nan"),
    "", " ", "0", "x", "true", "\x00", "\ud800", "é" * 300, "[MASK]", "../../etc", [], {}, [None], [[]], [{}], [1, 2],
    ["x"], {"x": 1}, {"0": "a"}, {"": None}, {"content": None}, {"content": "[CLS]"}, {"type": "x"},
]  # fmt: skip
DEPTH = 3_000  # of nested lists
TEXT_SUFFIXES = (".csv", ".tsv", ".conll", ".conllu", ".ann", ".txt", ".jsonl")
ODD_TEXTS = [
    "\t", "\n", "\r\n", "\r", '"', "'", ",", ";", "|", " ", "_", "-", "#", "# ", "0", "O", "B-", "B-O", "I-X", "nan",
    "-1",
    "1e300", "-1e308", "Infinity", "4,7", "1.5", "9" * 400, "9" * 5_000, "[" * DEPTH, "[" * DEPTH + "]" * DEPTH, "{}",
    "[1, 2]", "\ufeff", "\u2028", "\x0b", "é", "🙂", "x" * 10_000, "&amp;", "__label__", "\\", "[1]", "|", "*",
]  # fmt: skip


def damage(path: Path, random: Random) -> None:
    """Damages one file in one to three places."""
    content = path.read_bytes()
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = _damaged(path, content, random)
    path.write_bytes(content)


def _damaged(path: Path, content: bytes, random: Random) -> bytes:
    if path.suffix == ".json" and random.random() < 0.8:
        return _json(content, random)
    if path.suffix == ".spacy" and random.random() < 0.8:
        try:
            return zlib.compress(_bytes(zlib.decompress(content), random))
        except zlib.error:  # damaged before
            return _bytes(content, random)
    if path.suffix == ".jsonl" and random.random() < 0.5:
        lines = content.split(b"\n")
        number = random.randrange(len(lines))
        return b"\n".join([*lines[:number], _json(lines[number], random), *lines[number + 1 :]])
    if path.suffix in TEXT_SUFFIXES and random.random() < 0.7:
        return _text(content, random)
    if path.suffix == ".safetensors" and random.random() < 0.6:
        size = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
        header = _json(content[8 : 8 + size], random)
        return struct.pack("<Q", len(header)) + header + content[8 + size :]
    return _bytes(content, random)


def _json(content: bytes, random: Random) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):  # damaged before
        return _bytes(content, random)
    value = [value]  # so that the whole can be replaced, too
    places = list(_places(value))
    owner, key = random.choice(places[:1] + places[1:] * 5)
    kind = random.random()
    if kind < 0.6:
        owner[key] = copy.deepcopy(random.choice(ODD_VALUES))
    elif kind < 0.75 and len(places) > 1:
        owner[key] = copy.deepcopy(random.choice(places)[0])
    elif kind < 0.9 and owner is not value:
        del owner[key]
    elif isinstance(owner, dict):
        owner[str(random.choice(ODD_VALUES))] = owner[key]
    else:
        return json.dumps(value[0]).encode().replace(b"1", b"[" * DEPTH + b"]" * DEPTH, 1)
    return json.dumps(value[0]).encode()


def _places(value: Any) -> Any:
    """Every (container, key) in nested JSON; of a large container, some."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys[:20]:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _text(content: bytes, random: Random) -> bytes:
    """With an odd text in place of a few characters, or with a line gone, repeated or moved."""
    if random.random() < 0.7:
        at = random.randrange(len(content) + 1)
        odd = random.choice(ODD_TEXTS).encode()
        return content[:at] + odd + content[at + random.choice((0, 0, 1, 3, len(odd))) :]
    lines = content.splitlines(keepends=True) or [b""]
    line = lines.pop(random.randrange(len(lines)))
    for _ in range(random.choice((0, 1, 2, 50))):
        lines.insert(random.randrange(len(lines) + 1), line)
    return b"".join(lines)


def _bytes(content: bytes, random: Random) -> bytes:
    changed = bytearray(content or b"x")
    at = random.randrange(len(changed))
    match random.randrange(5):
        case 0:
            changed[at] ^= 1 << random.randrange(8)
        case 1:
            del changed[at:]
        case 2:
            del changed[at : at + random.randrange(1, 50)]
        case 3:
            changed[at:at] = random.randbytes(random.randrange(1, 9))
        case 4:
            changed[at:at] = changed[at : at + random.randrange(1, 200)]
    return bytes(changed)
