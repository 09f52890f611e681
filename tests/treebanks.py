"""Treebanks from a small grammar with relative clauses, complement clauses and ambiguous prepositional phrases."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

DETERMINERS = ("the", "these", "all", "those")
PREPOSITIONS = ("with", "near", "behind", "from")
ADVERBS = ("often", "never", "yesterday")
SPEECH = ("said", "thought", "knew", "believed", "claimed")


@dataclass(eq=False)
class Node:
    """A word with the words that depend on it, left and right of it."""

    form: str
    upos: str
    left: list["Node"] = field(default_factory=list)
    right: list["Node"] = field(default_factory=list)

    def words(self) -> list["Node"]:
        """The words of the subtree in the order of the sentence."""
        before = [word for one in self.left for word in one.words()]
        return [*before, self, *(word for one in self.right for word in one.words())]


@dataclass
class Grammar:
    """Draws sentences from lists of words."""

    nouns: Sequence[str]
    verbs: Sequence[str]  # in the past tense
    adjectives: Sequence[str]
    chance: random.Random

    def sentence(self) -> list[tuple[str, str, int]]:
        """The form, the part of speech and the head of each word."""
        root = self.clause(2)
        root.right.append(Node(".", "PUNCT"))
        words = root.words()
        heads = {other: i for i, word in enumerate(words, start=1) for other in (*word.left, *word.right)}
        return [(word.form, word.upos, heads.get(word, 0)) for word in words]

    def clause(self, depth: int) -> Node:
        """A subject and its verb, with an object, another clause or nothing."""
        kind = self.chance.random()
        verb = Node(self.chance.choice(self.verbs), "VERB", [self.noun(depth)])
        if kind < 0.25 and depth:
            verb.form = self.chance.choice(SPEECH)
            verb.right.append(self.clause(depth - 1))
            verb.right[0].left.insert(0, Node("that", "SCONJ"))
        elif kind > 0.5:
            verb.right.append(self.noun(max(0, depth - 1)))
        if kind >= 0.25 and self.chance.random() < 0.35:
            verb.right.append(self.phrase(0))
        return verb

    def noun(self, depth: int) -> Node:
        """A noun with a determiner, adjectives, and a phrase or a relative clause."""
        count = self.chance.choice([0, 0, 1, 2])
        adjectives = [Node(self.chance.choice(self.adjectives), "ADJ") for _ in range(count)]
        determiner = Node(self.chance.choice(DETERMINERS), "DET")
        noun = Node(self.chance.choice(self.nouns), "NOUN", [determiner, *adjectives])
        kind = self.chance.random()
        if depth and kind < 0.35:
            noun.right.append(self.phrase(depth - 1))
        elif depth and kind < 0.75:
            noun.right.append(self.relative(depth - 1))
        return noun

    def phrase(self, depth: int) -> Node:
        """A noun with its preposition."""
        noun = self.noun(depth)
        noun.left.insert(0, Node(self.chance.choice(PREPOSITIONS), "ADP"))
        return noun

    def relative(self, depth: int) -> Node:
        """A verb that describes a noun: "that the sailors called", "who called the sailors"."""
        verb = Node(self.chance.choice(self.verbs), "VERB")
        if self.chance.random() < 0.5:
            verb.left = [Node(self.chance.choice(["that", "whom"]), "PRON"), self.noun(depth)]
        else:
            verb.left, verb.right = [Node("who", "PRON")], [self.noun(depth)]
        if self.chance.random() < 0.3:
            verb.right.append(Node(self.chance.choice(ADVERBS), "ADV"))
        return verb


def treebank(
    count: int,
    nouns: Sequence[str] = ("cats", "dogs", "foxes", "mats"),
    verbs: Sequence[str] = ("sat", "jumped"),
    adjectives: Sequence[str] = ("quick", "lazy"),
    lengths: range = range(8, 25),
) -> str:
    """Sentences as CoNLL-U."""
    grammar = Grammar(nouns, verbs, adjectives, random.Random(0))
    sentences: list[str] = []
    while len(sentences) < count:
        words = grammar.sentence()
        if len(words) in lengths:
            rows = enumerate(words, start=1)
            lines = [f"{i}\t{form}\t{form}\t{upos}\t_\t_\t{head}\t_\t_\t_\n" for i, (form, upos, head) in rows]
            sentences.append(f"# sent_id = {len(sentences) + 1}\n{''.join(lines)}\n")
    return "".join(sentences)
