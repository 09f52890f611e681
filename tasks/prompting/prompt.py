"""Few-shot prompting: a language model chooses a label or generates an answer, given a description and examples.

Brown et al. 2020 (https://arxiv.org/abs/2005.14165) for GPT-2. A masked language model (BERT, RoBERTa, ...) chooses
a label at the masks of the template (cloze_runner.py). Nothing is trained: a prompt with its labels takes the place of
a trained classifier and gives the same kind of predictions. templates.py has the layout, demonstrations.py the choice
of examples, scoring.py the ways to score labels, calibration.py the calibration, evaluation.py the scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...core.checkpoints.families.registry import family_of
from ...core.checkpoints.hub import absolute_name
from ...core.errors import HeadwayError
from ...core.generation.generation_config import GenerationConfig
from ...core.models.bert import BertConfig
from ...core.models.heads import Network
from ...core.options import check_choices, option
from ...core.tokenizers.tokenizer import Tokenizer
from ..base.precision import AUTO
from ..classification.predictions import TextExample
from ..data.labels import MULTI_LABEL, SINGLE_LABEL
from ..data.read import read_table
from ..data.rows import Table
from ..language_modeling.loading import load_any_language_model
from ..text_to_text.stored import find_stored
from .calibration import BATCH, CONTEXTUAL, NONE
from .cloze_runner import ClozeRunner
from .demonstrations import BALANCED, CHOICES, NEAREST, load_similarity_model
from .evaluation import PromptEvaluation, evaluate_prompt
from .example_reader import ExampleReader, are_pairs, as_rows
from .label_words import read_words
from .neighbours import NEIGHBOURS
from .prepared_prompt import PreparedPrompt
from .prompt_runner import PromptRunner
from .scoring import CHANNEL, DIRECT, SCORINGS, calibration_of, check_masked, check_scoring, scoring_notes
from .templates import BUILT_IN, DEFAULT, DEFAULT_PAIR, SEPARATOR, Template, find_template, words_of_labels


@dataclass(frozen=True)
class Prompt:
    r"""How to prompt a language model: the labels, the layout, and the choice of demonstrations.

        model = Prompt(labels=["good", "bad"], template="Review: {text}\nIt is {label}").on("gpt2")
        model.predict(texts, examples=[("what a film", "good"), ("two lost hours", "bad")])

    Frozen; its fields are options. Lists become tuples, and `verbalize` may be a mapping of labels to words.

    Raises:
        HeadwayError: an option has an invalid value.
    """

    labels: tuple[str, ...] = option(
        (), "Labels to choose from, also joined by commas; the data may then give a label's position, from 0. "
        "Default: the labels of the examples.",
    )  # fmt: skip
    template: str | None = option(
        None,
        r"A text with {text}, {pair} for the second text of a pair, and {label} where the answer goes; \n is a line "
        "break. {input} and {output}: the answer is generated (--write). Or the name of a built-in template: "
        "sentiment, topic, question-type, entailment, translation, summarize, answer, or 'translate A to B' for any "
        "two languages.",
    )
    description: str | None = option(
        None, "First paragraph of the prompt; empty for none. Default: that of the template."
    )
    verbalize: tuple[str, ...] = option(
        (), "How the prompt spells labels: 0=negative,1=positive. Predictions keep the label names."
    )
    problem_type: str | None = option(
        None,
        "Whether a text has one label or several. Default: inferred from the examples.",
        choices=(SINGLE_LABEL, MULTI_LABEL),
    )
    normalize: bool = option(False, "Score a label by the mean over its tokens instead of the sum.")
    shots: int = option(8, "Number of demonstrations (labelled examples) before each text.")
    choice: str = option(
        BALANCED,
        "Which examples to show: balanced over the labels, random, the first of the file, or the nearest to each "
        "text.",
        choices=CHOICES,
    )
    nearest_by: str | None = option(
        None, "A model whose vectors find the nearest examples. Default: the prompted model."
    )
    orders: int = option(1, "Number of orders of the demonstrations to average over; the spread is shown.")
    scoring: str = option(
        DIRECT,
        "How labels are scored. direct: the likelihood of the label after the text. channel: the likelihood of the "
        "text after the label, often steadier over the choice and order of few examples; the prompt shows labels "
        "before texts. knn: the labels of the examples with the most similar next token, for more examples than fit "
        "into a prompt. pmi: direct, divided by the likelihood of the label after a short text (--domain); for "
        "prompts without examples, or if some labels are much more common words than others.",
        choices=SCORINGS,
    )
    neighbours: int | None = option(None, f"Number of examples that vote with --scoring knn. Default: {NEIGHBOURS}.")
    domain: str | None = option(
        None,
        "A short text that the labels could follow, for --scoring pmi. Default: what the template has between the "
        "texts and the label, as in 'Sentiment:'.",
    )
    calibration: str | None = option(
        None,
        "Divide label probabilities by a prior: contextual estimates it on texts without content, batch on the "
        "--unlabelled texts or the texts to label. Default: contextual with --scoring direct, else none; channel may "
        "use batch.",
        choices=(CONTEXTUAL, BATCH, NONE),
    )
    write: bool = option(False, "Generate the answer instead of choosing a label; the examples' labels are answers.")
    stop: tuple[str, ...] = option(
        (),
        r"Texts that end a generated answer. Default: a line break, \n; an empty line if answers of the examples have "
        "line breaks.",
    )
    max_new_tokens: int | None = option(
        None,
        "Maximum number of tokens of a generated answer. Default: that of the template (summarize 100, "
        "others 40), or of a text-to-text model.",
    )
    seed: int = option(0, "Seed of the choice of demonstrations and of their orders.")

    def __post_init__(self) -> None:
        object.__setattr__(self, "verbalize", read_words(self.verbalize))
        for name in ("labels", "stop"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(map(str, value)))
        counts = (("shots", 0), ("orders", 1), ("neighbours", 1), ("max_new_tokens", 1), ("seed", 0))
        for name, least in counts:
            value = getattr(self, name)
            if name in ("max_new_tokens", "neighbours") and value is None:
                continue
            if not isinstance(value, int) or value < least:
                raise HeadwayError(f"--{name.replace('_', '-')} {value}: a whole number, {least} or more.")
        check_choices(self)
        if len(self.labels) == 1 or len(set(self.labels)) < len(self.labels):
            raise HeadwayError(f"--labels {','.join(self.labels)}: name at least two different labels.")
        if any(not label.strip() for label in self.labels):
            raise HeadwayError("--labels: one of the labels is empty. Give it a name.")
        if self.nearest_by and self.choice != NEAREST:
            raise HeadwayError("--nearest-by needs --choice nearest. Add it, or omit --nearest-by.")
        if self.writes and self.labels:
            raise HeadwayError("--labels are for choosing an answer, but here the answer is generated. Omit --labels.")
        if self.writes and self.orders > 1:
            raise HeadwayError(f"--orders {self.orders}: generated answers cannot be averaged. Omit --orders.")
        check_scoring(self)

    @property
    def layout(self) -> Template | None:
        """The template; None if it depends on whether the data has pairs."""
        found = None if self.template is None else find_template(self.template)
        return found.with_label_first() if found is not None and self.scoring == CHANNEL else found

    @property
    def writes(self) -> bool:
        """Whether answers are generated."""
        return self.write or (self.layout is not None and self.layout.writes)

    def on(self, model: str | Path, precision: str = AUTO, device: str = AUTO) -> "PromptModel":
        """Opens a GPT-2 or a masked language model; the template of a text-to-text model is used if none is given.

        Args:
            model: a folder, a built-in name or a Hub id.
            precision: one of `headway.tasks.base.precision.PRECISION_CHOICES`.
            device: auto (the accelerator if there is one), cpu, cuda, cuda:1, mps or xpu.

        Raises:
            HeadwayError: the model or the device does not exist, the model cannot be read, has no language-model head
                or does not fit the prompt, or the precision is unknown.
        """
        prompt, notes, stored = self, (), None if self.template or self.labels else find_stored(model)
        if stored is not None:
            template = stored.template
            most = self.max_new_tokens or stored.task.max_new_tokens
            prompt = replace(self, template=template.text, max_new_tokens=most)
            notes = (f"the template is that of {model}: {template.shown} (--template names another one)",)
        loaded = load_any_language_model(model, precision, device)
        return PromptModel(prompt, *loaded, str(model), precision=precision, device=device, notes=notes)


class PromptModel:
    """A prompt on a language model; `Prompt(...).on("gpt2")` creates one.

    Args:
        prompt: the options.
        network: GPT-2 with its language-model head, or BERT with its head for masked tokens, in eval mode.
        tokenizer: of the model.
        base: the name of the model.
        precision: with which it was opened.
        device: on which it was opened, by name.
        notes: about the prompt, a sentence each.
    """

    def __init__(
        self,
        prompt: Prompt,
        network: Network,
        tokenizer: Tokenizer,
        base: str,
        *,
        precision: str = AUTO,
        device: str = AUTO,
        notes: Sequence[str] = (),
    ) -> None:
        self.prompt, self.network, self.tokenizer, self.base = prompt, network, tokenizer, base
        self.precision, self.device, self.notes = precision, device, notes
        self.prepared: PreparedPrompt | None = None  # by the last `prepare`, `predict` or `evaluate`
        if self.masked:
            check_masked(prompt, base, family_of(network.config).with_article)
        elif prompt.layout is not None and prompt.scoring != CHANNEL:
            prompt.layout.refuse_text_after_label()

    def __repr__(self) -> str:
        labels = f"; {len(self.prompt.labels)} labels: {', '.join(self.prompt.labels)}" if self.prompt.labels else ""
        return f"<PromptModel: {self.base}{labels}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and deepcopy: the copy opens the model again, because prepared weights cannot be copied."""
        return self.prompt.on, (absolute_name(self.base), self.precision, self.device)

    @property
    def masked(self) -> bool:
        """Whether it fills masks instead of continuing texts."""
        return isinstance(self.network.config, BertConfig)

    @property
    def reader(self) -> ExampleReader:
        """Reads rows before labels are inferred."""
        prompt = self.prompt
        paired = None if prompt.layout is None else prompt.layout.paired
        return ExampleReader(prompt.labels, prompt.problem_type, bool(prompt.labels), prompt.writes, paired)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about the last predictions that the user should know."""
        return () if self.prepared is None else self.prepared.warnings

    def predict(self, inputs: Any, examples: Any = None, *, unlabelled: Any = None) -> Any:
        """Predicts the labels of texts, or generates answers to them.

        Args:
            inputs: a text, or a list of texts. If the template has {pair}: tuples of two texts, or dicts with text
                and pair.
            examples: labelled, to choose demonstrations from: tuples (text, label) or (text, pair, label), or
                anything that `headway.tasks.read_table` reads.
            unlabelled: texts for batch calibration: a list as `inputs`, or anything that `read_table` reads.

        Returns:
            A prediction for a single input, a list of predictions for a list.

        Raises:
            HeadwayError: an input, the examples or the labels cannot be used, or a prompt is longer than the context.
        """
        single = isinstance(inputs, str | tuple | Mapping)
        texts = [inputs] if single else list(inputs)
        prepared = self.prepare(examples, unlabelled=unlabelled, paired=are_pairs(texts))
        predictions = prepared.predict(prepared.reader.texts(texts))
        return predictions[0] if single else predictions

    def evaluate(
        self,
        data: Any,
        examples: Any = None,
        *,
        seeds: int = 5,
        columns: Mapping[str, Any] | None = None,
        unlabelled: Any = None,
        **reading: Any,
    ) -> PromptEvaluation:
        """Scores the prompt on labelled data, over several choices and orders of the demonstrations.

        Args:
            data: labelled rows.
            examples: as in `predict`; those whose text also occurs in `data` are not used.
            seeds: number of choices of demonstrations, starting at the seed of the prompt.
            columns: which column holds what, in `data` and `examples`.
            unlabelled: texts for batch calibration.
            **reading: fields of ReadOptions: header, encoding, ...

        Raises:
            HeadwayError: the data cannot be read, or has a label that the prompt does not know.
        """
        if not isinstance(seeds, int) or seeds < 1:
            raise HeadwayError(f"--seeds {seeds}: a whole number, 1 or more.")
        table = read_table(data, **reading)
        found = self.reader.columns(table, columns or {}, need_label=True)
        table = self.reader.usable(table, found)
        paired = "pair" in found.texts
        prepared = self.prepare(examples, columns, unlabelled=unlabelled, paired=paired, data=table, **reading)
        texts = prepared.reader.examples(table, found, labelled=True)
        result = evaluate_prompt(prepared, texts, seeds)
        notes = (f"{table.source}: {len(texts)} rows, {table.kind}", *table.notes, *found.notes, *prepared.notes)
        return replace(result, notes=(*notes, *result.notes, *prepared.warnings))

    def prepare(
        self,
        examples: Any = None,
        columns: Mapping[str, Any] | None = None,
        *,
        unlabelled: Any = None,
        paired: bool = False,
        data: Table | None = None,
        **reading: Any,
    ) -> PreparedPrompt:
        """Reads the examples and infers the labels.

        Args:
            examples: as in `predict`.
            columns: which column holds what.
            unlabelled: texts for batch calibration.
            paired: whether the queries are pairs, if the prompt has no template.
            data: labelled queries: the labels come from there if neither the prompt nor the examples have any, and
                examples with the same texts are not used.
            **reading: fields of ReadOptions: header, encoding, ...

        Raises:
            HeadwayError: the examples cannot be used, or there are no labels.
        """
        prompt, chosen, notes = self.prompt, columns or {}, [*self.notes]
        template = prompt.layout or (DEFAULT_PAIR if paired else DEFAULT)
        if prompt.scoring == CHANNEL:
            template = template.with_label_first()
        if self.masked and not template.after and prompt.template in (None, *BUILT_IN):
            template = replace(template, after=".")  # at the end of a text, a masked language model predicts a period
        reader = replace(self.reader, paired=template.paired)
        pool = None if examples is None or _is_empty(examples) else _read(as_rows(examples), reading)
        table = data if pool is None else pool
        found = None if table is None else reader.columns(table, chosen, need_label=True)
        reader = reader.infer_labels(table, found)
        known: list[TextExample] = []
        if pool is not None and found is not None:
            pool = reader.usable(pool, found)
            known = [example for example in reader.examples(pool, found, labelled=True) if example.labels]
            notes += [f"{pool.source}: {len(known)} examples, {pool.kind}", *pool.notes, *found.notes]
            if data is not None:
                known = _without(known, data, reader, chosen, notes)
        words = words_of_labels(reader.labels, prompt.verbalize, template)
        if spelled := [f"{label} = {word}" for label, word in words.items() if label != word]:
            notes.append(f"the prompt spells labels: {', '.join(spelled)}")
        if pool is not None and len(known) < prompt.shots:
            notes.append(f"{len(known)} demonstrations: there are no more examples")
        runner = self._runner(template, words, known)
        notes += scoring_notes(prompt, runner, reader.problem_type)
        self.prepared = PreparedPrompt(
            runner,
            reader,
            calibration=calibration_of(prompt),
            generation=self._generation(template, known),
            seed=prompt.seed,
            notes=tuple(notes),
            unlabelled=() if unlabelled is None else self._read_unlabelled(unlabelled, reader, chosen, reading),
        )
        return self.prepared

    def _generation(self, template: Template, examples: Sequence[TextExample]) -> GenerationConfig:
        """How an answer is generated: until the text that follows it in the examples."""
        several_lines = any("\n" in str(example.label).strip() for example in examples) and self.prompt.writes
        return GenerationConfig(
            max_new_tokens=self.prompt.max_new_tokens or template.max_new_tokens,
            stop=self.prompt.stop or (SEPARATOR if several_lines else "\n",),
        )

    def _runner(self, template: Template, words: Mapping[str, str], examples: Sequence[TextExample]) -> PromptRunner:
        prompt, device = self.prompt, self.network.backbone.token_embedding.weight.device
        nearest_by = prompt.nearest_by if examples else None
        return (ClozeRunner if self.masked else PromptRunner)(
            self.network,
            self.tokenizer,
            self.base,
            template=template,
            description=(template.description if prompt.description is None else prompt.description).strip(),
            words=words,
            examples=examples,
            max_shots=prompt.shots,
            choice=prompt.choice,
            max_orders=prompt.orders,
            similarity_model=load_similarity_model(nearest_by, device) if nearest_by else None,
            normalize=prompt.normalize,
            scoring=prompt.scoring,
            neighbours=prompt.neighbours or NEIGHBOURS,
            domain=prompt.domain,
        )

    def _read_unlabelled(
        self, given: Any, reader: ExampleReader, chosen: Mapping[str, Any], reading: Mapping[str, Any]
    ) -> tuple[TextExample, ...]:
        if calibration_of(self.prompt) != BATCH:
            raise HeadwayError("--unlabelled texts are for --calibration batch. Add it, or omit --unlabelled.")
        if isinstance(given, list) and given and isinstance(given[0], str | tuple):
            return tuple(reader.texts(given))
        table = _read(given, reading)
        return tuple(reader.examples(table, reader.columns(table, chosen, need_label=False), labelled=False))


def _without(
    known: Sequence[TextExample], data: Table, reader: ExampleReader, chosen: Mapping[str, Any], notes: list[str]
) -> list[TextExample]:
    """The examples whose texts are not among the queries: the prompt would contain the answer."""
    columns = reader.columns(data, chosen, need_label=True)
    queries = {example.texts for example in reader.examples(data, columns, labelled=False)}
    kept = [example for example in known if example.texts not in queries]
    if len(kept) < len(known):
        notes.append(f"{len(known) - len(kept)} examples are not used: their texts are also in {data.source}")
    if not kept:
        raise HeadwayError(f"All examples are among the rows of {data.source}. Give others.")
    return kept


def _read(source: Any, reading: Mapping[str, Any]) -> Table:
    """The rows of a file, or those that the caller passed, to which the options for reading do not apply."""
    return read_table(source, **reading) if isinstance(source, str | Path) else read_table(source)


def _is_empty(examples: Any) -> bool:
    return isinstance(examples, list | tuple) and not examples
