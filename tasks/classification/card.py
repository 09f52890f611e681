"""The model card of a text-classification model."""

from typing import TYPE_CHECKING

from torch import nn

from ...core.models.gpt2 import GPT2Config
from ...core.models.mean_block import averages
from ..base.card_text import CardText, code, label_list, shell_word, string
from ..data.labels import MULTI_LABEL, REGRESSION, SINGLE_LABEL

if TYPE_CHECKING:
    from ...core.models.heads import Network
    from .classification import TextClassification


def classification_card(task: "TextClassification", network: "Network", name: str) -> CardText:
    """The parts of the card: labels, usage with and without Headway, limitations."""
    gpt2 = isinstance(network.config, GPT2Config)
    what = "a pair of texts" if task.paired else "a text"
    summary = {
        SINGLE_LABEL: f"It classifies {what} into one of {len(task.labels)} classes.",
        MULTI_LABEL: f"It assigns any number of {len(task.labels)} labels to {what}.",
        REGRESSION: f"It predicts a number for {what}.",
    }[task.problem_type or SINGLE_LABEL]
    return CardText(
        summary=summary,
        answers=_outputs(task),
        shell=f'headway predict {shell_word(name)} "A text."' + ' --pair "Another text."' * bool(task.paired),
        python=f"print(model.predict({_example(task)}))",
        transformers=_cloze(task, name) if task.prompt_template else _transformers(task, name, gpt2),
        limits=tuple(_limits(task, network, gpt2)),
    )


def _example(task: "TextClassification") -> str:
    return '("A text.", "Another text.")' if task.paired else '"A text."'


def _outputs(task: "TextClassification") -> str:
    if task.problem_type == REGRESSION:
        return "The output is a number on the scale of the training labels."
    if thresholds := task.label_thresholds:
        shown = zip(task.labels, thresholds, strict=True)
        return "The labels, and the probability threshold of each:\n\n" + label_list(
            f"{code(label)} {threshold:.3f}" for label, threshold in shown
        )
    if task.prompt_template:
        words = task.label_words
        return f"The words of the labels are predicted in the template {code(task.prompt_template)}:\n\n" + label_list(
            f"{code(label)}: {code(words[label])}" if words[label] != label else code(label) for label in task.labels
        )
    return "The labels:\n\n" + label_list(code(label) for label in task.labels)


def _transformers(task: "TextClassification", name: str, gpt2: bool) -> str:
    example = _example(task)
    if task.paired:
        example = (
            '"A text.<|endoftext|>Another text."' if gpt2 else '{"text": "A text.", "text_pair": "Another text."}'
        )
    lines = ["from transformers import pipeline", ""]
    if task.problem_type == REGRESSION:
        mean = f" + {task.target_mean!r}" if task.target_mean else ""
        lines += [
            f'pipe = pipeline("text-classification", model={string(name)}, function_to_apply="none")',
            f'result = pipe({example}, top_k=1)[0]["score"]{mean}',
        ]
    else:
        lines += [
            f'pipe = pipeline("text-classification", model={string(name)})',
            f"result = pipe({example}, top_k=None)",
        ]
    return "\n".join([*lines, "print(result)"])


def _cloze(task: "TextClassification", name: str) -> str:
    """How labels are read from the head for masked tokens."""
    assert task.prompt_template is not None
    tokens = {label: list(ids) for label, ids in zip(task.labels, task.label_tokens, strict=True)}
    pair = '.replace("{pair}", "Another text.")' * bool(task.paired)
    lines = [
        "import torch",
        "from transformers import AutoModelForMaskedLM, AutoTokenizer",
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({string(name)})",
        f"model = AutoModelForMaskedLM.from_pretrained({string(name)}).eval()",
        f"tokens = {tokens!r}  # of each label",
        'masks = " ".join([tokenizer.mask_token] * max(map(len, tokens.values())))',
        f'text = {string(task.prompt_template)}.replace("{{label}}", masks).replace("{{text}}", "A text."){pair}',
        'inputs = tokenizer(text, return_tensors="pt")',
        "with torch.no_grad():",
        '    logits = model(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id]',
        "scores = [sum(logits.log_softmax(-1)[range(len(ids)), ids]) for ids in tokens.values()]",
        f"result = dict(zip(tokens, (torch.stack(scores) / {task.temperature!r}).softmax(-1).tolist()))",
        "print(result)",
    ]
    return "\n".join(lines)


def _limits(task: "TextClassification", network: "Network", gpt2: bool) -> list[str]:
    limit = task.limit(network.config.max_positions, "")
    limits = [
        f"A text of more than {limit:,} tokens is truncated."
        if task.long_texts == "cut"
        else f"A text of more than {limit:,} tokens is read in overlapping windows, whose outputs are averaged. "
        "Plain transformers cannot read it without truncation."
    ]
    if task.frozen:
        limits.append(
            "Only the classifier was fitted, by logistic regression on the features of the pretrained model. "
            "Fine-tuning the whole model takes longer and usually gives better results."
        )
    if task.few_shot:
        limits.append(
            "It was trained for few rows: contrastive training, if cross-validation said that it helps, then logistic "
            "regression. With hundreds of rows per label, fine-tuning usually gives better results."
        )
    if averages(network.backbone):
        limits.append(
            "A text is represented by the mean of its tokens' vectors, which the last layer computes: with equal "
            "attention to all tokens. For tasks on single tokens, start from the model that it was trained from."
        )
    if task.prompt_template:
        limits.append(
            "Its head is that of a masked language model, trained to predict the words of the labels in a template. "
            "Programs that know classifiers only need the code above."
        )
    elif task.temperature != 1:
        limits.append(
            f"Headway divides the logits by a temperature of {task.temperature:.3f}. Plain transformers does not: it "
            "predicts the same labels with different probabilities."
        )
    if task.thresholds:
        limits.append("Plain transformers does not use the thresholds of the labels.")
    classifier = getattr(network.head, "classifier", None)
    if (
        task.problem_type == REGRESSION
        and isinstance(classifier, nn.Linear)
        and classifier.bias is None
        and task.target_mean
    ):
        limits.append(
            f"The published GPT-2 head has no bias. Headway adds {task.target_mean:g} to its output; without Headway, "
            "add it yourself."
        )
    if gpt2 and task.paired:
        limits.append("The two texts are joined by `<|endoftext|>`, because GPT-2 has no separator token.")
    limits.append(
        "It works best on texts like its training data; on other kinds of text or languages it may be confidently "
        "wrong."
    )
    return limits
