"""Which labels of a classifier of pairs mean that the second text follows from the first, or that it does not.

Published classifiers for natural language inference have the labels entailment, neutral and contradiction, in any
order and case, or entailment and not_entailment (GLUE's RTE and QNLI).
"""

from collections.abc import Iterable, Sequence

from ...core.errors import HeadwayError

ADVICE = (
    "Choose a classifier of pairs that was trained for natural language inference (on the Hub, names with mnli or "
    "nli), or train one: headway train text-classification on pairs with the labels entailment, neutral and "
    "contradiction."
)


def entailment_index(labels: Sequence[str], named: str | None, model: str) -> int:
    """The position of the label that means entailment.

    Args:
        labels: of the model.
        named: the label that the user named; None: found by its name.
        model: its name, for messages.

    Raises:
        HeadwayError: the model has no such label, or none of the labels is named so.
    """
    if named is not None:
        return _position(labels, named, "entailment", model)
    for i, label in enumerate(labels):
        if _means_entailment(label):
            return i
    raise HeadwayError(
        f"{model} has the labels {', '.join(labels)}: none of them is entailment by its name, so that it is not known "
        f"which one means that a hypothesis follows from a text. If one of them does, name it with --entailment. "
        f"{ADVICE}"
    )


def knows_entailment(labels: Iterable[str]) -> bool:
    """Whether one of some labels means entailment by its name."""
    return any(map(_means_entailment, labels))


def contradiction_index(labels: Sequence[str], entailment: int, named: str | None, model: str) -> int:
    """The position of the label that is compared with entailment where a text may have several labels.

    Of two labels it is the other one.

    Args:
        labels: of the model.
        entailment: the position of that label.
        named: the label that the user named; None: found by its name.
        model: its name, for messages.

    Raises:
        HeadwayError: the model has no such label, or none of the labels is named so.
    """
    if named is not None:
        found = _position(labels, named, "contradiction", model)
        if found == entailment:
            raise HeadwayError(f"--contradiction {named}: this is the label that means entailment. Name another one.")
        return found
    others = [i for i in range(len(labels)) if i != entailment]
    if len(others) == 1:
        return others[0]
    for i in others:
        if _letters(labels[i]).startswith(("contra", "notentail", "nonentail")):
            return i
    raise HeadwayError(
        f"{model} has the labels {', '.join(labels)}: none of them is contradiction by its name. Where a text may "
        "have several labels, entailment is compared with it: name it with --contradiction."
    )


def _position(labels: Sequence[str], named: str, meaning: str, model: str) -> int:
    found = [i for i, label in enumerate(labels) if label == named]
    found = found or [i for i, label in enumerate(labels) if label.lower() == named.lower()]
    if len(found) != 1:
        raise HeadwayError(f"--{meaning} {named}: {model} has no such label. Its labels are {', '.join(labels)}.")
    return found[0]


def _means_entailment(label: str) -> bool:
    return _letters(label).startswith("entail")


def _letters(label: str) -> str:
    return "".join(filter(str.isalpha, label.lower()))
