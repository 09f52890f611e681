"""The corruptions of BERT's pretraining: masked tokens and exchanged second segments.

Devlin et al. 2019 (https://arxiv.org/abs/1810.04805, section 3.1); for ALBERT, two segments in the wrong order: Lan et
al. 2020 (https://arxiv.org/abs/1909.11942, section 3.1). All draws come from one generator.
"""

from collections.abc import Sequence

import torch

from ...core.tokenizers.tokenizer import Tokenizer
from ..data.corpus import Corpus


def special_ids(tokenizer: Tokenizer) -> tuple[int | None, int | None]:
    """The ids that are never masked."""
    return tokenizer.cls_id, tokenizer.sep_id


def choose_positions(
    ids: Sequence[int],
    tokenizer: Tokenizer,
    probability: float,
    whole_words: bool,
    generator: torch.Generator,
) -> list[int]:
    """The positions to predict, in ascending order: at least one.

    Args:
        ids: of the sequence.
        tokenizer: of the ids.
        probability: the share of the tokens to choose.
        whole_words: whether to choose all tokens of a word together; the last word may exceed the share.
        generator: of the draws.
    """
    special = special_ids(tokenizer)
    units = [[i] for i, token in enumerate(ids) if token not in special]
    count = max(1, round(probability * len(units)))
    if whole_words:
        units = _join_words(units, ids, tokenizer.continues_word)
    chosen: list[int] = []
    for i in torch.randperm(len(units), generator=generator).tolist():
        if len(chosen) >= count:
            break
        chosen += units[i]
    return sorted(chosen)


def _join_words(units: Sequence[list[int]], ids: Sequence[int], continues: Sequence[bool]) -> list[list[int]]:
    """Joins the positions of the tokens of each word."""
    words: list[list[int]] = []
    for (position,) in units:
        if words and continues[ids[position]] and words[-1][-1] == position - 1:
            words[-1].append(position)
        else:
            words.append([position])
    return words


def corrupt_tokens(
    ids: Sequence[int], positions: Sequence[int], tokenizer: Tokenizer, generator: torch.Generator
) -> list[int]:
    """A copy of `ids` in which 80 % of the positions are [MASK], 10 % a random token and 10 % unchanged."""
    mask_id = tokenizer.require_mask_id()
    draws = torch.rand(len(positions), generator=generator).tolist()
    others = torch.randint(tokenizer.vocab_size, (len(positions),), generator=generator).tolist()
    corrupted = list(ids)
    for position, draw, other in zip(positions, draws, others, strict=True):
        if draw < 0.8:
            corrupted[position] = mask_id
        elif draw < 0.9:
            corrupted[position] = other
    return corrupted


def segment_pair(corpus: Corpus, index: int, generator: torch.Generator) -> tuple[list[int], list[int], bool]:
    """A sequence as two segments, the second of which comes from another document in half of the cases.

    Returns:
        The ids, the segment ids, and whether the second segment follows the first.
    """
    first, second = _divide(corpus.ids_of(index), generator)
    is_next = bool(torch.rand((), generator=generator) < 0.5) or corpus.num_documents < 2
    if not is_next:
        other = index
        while corpus.document_of(other) == corpus.document_of(index):
            other = int(torch.randint(len(corpus), (), generator=generator))
        second = corpus.ids_of(other)[: max(1, len(second))]
    return *corpus.tokenizer.join(first, second), is_next


def ordered_pair(corpus: Corpus, index: int, generator: torch.Generator) -> tuple[list[int], list[int], bool]:
    """A sequence as two segments, which change places in half of the cases.

    Returns:
        The ids, the segment ids, and whether the segments are in their order.
    """
    first, second = _divide(corpus.ids_of(index), generator)
    in_order = bool(torch.rand((), generator=generator) < 0.5) or not second
    return *corpus.tokenizer.join(*((first, second) if in_order else (second, first))), in_order


def _divide(ids: list[int], generator: torch.Generator) -> tuple[list[int], list[int]]:
    """Two parts of a sequence, neither of them empty if it has two tokens or more."""
    middle = 1 + int(torch.randint(max(1, len(ids) - 1), (), generator=generator))
    return ids[:middle], ids[middle:]
