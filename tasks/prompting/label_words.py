"""How a prompt or a hypothesis spells labels, as users give it: 0=negative,1=positive, or a mapping in Python."""

from collections.abc import Mapping, Sequence

from ...core.errors import HeadwayError


def read_words(given: Mapping[str, str] | Sequence[str] | str) -> tuple[str, ...]:
    """Spellings as a tuple of "label=words".

    Raises:
        HeadwayError: one is not of this form.
    """
    pairs = [f"{label}={words}" for label, words in given.items()] if isinstance(given, Mapping) else given
    words = (pairs,) if isinstance(pairs, str) else tuple(map(str, pairs))
    for one in words:
        label, equals, spelled = one.partition("=")
        if not (equals and label.strip() and spelled.strip()):
            raise HeadwayError(f"--verbalize {one}: write LABEL=WORDS, as in 0=negative,1=positive.")
    return words
