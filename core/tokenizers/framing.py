"""The special tokens around one text and around a pair of texts, as a tokenizer's post-processor puts them.

BERT: `[CLS] a [SEP] b [SEP]`, with segment 1 from b on. RoBERTa: `<s> a </s></s> b </s>`, in one segment. The
Transformer: `a </s>`. GPT-2: none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import tokenizers

PROBES = ("a", "0", ".", "\N{CJK UNIFIED IDEOGRAPH-4E00}")  # texts, one of which every vocabulary has a token for


@dataclass(frozen=True)
class Framing:
    """Special tokens before and after a text, and between and after two texts; none if all are empty."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    second_segment: int = 0  # of the second text and of the tokens after it

    @classmethod
    def of(cls, backend: tokenizers.Tokenizer, special: Mapping[str, str]) -> Self:
        """That of a tokenizer.

        Args:
            backend: of the library.
            special: its special tokens by their names in tokenizer_config.json; without a post-processor, texts have
                the `cls_token` before and the `sep_token` after them, as in BERT.
        """
        probe = next((found for text in PROBES if (found := backend.encode(text, add_special_tokens=False)).ids), None)
        if probe is None or not backend.num_special_tokens_to_add(False):
            if not {"cls_token", "sep_token"} <= special.keys():
                return cls()
            cls_id, sep_id = (backend.token_to_id(special[name]) for name in ("cls_token", "sep_token"))
            assert cls_id is not None
            assert sep_id is not None
            return cls((cls_id,), (sep_id,), (sep_id,), 1)
        pair = backend.post_process(probe, probe, True)
        of_text = [i for i, is_special in enumerate(pair.special_tokens_mask) if not is_special]
        middle = len(of_text) // 2
        first, second = of_text[:middle], of_text[middle:]
        return cls(
            tuple(pair.ids[: first[0]]),
            tuple(pair.ids[second[-1] + 1 :]),
            tuple(pair.ids[first[-1] + 1 : second[0]]),
            pair.type_ids[second[0]],
        )

    def join(self, first: Sequence[int], second: Sequence[int] | None) -> tuple[list[int], list[int]]:
        """The ids of one text or a pair with special tokens, and their segments."""
        if second is None:
            ids = [*self.before, *first, *self.after]
            return ids, [0] * len(ids)
        head, tail = [*self.before, *first, *self.between], [*second, *self.after]
        return head + tail, [0] * len(head) + [self.second_segment] * len(tail)

    def num_tokens(self, *, pair: bool) -> int:
        """The number of special tokens around one text or a pair."""
        return len(self.before) + len(self.after) + (len(self.between) if pair else 0)
