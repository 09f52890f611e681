"""A prompt on a language model: reads texts and examples as people have them, and answers.

Shapes: O orders of the worked examples, E texts, L labels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import HeadwayError
from ...core.generation.generation import generate
from ...core.generation.generation_config import GenerationConfig
from ...core.models.heads import Backbone, Network
from ...core.tokenizers.tokenizer import Tokenizer
from ..base.predictions import Prediction
from ..classification.classification import TextClassification
from ..classification.predictions import TextExample
from ..data.column_names import LABEL_NAMES
from ..data.columns import ColumnMapping, infer_columns
from ..data.examples import Field
from ..data.labels import NUMBER, ONE, SEVERAL, guess_problem_type, raw_label, readable
from ..data.read import read_table
from ..data.rows import RowStream, Table
from .answers import WrittenAnswer, one_label, several_labels
from .calibration import BATCH, CONTEXTUAL
from .demonstrations import load_vectors
from .runs import PromptRunner
from .templates import DEFAULT, DEFAULT_PAIR, Template

if TYPE_CHECKING:
    from .evaluation import PromptEvaluation
    from .prompt import Prompt

TEXTS_AT_ONCE = 4096  # of a file: enough to be sorted by length, few enough for any memory
ANSWER_NAMES = ("answer", "answers", "output", "completion", "response", "translation", "summary", *LABEL_NAMES)


@dataclass(frozen=True)
class PreparedPrompt:
    """A prompt that knows its labels and its examples: all but the texts."""

    questions: PromptRunner
    labels: tuple[str, ...]  # none where answers are written
    problem_type: str
    unlabelled: tuple[TextExample, ...]  # for batch calibration
    notes: tuple[str, ...]  # what was guessed and decided, a sentence each


class PromptModel:
    """A prompt on a language model; `Prompt(...).on("gpt2")` makes one.

    Args:
        prompt: how to ask.
        network: GPT-2 with its language-model head, in eval mode.
        tokenizer: of the model.
        base: its name.
    """

    def __init__(self, prompt: "Prompt", network: Network, tokenizer: Tokenizer, base: str) -> None:
        self.prompt, self.network, self.tokenizer, self.base = prompt, network, tokenizer, base
        self.left_out: list[int] = []  # worked examples that did not fit, of each text since the last `ask`

    # -- use

    def predict(self, inputs: Any, examples: Any = None, *, unlabelled: Any = None) -> Any:
        """Answers for texts as they are.

        Args:
            inputs: one text (one prediction comes back), or a list of texts; a tuple (or a dict with text and pair)
                where the template asks about two.
            examples: labelled, to choose worked examples from: (text, label) or (text, pair, label) each, or anything
                that `headway.tasks.read_table` reads.
            unlabelled: texts for batch calibration, as `inputs` or as `read_table` reads them.

        Raises:
            HeadwayError: an input, the examples or the labels cannot be used, or a prompt is longer than the context.
        """
        alone = isinstance(inputs, str | tuple | Mapping)
        given = [inputs] if alone else list(inputs)
        asked = self.ask(examples, unlabelled=unlabelled, paired=_are_pairs(given))
        predictions = self.answer(asked, self.texts(given, asked))
        return predictions[0] if alone else predictions

    def predict_rows(
        self, stream: RowStream, asked: PreparedPrompt, columns: ColumnMapping
    ) -> Iterator[tuple[dict[str, Any], Prediction]]:
        """Answers for a file as it is read, in its order and in bounded memory: (row, prediction).

        Batch calibration without unlabelled texts goes by the rows that are in memory at once (`_parts`).
        """
        for part in _parts(stream):
            places, values = [place for place, _ in part], [row for _, row in part]
            table = Table(stream.source, stream.kind, stream.columns, stream.header, values, places)
            yield from zip(values, self.answer(asked, self.unlabelled_texts(table, columns, asked)), strict=True)

    def evaluate(
        self,
        data: Any,
        examples: Any = None,
        *,
        seeds: int = 5,
        columns: Mapping[str, Any] | None = None,
        unlabelled: Any = None,
        header: bool | None = None,
    ) -> "PromptEvaluation":
        """How good the answers are on labelled data, over several choices and orders of the worked examples.

        Args:
            data: labelled rows.
            examples: as in `predict`; those whose text is also in `data` are not used.
            seeds: choices of worked examples, counted from the prompt's seed on.
            columns: which column holds what, in both.
            unlabelled: texts for batch calibration.
            header: whether a table's first row names its columns; told from the rows if left out.

        Raises:
            HeadwayError: the data cannot be read, or has a label that is not among the prompt's.
        """
        from .evaluation import evaluate_prompt

        return evaluate_prompt(self, data, examples, seeds, columns or {}, unlabelled, header)

    def shown(self, asked: PreparedPrompt, texts: Sequence[TextExample]) -> str:
        """The whole prompt for the first of some texts, as the model reads it up to where the answer begins."""
        return self.fitted(asked, texts)[0]

    def fitted(self, asked: PreparedPrompt, texts: Sequence[TextExample]) -> tuple[str, int]:
        """The same, and how many worked examples did not fit into it."""
        room = self.prompt.max_new_tokens if self.prompt.writes else 1
        (prompt,), (left_out,) = asked.questions.prompts(texts[:1], self.prompt.seed, room)
        return prompt, left_out

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of the answers since the last `ask`."""
        touched = [count for count in self.left_out if count]
        if not touched:
            return ()
        window = self.network.config.max_positions
        most = f"{max(touched)} worked example{'s' * (max(touched) > 1)}"
        up_to = "up to " * (len(set(touched)) > 1)
        return (
            f"before {len(touched):,} of {len(self.left_out):,} texts {up_to}{most} did not fit into the "
            f"{window:,} tokens that {self.base} reads, and were left out",
        )

    # -- what is asked

    def ask(
        self,
        examples: Any = None,
        chosen: Mapping[str, Any] | None = None,
        *,
        unlabelled: Any = None,
        paired: bool = False,
        header: bool | None = None,
        data: Table | None = None,
    ) -> PreparedPrompt:
        """Reads the examples and settles the labels and how they are said.

        Args:
            examples: as in `predict`.
            chosen: which column holds what.
            unlabelled: texts for batch calibration.
            paired: whether the texts are pairs, where the template does not tell.
            header: whether a table's first row names its columns.
            data: labelled rows about which will be asked: they tell the labels if neither prompt nor examples do, and
                examples with their texts are not used.

        Raises:
            HeadwayError: the examples cannot be used, or there are no labels.
        """
        prompt, notes = self.prompt, []
        template = prompt.layout or (DEFAULT_PAIR if paired else DEFAULT)
        pool = None if examples is None or _is_empty(examples) else read_table(_as_rows(examples), header=header)
        told = data if pool is None else pool
        columns = None if told is None else self.columns(told, chosen or {}, template.paired, need_label=True)
        labels, problem_type = self._labels(told, columns, template.paired)
        known: list[TextExample] = []
        if pool is not None and columns is not None:
            known = self._reader(labels, problem_type, template.paired).examples(pool, columns)
            known = [example for example in known if example.labels]
            notes += [f"{pool.source}: {len(known)} examples, {pool.kind}", *columns.notes]
            if data is not None:
                known = self._without(known, data, chosen or {}, template.paired, notes)
        words = self._words(labels, template)
        if said := [f"{label} = {word}" for label, word in words.items() if label != word]:
            notes.append(f"labels are said as: {', '.join(said)}")
        if pool is not None and len(known) < prompt.shots:
            notes.append(f"{len(known)} worked examples, because there are no more")
        description = template.description if prompt.description is None else prompt.description
        questions = PromptRunner(
            self.network,
            self.tokenizer,
            self.base,
            template=template,
            description=description.strip(),
            words=words,
            examples=known,
            shots=prompt.shots,
            how=prompt.choice,
            most_orders=prompt.orders,
            vectors=self._vectors() if known else None,
            normalize=prompt.normalize,
        )
        self.left_out = []
        asked = PreparedPrompt(questions, labels, problem_type, (), tuple(notes))
        if unlabelled is None:
            return asked
        return replace(asked, unlabelled=tuple(self._unlabelled(unlabelled, asked, chosen or {}, header)))

    def _vectors(self) -> tuple[Backbone, Tokenizer] | None:
        return None if self.prompt.nearest_by is None else load_vectors(self.prompt.nearest_by)

    def _labels(self, table: Table | None, columns: ColumnMapping | None, paired: bool) -> tuple[tuple[str, ...], str]:
        """The labels, and whether one of them applies or several."""
        prompt = self.prompt
        if prompt.writes:
            return (), ONE
        if prompt.labels:
            problem_type = prompt.problem_type
            if problem_type is None and table is not None and columns is not None:
                values = list(readable(lambda row: raw_label(row, columns.label), table.rows))
                problem_type = SEVERAL if guess_problem_type(values)[0] == SEVERAL else ONE
            return prompt.labels, problem_type or ONE
        if table is None or columns is None:
            raise HeadwayError(
                "--labels are missing. Name them (--labels good,bad), give --examples that have labels, or let the "
                "answer be written (--write)."
            )
        learnt, _ = TextClassification(problem_type=prompt.problem_type, paired=paired).infer_labels(table, columns)
        if learnt.problem_type == NUMBER:
            raise HeadwayError(
                f"{table.source}: the labels are numbers, and a prompt chooses among labels. Name another column with "
                "--label, or name the labels with --labels."
            )
        return learnt.labels, learnt.problem_type or ONE

    def _words(self, labels: Sequence[str], template: Template) -> dict[str, str]:
        """How each label is said: as the person wants, as the template knows all of them, or as it is."""
        said = {label.strip(): words.strip() for label, _, words in (v.partition("=") for v in self.prompt.verbalize)}
        for label, words in said.items():
            if label not in labels:
                listed = f"There are {', '.join(labels)}." if labels else "The answer is written: leave it out."
                raise HeadwayError(f"--verbalize {label}={words}: there is no label {label!r}. {listed}")
        built_in = template.words if set(labels) <= template.words.keys() else {}
        return {label: said.get(label) or built_in.get(label, label) for label in labels}

    def _without(
        self, known: list[TextExample], data: Table, chosen: Mapping[str, Any], paired: bool, notes: list[str]
    ) -> list[TextExample]:
        """The examples without those that will be asked about, whose labels would be given away."""
        columns = self.columns(data, chosen, paired, need_label=True)
        asked = {example.texts for example in self._reader((), ONE, paired).examples(data, columns, labelled=False)}
        kept = [example for example in known if example.texts not in asked]
        if len(kept) < len(known):
            notes.append(f"{len(known) - len(kept)} examples are not used, because their texts are asked about")
        if not kept:
            raise HeadwayError(f"All examples are among the rows of {data.source}. Give others.")
        return kept

    # -- people's texts

    def columns(
        self, table: Table | RowStream, chosen: Mapping[str, Any], paired: bool | None, *, need_label: bool
    ) -> ColumnMapping:
        """Which column holds what.

        Args:
            table: or a stream.
            chosen: what the person said; about the label, only where one is needed.
            paired: whether there are two texts; None: as the template says, or else as the columns do.
            need_label: whether there must be one.

        Raises:
            HeadwayError: a column does not exist or cannot be told.
        """
        if paired is None and self.prompt.layout is not None:
            paired = self.prompt.layout.paired
        if not need_label:
            chosen = {name: said for name, said in chosen.items() if name != "label"}
        reader = self._reader((), ONE, paired)
        if not self.prompt.writes:
            return reader.columns(table, chosen, need_label=need_label)
        label = chosen.get("label") or None
        texts = {name: None if said is None else str(said) for name, said in chosen.items() if name != "label"}
        return infer_columns(
            table, reader.fields, chosen=texts, label=label, label_aliases=ANSWER_NAMES, need_label=need_label
        )

    @property
    def fields(self) -> tuple[Field, ...]:
        """The texts that are asked about."""
        layout = self.prompt.layout
        return self._reader((), ONE, None if layout is None else layout.paired).fields

    def _reader(self, labels: tuple[str, ...], problem_type: str, paired: bool | None) -> TextClassification:
        """What reads rows: the same as for a classifier."""
        numbered = bool(self.prompt.labels)
        return TextClassification(labels=labels, problem_type=problem_type, numbered=numbered, paired=paired)

    def labelled_texts(self, table: Table, columns: ColumnMapping, asked: PreparedPrompt) -> list[TextExample]:
        """A table's rows with their labels."""
        paired = asked.questions.template.paired
        return self._reader(asked.labels, asked.problem_type, paired).examples(table, columns)

    def unlabelled_texts(self, table: Table, columns: ColumnMapping, asked: PreparedPrompt) -> list[TextExample]:
        """A table's rows without their labels."""
        return self._reader((), ONE, asked.questions.template.paired).examples(table, columns, labelled=False)

    def texts(self, inputs: Sequence[Any], asked: PreparedPrompt) -> list[TextExample]:
        """Texts as they are, checked.

        Raises:
            HeadwayError: one is no text, or no pair where the prompt asks about pairs.
        """
        names = ("text", "pair") if asked.questions.template.paired else ("text",)
        rows = []
        for number, one in enumerate(inputs, start=1):
            row = {"text": one} if isinstance(one, str) else one
            if isinstance(row, tuple | list) and len(row) == len(names):
                row = dict(zip(names, row, strict=True))
            if not _is_row(row, names):
                reads = "pairs: tuples of two texts" if len(names) > 1 else "single texts"
                raise HeadwayError(f"input {number}: the prompt asks about {reads}. Correct the input.")
            rows.append(dict(row))
        table = Table("the texts given", "rows", names, True, rows, list(range(1, len(rows) + 1)))
        return self.unlabelled_texts(table, ColumnMapping({name: name for name in names}, None, ()), asked)

    def _unlabelled(
        self, given: Any, asked: PreparedPrompt, chosen: Mapping[str, Any], header: bool | None
    ) -> list[TextExample]:
        if self.prompt.calibration != BATCH:
            raise HeadwayError("--unlabelled texts are for --calibration batch. Add that, or leave them out.")
        if isinstance(given, list) and given and isinstance(given[0], str | tuple):
            return self.texts(given, asked)
        table = read_table(given, header=header)
        columns = self.columns(table, chosen, asked.questions.template.paired, need_label=False)
        return self.unlabelled_texts(table, columns, asked)

    # -- answers

    def answer(self, asked: PreparedPrompt, texts: Sequence[TextExample]) -> list[Any]:
        """A prediction for each text."""
        if not texts:
            return []
        if self.prompt.writes:
            return self.write(asked, texts, self.prompt.seed)
        answers = several_labels if asked.problem_type == SEVERAL else one_label
        return list(answers(asked.labels, *self.shares(asked, texts, self.prompt.seed)))

    def shares(
        self, asked: PreparedPrompt, texts: Sequence[TextExample], seed: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """What the model thinks of the labels, (O, E, L), and the prior to calibrate it by, the same, if any.

        Raises:
            HeadwayError: a text is to be calibrated by itself alone, or a prompt is longer than the model's context.
        """
        by_themselves = self.prompt.calibration == BATCH and not asked.unlabelled
        if by_themselves and len({text.texts for text in texts}) == 1:
            raise HeadwayError(
                "--calibration batch takes out what the model says on average, and of one text nothing would be left. "
                "Give more texts, or --unlabelled ones; or say --calibration contextual."
            )
        contextual = self.prompt.calibration == CONTEXTUAL
        runs = asked.questions.score([*texts, *asked.unlabelled], seed, content_free=contextual)
        shares, prior = runs.shares[:, : len(texts)], None
        self.left_out += runs.left_out[: len(texts)]
        if runs.prior is not None:
            prior = runs.prior[:, : len(texts)]
        elif self.prompt.calibration == BATCH:
            batch = runs.shares[:, len(texts) :] if asked.unlabelled else shares
            prior = np.broadcast_to(batch.mean(axis=1, keepdims=True), shares.shape)
        return shares, prior

    def write(self, asked: PreparedPrompt, texts: Sequence[TextExample], seed: int) -> list[WrittenAnswer]:
        """The likeliest answer to each text, token by token."""
        prompts, left_out = asked.questions.prompts(texts, seed, self.prompt.max_new_tokens)
        self.left_out += left_out
        config = GenerationConfig(max_new_tokens=self.prompt.max_new_tokens, stop=self.prompt.stop or ("\n",))
        found = generate(self.network, self.tokenizer, prompts, config)
        return [WrittenAnswer(one.text.strip(), one.score, one.finish_reason) for (one,) in found]


def _parts(stream: RowStream) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Rows with their places, TEXTS_AT_ONCE at a time; what is left is in the last part as well.

    So no part is too small for batch calibration to go by, but for a file that is small itself.
    """
    rows = iter(stream)
    part = list(islice(rows, TEXTS_AT_ONCE))
    while len(rest := list(islice(rows, TEXTS_AT_ONCE))) == TEXTS_AT_ONCE:
        yield part
        part = rest
    if part:
        yield part + rest


def _are_pairs(given: Sequence[Any]) -> bool:
    return any(isinstance(one, tuple | list) or (isinstance(one, Mapping) and "pair" in one) for one in given)


def _is_row(row: Any, names: Sequence[str]) -> bool:
    return isinstance(row, Mapping) and set(row) == set(names) and all(isinstance(text, str) for text in row.values())


def _is_empty(examples: Any) -> bool:
    return isinstance(examples, list | tuple) and not examples


def _as_rows(examples: Any) -> Any:
    """Tuples of a text, perhaps its pair, and a label as the rows of a table; anything else as it is."""
    if not isinstance(examples, list | tuple) or not isinstance(examples[0], tuple | list):
        return examples
    names = {2: ("text", "label"), 3: ("text", "pair", "label")}.get(len(examples[0]))
    for number, one in enumerate(examples, start=1):
        if names is None or not isinstance(one, tuple | list) or len(one) != len(names):
            raise HeadwayError(
                f"example {number} is {one!r}; each is (text, label), or (text, pair, label) for pairs. Correct it."
            )
    return [dict(zip(names or (), one, strict=True)) for one in examples]
