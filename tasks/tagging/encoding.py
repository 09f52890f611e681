"""Token sequences of tagged texts, and predictions from the outputs for them.

Each word is read at its first token (Devlin et al. 2019, section 5.3). Of a long text's windows, the one in which the
word has the most context decides, in training and in prediction.

Shapes: T tokens in a packed batch, W words of an example, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.features import IGNORE_INDEX, Features
from ..data.windows import Windowing, best_window
from .predictions import EntitiesPrediction, Entity, TaggedExample
from .tag_schemes import (
    OUTSIDE,
    WordSpan,
    labels_as_tags,
    spans_to_tags,
    tag_indices,
    tags_to_spans,
    viterbi_decode,
)

if TYPE_CHECKING:
    from ...core.tokenizers.tokenizer import Encoding, Tokenizer


@dataclass(frozen=True)
class WindowWords:
    """The words that are read in a window, and the positions of their first tokens in its sequence."""

    example: TaggedExample
    words: list[int]
    positions: list[int]


@dataclass(frozen=True)
class WordTagger:
    """The labels of a model and how they are chosen.

    Args:
        labels: in the order of the outputs.
        scheme: of the labels.
        viterbi: whether only sequences that follow the scheme are predicted.
    """

    labels: tuple[str, ...]
    scheme: str
    viterbi: bool = False

    @property
    def every_word(self) -> bool:
        """Whether the tags are not entities but classes of all words: parts of speech."""
        return self.scheme == "IO" and OUTSIDE not in self.labels

    def encode(
        self, examples: Sequence[TaggedExample], tokenizer: "Tokenizer", windowing: Windowing
    ) -> list[Features]:
        """One sequence per example, or one per window of a long text.

        Args:
            examples: annotated or not.
            tokenizer: of the model.
            windowing: its limit does not include the special tokens.
        """
        indices = tag_indices(self.labels, self.scheme)
        special = tokenizer.num_special(pair=False)
        features = []
        for i, example in enumerate(examples):
            encoding = tokenizer.encode_words(example.words)
            targets = self._targets(example, indices)
            for window, words in _words_by_window(encoding, windowing):
                positions = [token - window.start + special // 2 for token in words.values()]
                features.append(
                    Features(
                        i,
                        *tokenizer.join(encoding.ids[window.start : window.stop]),
                        len(encoding.ids) + special,
                        target=None if targets is None else [targets[word] for word in words],
                        metadata=WindowWords(example, list(words), positions),
                    )
                )
        return features

    def _targets(self, example: TaggedExample, indices: dict[str, int]) -> list[int] | None:
        """The label index of each word; None for an example without annotation."""
        if example.spans is None:
            return None
        tags = spans_to_tags(example.spans, len(example.words), self.scheme)
        targets = [indices.get(tag, IGNORE_INDEX) for tag in tags]
        for word in example.ignored:
            targets[word] = IGNORE_INDEX
        return targets

    def decode(self, outputs: Sequence[Tensor], windows: Sequence[Features]) -> EntitiesPrediction:
        """The tags and entities of an example.

        Args:
            outputs: (n, L) for each of its windows.
            windows: of the example.
        """
        example: TaggedExample = windows[0].metadata.example
        words = [word for one in windows for word in one.metadata.words]
        logits = torch.cat([output[one.metadata.positions] for output, one in zip(outputs, windows, strict=True)])
        log_probabilities = logits.new_zeros(len(example.words), len(self.labels))  # (W, L)
        log_probabilities[words] = logits.log_softmax(-1)
        seen = torch.zeros(len(example.words), dtype=torch.bool)
        seen[words] = True
        chosen = self._choose(log_probabilities, seen)
        probabilities = log_probabilities.gather(1, chosen[:, None])[:, 0].exp().masked_fill(~seen, 0.0).tolist()
        names = labels_as_tags(self.labels, self.scheme)
        pairs = zip(chosen.tolist(), seen.tolist(), strict=True)
        tags = tuple(names[label] if was_seen else OUTSIDE for label, was_seen in pairs)
        spans = tags_to_spans(tags, self.scheme != "IO", every_word=self.every_word)
        entities = tuple(_entity(example, span, probabilities[span.start : span.stop]) for span in spans)
        return EntitiesPrediction(entities, example.words, tags, tuple(probabilities))

    def _choose(self, log_probabilities: Tensor, seen: Tensor) -> Tensor:
        """The label of each word, (W,).

        Args:
            log_probabilities: (W, L); changed for words that were not seen.
            seen: (W,), whether the model has read the word.
        """
        if not self.viterbi or self.scheme == "IO" or OUTSIDE not in self.labels:
            return log_probabilities.argmax(-1)
        log_probabilities[~seen] = -torch.inf
        log_probabilities[~seen, self.labels.index(OUTSIDE)] = 0.0
        path = viterbi_decode(log_probabilities, self.labels, self.scheme)
        return torch.tensor(path, dtype=torch.long)


def word_positions(features: Sequence[Features]) -> list[int]:
    """The positions of the first tokens of all words in a packed batch."""
    positions: list[int] = []
    start = 0
    for one in features:
        positions += [start + position for position in one.metadata.positions]
        start += len(one.input_ids)
    return positions


def _words_by_window(encoding: "Encoding", windowing: Windowing) -> list[tuple[range, dict[int, int]]]:
    """The windows of a text, each with its words and the positions of their first tokens in the text."""
    first_token: dict[int, int] = {}
    for position, word in enumerate(encoding.word_ids):
        if word is not None:
            first_token.setdefault(word, position)
    windows = windowing.divide(len(encoding.ids))
    words: list[dict[int, int]] = [{} for _ in windows]
    for word, position in first_token.items():
        if position < windows[-1].stop:  # else truncated
            words[best_window(windows, position) if len(windows) > 1 else 0][word] = position
    return list(zip(windows, words, strict=True))


def _entity(example: TaggedExample, span: WordSpan, probabilities: Sequence[float]) -> Entity:
    start, end = example.offsets(span)
    return Entity(example.text[start:end], span.label, start, end, sum(probabilities) / len(probabilities))
