"""Token sequences of pairs: the prompt, then the output, then the end-of-text token, of which only a target is made.

    input_ids   prompt ... prompt  output ... output
    targets                output  output ... end

An input that is too long is cut; the template around it and the output are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.errors import HeadwayError
from ..data.features import Features
from ..language_modeling.targets import TargetTokens, prompt_budget
from .predictions import PairExample, PromptSource
from .template import PairTemplate

if TYPE_CHECKING:
    from ...core.generation.generation_config import GenerationConfig
    from ...core.tokenizers.tokenizer import Tokenizer

LEAST_INPUT = 8  # an output may leave this fraction of the limit to the input, but not less


@dataclass(frozen=True)
class _Prompt:
    """A prompt's tokens, divided at the ends of the input."""

    before: list[int]
    inside: list[int]
    after: list[int]

    @property
    def fixed(self) -> int:
        """Number of tokens that are never cut."""
        return len(self.before) + len(self.after)

    def cut(self, budget: int, side: str) -> list[int]:
        """At most `budget` tokens; of the input, the end or the start is cut."""
        room = max(0, budget - self.fixed)
        inside = self.inside[:room] if side == "end" else self.inside[max(0, len(self.inside) - room) :]
        return [*self.before, *inside, *self.after]


@dataclass(frozen=True)
class PairEncoder:
    """Encodes pairs for a decoder, or for an encoder-decoder if `source_limit` is given.

    The encoder reads the prompt, and the decoder the output after its start token:

        source_ids  prompt ... prompt
        input_ids   start   output ... output
        targets     output  output ... end

    Args:
        tokenizer: of the model.
        template: of prompts.
        limit: longest sequence in tokens.
        cut_side: "end" or "start", where inputs are cut.
        source_limit: longest sequence of the encoder in tokens; None: there is no encoder.
        ends: the start token and the end token of an encoder-decoder.
        position_limit: tokens that a decoder alone reads at most, where `limit` is lower. Default: `limit`.

    Raises:
        HeadwayError: no token ends a text, or the template leaves no room for an input.
    """

    tokenizer: "Tokenizer"
    template: PairTemplate
    limit: int
    cut_side: str
    source_limit: int | None = None
    ends: tuple[int | None, int | None] = (None, None)
    position_limit: int | None = None

    def __post_init__(self) -> None:
        if self.end_id is None:
            raise HeadwayError(
                "This vocabulary has no end-of-text token, by which the model learns where an output ends. Set it as "
                '"eos_token" in tokenizer_config.json, or choose another model.'
            )
        fixed, limit = len(self.tokenizer.encode(self.template.prompt("")).ids), self.source_limit or self.limit
        if fixed > limit // 2:
            raise HeadwayError(
                f"--template has {fixed} tokens, more than half of the {limit} that the model reads at once. "
                "Shorten it."
            )

    @property
    def end_id(self) -> int | None:
        """The token that ends an output."""
        return self.tokenizer.end_of_text_id if self.source_limit is None else self.ends[1]

    def encode(self, examples: Sequence[PairExample], generation: "GenerationConfig") -> list[Features]:
        """The sequences for training, one for each output; for an example without outputs its prompt.

        Args:
            examples: in their order.
            generation: how outputs are generated, for which a prompt without output leaves room.
        """
        prompts = self._prompts([one.text for one in examples])
        written = [self.template.continuation(text) for one in examples for text in one.outputs]
        outputs = iter(self.tokenizer.of_outputs.encode_ids(written))
        features: list[Features] = []
        for number, (example, prompt) in enumerate(zip(examples, prompts, strict=True)):
            if not example.outputs:
                features.append(self._prompt(number, prompt, generation))
            features += [self._pair(number, i, prompt, next(outputs)) for i in range(len(example.outputs))]
        return features

    def _prompt(self, number: int, prompt: _Prompt, generation: "GenerationConfig") -> Features:
        what = PromptSource(self.tokenizer, generation)
        if self.source_limit is not None:
            source, length = self._source(prompt)
            start = self.ends[0] or 0
            return Features(number, [start], [0], length + 1, metadata=what, source_ids=source)
        ids = prompt.cut(self._budget(generation.max_new_tokens), self.cut_side)
        length = prompt.fixed + len(prompt.inside)
        return Features(number, ids, [0] * len(ids), length, metadata=what)

    def _budget(self, max_new_tokens: int) -> int:
        """Tokens of a prompt that are read before an output is generated.

        A limit that is lower than the model's is one of training. It does not limit outputs, so that prompts are as
        long as those of training, less the part that is left there to an output.
        """
        most = self.position_limit or self.limit
        budget = prompt_budget(self.limit, max_new_tokens)
        if self.limit == most:
            return budget
        return max(budget, min(most - max_new_tokens, self.limit - self.limit // LEAST_INPUT))

    def _source(self, prompt: _Prompt) -> tuple[list[int], int]:
        """What the encoder reads of a prompt, and the number of tokens of the whole one."""
        assert self.source_limit is not None
        special = self.tokenizer.num_special(pair=False)
        ids = prompt.cut(self.source_limit - special, self.cut_side)
        return self.tokenizer.join(ids)[0], prompt.fixed + len(prompt.inside) + special

    def _pair(self, number: int, reference: int, prompt: _Prompt, output: list[int]) -> Features:
        """The sequence of an output; `num_omitted` counts its tokens (and its end) that do not fit."""
        end, source = self.end_id, []
        assert end is not None
        if self.source_limit is None:
            length = prompt.fixed + len(prompt.inside)
            room = self.limit - prompt.fixed - min(len(prompt.inside), self.limit // LEAST_INPUT)
        else:
            source, length = self._source(prompt)
            length, room = length + 1, self.limit - 1
        targets = [*output, end] if len(output) <= room else output[: room + 1]
        given = targets[:-1]
        before = [self.ends[0] or 0] if source else prompt.cut(self.limit - len(given), self.cut_side)
        ids = [*before, *given]
        target = TargetTokens(list(range(len(before) - 1, len(ids))), targets)
        return Features(
            number,
            ids,
            [0] * len(ids),
            length + len(output),
            target,
            text_index=reference,
            num_omitted=len(output) + 1 - len(targets),
            source_ids=source,
        )

    def _prompts(self, texts: Sequence[str]) -> list[_Prompt]:
        start = len(self.template.before)
        encodings = self.tokenizer.encode_batch([self.template.prompt(text) for text in texts])
        found = []
        for text, encoding in zip(texts, encodings, strict=True):
            stop = start + len(text)
            # The offsets of a line break are those of nothing after it.
            first = sum(begin < start or end <= start for begin, end in encoding.offsets)
            last = len(encoding.offsets) - sum(begin >= stop for begin, _ in encoding.offsets)
            ids = encoding.ids
            parts = _Prompt(ids[:first], ids[first : max(first, last)], ids[max(first, last) :])
            alone = not ids and self.source_limit is None  # a decoder needs a token to start from
            found.append(_Prompt(self.tokenizer.join([])[0], [], []) if alone else parts)
        return found
