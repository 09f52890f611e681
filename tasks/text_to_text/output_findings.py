"""What is said about outputs that teach nothing, or say nothing: all the same, those of the inputs, or empty."""

from collections import Counter
from collections.abc import Iterator, Sequence

from ..data.findings import Finding, are, count
from ..data.places import shorten
from .predictions import PairExample

FEWEST = 8  # rows of which it is worth saying that most have the same output
SHOWN = 40  # characters of an output


def output_findings(examples: Sequence[PairExample]) -> Iterator[Finding]:
    """Findings about the outputs of training data."""
    if len(examples) < 2:
        return
    outputs = Counter(text.strip() for one in examples for text in one.outputs)
    text, most = outputs.most_common(1)[0]
    total = outputs.total()
    if most == total or (2 * most > total and total >= FEWEST):
        what = f"{'all ' if most == total else ''}{most:,}{'' if most == total else f' of {total:,}'} outputs"
        yield Finding(
            "one output",
            "warning",
            f"{what} are the same text, {shorten(text, SHOWN)!r}, so the model may learn to write it for every input. "
            "Name another column with --label, or add rows with other outputs.",
        )
    copied = [one.where for one in examples if one.text.strip() in {text.strip() for text in one.outputs}]
    if 2 * len(copied) > len(examples):
        yield Finding(
            "copied",
            "warning",
            f"in {len(copied):,} of {count(len(examples), 'row')} the output is the input, so the model may learn to "
            "copy. Check that --input and --label name the right columns.",
            tuple(copied),
        )


def describe_outputs(outputs: Sequence[str]) -> Iterator[str]:
    """Sentences about generated outputs that are all the same, or empty."""
    if len(outputs) > 1 and len(set(outputs)) == 1 and outputs[0]:
        yield f"all {len(outputs):,} outputs are the same text: {shorten(outputs[0], SHOWN)!r}"
    if empty := [one for one in outputs if not one.strip()]:
        yield f"{len(empty):,} of {count(len(outputs), 'output')} {are(empty)} empty"
