"""Dependency trees of sentences, such as those of the Universal Dependencies in CoNLL-U files.

Shapes: n words of a sentence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...core.errors import HeadwayError
from ..data.column_names import normalize_name
from ..data.places import shorten
from ..data.rows import Table

WORD_COLUMNS = ("form", "forms", "tokens", "words", "token", "word")
HEAD_COLUMNS = ("head", "heads")
# Parts of speech of punctuation: universal, and those that Hewitt & Manning leave out (Penn Treebank).
UNIVERSAL_PUNCTUATION = "PUNCT"
PENN_PUNCTUATION = frozenset({"''", ",", ".", ":", "``", "-LRB-", "-RRB-"})


@dataclass(frozen=True, eq=False)
class DependencyTree:
    """A sentence and the head of each of its words.

    Args:
        where: its place, for messages.
        words: the words, n of them.
        heads: the head of each word, counted from 1; 0 for the root.
        punctuation: whether each word is punctuation.
    """

    where: str
    words: tuple[str, ...]
    heads: tuple[int, ...]
    punctuation: tuple[bool, ...]

    @property
    def root(self) -> int:
        """The position of the word without a head."""
        return self.heads.index(0)

    @cached_property
    def order(self) -> list[int]:
        """The positions of the words that the root reaches, each after its head."""
        dependents: list[list[int]] = [[] for _ in self.heads]
        for word, head in enumerate(self.heads):
            if head:
                dependents[head - 1].append(word)
        order = [self.root]
        for word in order:
            order += dependents[word]
        return order

    @cached_property
    def depths(self) -> np.ndarray:
        """The number of edges from the root to each word, (n,)."""
        return self.distances[self.root]

    @cached_property
    def distances(self) -> np.ndarray:
        """The number of edges between each two words, (n, n) int16."""
        distances = np.zeros((len(self.words), len(self.words)), np.int16)
        for i, word in enumerate(self.order[1:], start=1):
            before = self.order[:i]
            distances[word, before] = distances[before, word] = distances[self.heads[word] - 1, before] + 1
        return distances

    def check(self) -> None:
        """Checks that the heads form one tree.

        Raises:
            HeadwayError: they do not; the message names the sentence and the word.
        """
        for word, head in enumerate(self.heads):
            if not 0 <= head <= len(self.words):
                raise HeadwayError(
                    f"{self._place(word)}: its head is word {head}, but the sentence has {len(self.words)} words. "
                    "Correct the head; 0 is the root."
                )
        roots = [word for word, head in enumerate(self.heads) if head == 0]
        if len(roots) > 1:
            raise HeadwayError(
                f"{self._place(roots[1])}: a second root (head 0) after word {roots[0] + 1}. A sentence has one root: "
                "give this word a head, or divide the sentence with a blank line."
            )
        if not roots or len(self.order) < len(self.words):
            word = min({*range(len(self.words))}.difference(self.order if roots else ()))
            raise HeadwayError(
                f"{self._place(word)}: its heads lead in a cycle and not to a root (head 0). Correct the heads."
            )

    def _place(self, word: int) -> str:
        return f'{self.where}, word {word + 1} ("{shorten(self.words[word], 30)}")'


def read_trees(table: Table, columns: Mapping[str, Any]) -> list[DependencyTree]:
    """The trees of all sentences.

    Args:
        table: a row per sentence, with lists of words and of their heads.
        columns: the columns that the user named: "text" for the words, "label" for the heads.

    Raises:
        HeadwayError: there are no trees, or a sentence does not have one.
    """
    words, heads = (
        _find_column(table, columns.get(name), names, name)
        for name, names in (("text", WORD_COLUMNS), ("label", HEAD_COLUMNS))
    )
    trees = []
    for row, cells in enumerate(table.rows):
        where = table.where(row)
        forms, numbers = cells.get(words), cells.get(heads)
        if not isinstance(forms, list) or not isinstance(numbers, list) or len(forms) != len(numbers):
            raise HeadwayError(
                f'{where}: columns "{words}" and "{heads}" need a list each, with a head for every word. Name the '
                "columns with --text and --label."
            )
        _check_numbers(where, cells.get("id"))
        tree = DependencyTree(where, tuple(map(str, forms)), _parse_heads(where, numbers), _punctuation(cells, forms))
        tree.check()
        trees.append(tree)
    return trees


def _find_column(table: Table, chosen: Any, names: Sequence[str], option: str) -> str:
    if isinstance(chosen, list | tuple) and len(chosen) == 1:
        (chosen,) = chosen
    columns = {normalize_name(column): column for column in table.columns}
    wanted = map(normalize_name, names if chosen is None else [str(chosen)])
    found = next((columns[name] for name in wanted if name in columns), None)
    if found is None:
        what = "words" if option == "text" else "heads"
        raise HeadwayError(
            f"{table.source}: there is no column of {what} ({chosen or ' or '.join(names[:2])}), so there are no "
            f"trees. Give a treebank, such as a CoNLL-U file of the Universal Dependencies, or name the column with "
            f"--{option}. The columns are: {', '.join(table.columns)}."
        )
    return found


def _check_numbers(where: str, ids: Any) -> None:
    """Checks the word numbers of CoNLL-U, which heads refer to."""
    if isinstance(ids, list):
        for position, number in enumerate(ids, start=1):
            if str(number) != str(position):
                raise HeadwayError(
                    f"{where}: word {position} has the number {shorten(number, 20)}. Words are numbered 1, 2, 3, ... "
                    "in each sentence, because heads refer to these numbers; a blank line may be missing before it."
                )


def _parse_heads(where: str, cells: Sequence[Any]) -> tuple[int, ...]:
    heads = []
    for word, cell in enumerate(cells, start=1):
        text = str(cell).strip()
        if not text.isdecimal():
            what = "no head" if text in ("_", "", "None") else f'the head "{shorten(text, 20)}"'
            raise HeadwayError(
                f"{where}: word {word} has {what}. Every word of a tree has the number of its head, and the root 0. "
                "Give a file with dependency trees."
            )
        heads.append(int(text))
    return tuple(heads)


def _punctuation(cells: Mapping[str, Any], words: Sequence[Any]) -> tuple[bool, ...]:
    """Whether each word is punctuation by its part of speech; without one, if it has neither letters nor digits."""
    universal, others = cells.get("upos"), cells.get("xpos")
    found = []
    for i, word in enumerate(words):
        upos, xpos = (tags[i] if isinstance(tags, list) and i < len(tags) else "_" for tags in (universal, others))
        if upos != "_":
            found.append(upos == UNIVERSAL_PUNCTUATION)
        elif xpos != "_":
            found.append(xpos in PENN_PUNCTUATION)
        else:
            found.append(not any(letter.isalnum() for letter in str(word)))
    return tuple(found)
