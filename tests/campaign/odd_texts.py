"""Texts that people do not write, but that arrive: any part of Unicode, markup, long words, broken characters."""

import sys
from random import Random

PARTS = [
    "the quick brown fox", "naïve café", "一只猫坐在垫子上", "שלום עולם", "مرحبا",
    "👩‍👩‍👧‍👦", "🇩🇪", "é" * 3, "e\u0301", "ﬁne", "İstanbul",
    "\u200b", "\u200d", "\ufeff", "\u202e", "\x00", "\x1b[31m", "\r\n", "\n\n", "\t", "\u2028", "\x85", "\xa0", "\x7f",
    "[MASK]", "[CLS]", "[SEP]", "[PAD]", "<|endoftext|>", "##ing", "&amp;", "<b>", "{label}", "%s", "\\u0041", "'",
    '"',
    "1,000.50", "１２３", "²", "½", "Ⅷ", "http://a.b/c?d=e&f", "a@b.c", "don't", "#tag", "-" * 30, "a" * 200,
    "ab" * 300,
    "\ud800", "\udfff", "\ue000", "\U0010ffff", "ß", "ẞ", "ǆ", "ｆｕｌｌ", "̈̈̈", "\u0300" * 20,
]  # fmt: skip


def odd_text(random: Random, masks: int = 0) -> str:
    """A text of parts with a seed; with `masks`, as many mask tokens in it."""
    parts = [_part(random) for _ in range(random.choice((0, 1, 1, 2, 3, 5, 8, 30)))]
    for _ in range(masks):
        parts.insert(random.randrange(len(parts) + 1), "[MASK]")
    return random.choice((" ", "", "  ")).join(parts)


def _part(random: Random) -> str:
    if random.random() < 0.7:
        return random.choice(PARTS)
    return "".join(chr(random.randrange(1, sys.maxunicode + 1)) for _ in range(random.randrange(1, 8)))
