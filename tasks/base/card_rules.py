"""The part of a model card about the decision rules that the model has."""

import re

from .card_text import bullets
from .decision_rules import DecisionRules

HEADING = "## Decision rules"
BEFORE = "## Limits"  # the part of a card that follows
SECTION = re.compile(rf"^{HEADING}\n\n.*\n\n(?:- .*\n)+\n?", re.MULTILINE)  # as `rules_section` writes it


def rules_section(rules: DecisionRules) -> str:
    """The rules in words, as Markdown; empty if there are none."""
    lines = []
    if one := rules.abstention:
        fitted = f", as for {one.coverage:.1%} of {one.num_examples:,} held-out rows" if one.coverage else ""
        lines.append(f"`abstained`: the confidence is below {one.min_confidence:.3f}, so the model does not answer. "
                     f"It answers from this confidence on{fitted}.")  # fmt: skip
    if one := rules.conformal:
        lines.append(f"`label_set`: a conformal prediction set ({one.method}), which has the right label of "
                     f"{one.coverage:.1%} of rows like the {one.num_examples:,} held-out ones.")  # fmt: skip
    if one := rules.none_of_these:
        lines.append(f"`none_of_these`: the distance of the text from the training texts is above "
                     f"{one.max_distance:.3f}, so none of the labels is for it. {one.accepted:.1%} of texts like the "
                     f"{one.num_examples:,} held-out ones are nearer. `{one.file}` has the mean and the "
                     "covariance of the vectors of training texts.")  # fmt: skip
    if not lines:
        return ""
    first = "Predictions of Headway have these fields; plain transformers does not compute them."
    return "\n\n".join((HEADING, first, bullets(lines)))


def with_rules(card: str, rules: DecisionRules) -> str:
    """A card with the part for these rules instead of the one that it has; everything else is kept."""
    rest = SECTION.sub("", card)
    section = rules_section(rules)
    if not section:
        return rest
    place = re.search(rf"^{BEFORE}$", rest, re.MULTILINE)
    if place is None:
        return f"{rest.rstrip()}\n\n{section}\n"
    return f"{rest[: place.start()]}{section}\n\n{rest[place.start() :]}"
