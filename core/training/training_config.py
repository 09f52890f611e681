"""The options of a training run, for the command line, configuration files and the browser."""

import math
from dataclasses import dataclass

from ..device import NAME, NAMES
from ..models.packing import BatchSampler, TokenLengths
from ..options import check_choices, check_option, is_integer, is_number, option


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained; each field carries its help text (and choices) in its metadata.

    Raises:
        HeadwayError: a value is not possible; the message names the option, the value and the possible values.
    """

    epochs: float | None = option(
        None,
        "Passes over the training data; may be a fraction. Default: 3, or as many as are needed for a few hundred "
        "steps.",
    )
    max_steps: int | None = option(None, "Number of optimizer steps, instead of epochs.")
    effort: str = option(
        "balanced",
        "How long to train if neither epochs nor a number of steps is given: balanced: the default number of epochs; "
        "quick: the same, but at most 100 steps; thorough: three times as many epochs.",
        ("quick", "balanced", "thorough"),
    )
    batch_size: int = option(32, "Examples per batch, over all processes.")
    batch_tokens: int | None = option(None, "Maximum number of tokens per batch, instead of a batch size.")
    tokens_at_once: int | None = option(
        None,
        "Maximum number of tokens per forward pass: larger batches and longer texts are computed in parts to save "
        "memory, with the same result up to rounding. none: depends on the device.",
    )
    gradient_accumulation_steps: int = option(
        1, "Batches per optimizer step. In-batch negatives (similarity) are the other pairs of one batch."
    )
    checkpoint_activations: bool = option(
        False,
        "Save memory: keep only the input of each layer and compute its activations again in the backward pass, with "
        "the same result. A step takes about a third longer.",
    )
    learning_rate: float | None = option(
        None,
        "Peak learning rate, reached after the warm-up. Default: suits the model, from 5e-5 (768 hidden units) to "
        "5e-4 (small models), or from random weights 3e-4 to 1e-3.",
    )
    schedule: str = option("linear", "Decay of the learning rate after the warm-up.", ("linear", "cosine", "constant"))
    # 0.1: Mosbach et al. 2021 (https://arxiv.org/abs/2006.04884): it stabilizes fine-tuning on small data sets.
    warmup_ratio: float = option(0.1, "Fraction of all steps in which the learning rate rises from zero.")
    warmup_steps: int | None = option(None, "Number of warm-up steps, instead of a fraction.")
    weight_decay: float = option(0.01, "Decoupled weight decay of matrices; biases and norms have none.")
    adam_beta1: float = option(0.9, "AdamW's decay rate of the mean of gradients.")
    adam_beta2: float = option(0.999, "AdamW's decay rate of the mean of squared gradients.")
    adam_epsilon: float = option(1e-8, "AdamW's epsilon, added to the denominator.")
    max_grad_norm: float | None = option(1.0, "Gradients are clipped to this norm; none: no clipping.")
    dropout: float | None = option(None, "Dropout probability of all layers; none: the model's own.")
    precision: str = option(
        "auto",
        "Floating-point format; auto: the fastest one of the hardware. bf16 and fp16 are mixed precision; fp32 does "
        "without TensorFloat-32 on a GPU.",
        ("auto", "fp32", "bf16", "fp16"),
    )
    seed: int = option(0, "Random seed.")
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps, ...")
    eval_steps: int | None = option(None, "Steps between evaluations; none: one after each epoch.")
    patience: int | None = option(
        None, "Early stopping: the number of evaluations without a better score, or an equal one with a lower loss."
    )
    save_steps: int | None = option(None, "Steps between checkpoints; none: one after each evaluation and epoch.")
    save_minutes: float | None = option(
        10.0, "Minutes after which a checkpoint is saved in any case; none: as --save-steps says."
    )
    metric: str | None = option(
        None,
        "Metric that selects the best weights: one that the evaluation shows, such as f1 or loss; of equal scores the "
        "lower loss wins. Default: the first metric of the task.",
    )
    keep: str = option("best", "Which weights to keep: those with the best score, or the last.", ("best", "last"))
    trackers: tuple[str, ...] = option(
        (), "Experiment trackers of accelerate: tensorboard, wandb, mlflow, ...; their files go to OUTPUT.trackers."
    )

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_tokens", "tokens_at_once", "eval_steps", "patience", "save_steps"):
            check_option(self, name, is_integer(getattr(self, name), 1), "an integer above 0", optional=True)
        for name in ("batch_size", "gradient_accumulation_steps"):
            check_option(self, name, is_integer(getattr(self, name), 1), "an integer above 0")
        check_option(self, "warmup_steps", is_integer(self.warmup_steps, 0), "an integer, 0 or more", optional=True)
        check_option(self, "seed", is_integer(self.seed, 0) and self.seed < 2**32, "an integer from 0 to 4294967295")
        for name in ("epochs", "learning_rate", "adam_epsilon", "max_grad_norm", "save_minutes"):
            value = getattr(self, name)
            optional = name != "adam_epsilon"
            check_option(self, name, is_number(value) and value > 0, "a number above 0", optional)
        for name in ("adam_beta1", "adam_beta2", "dropout"):
            value = getattr(self, name)
            check_option(self, name, is_number(value) and 0 <= value < 1, "at least 0 and below 1", name == "dropout")
        decay, ratio = self.weight_decay, self.warmup_ratio
        check_option(self, "weight_decay", is_number(decay) and decay >= 0, "a number, 0 or more")
        check_option(self, "warmup_ratio", is_number(ratio) and 0 <= ratio <= 1, "from 0 to 1")
        check_choices(self)
        check_option(self, "device", NAME.fullmatch(str(self.device)) is not None, NAMES)
        names = isinstance(self.trackers, tuple) and all(isinstance(name, str) for name in self.trackers)
        check_option(self, "trackers", names, "a tuple of names")

    def sampler(self, lengths: TokenLengths) -> BatchSampler:
        """The batches of a run over examples with these numbers of tokens."""
        size = self.batch_size if self.batch_tokens is None else None
        return BatchSampler(lengths, batch_size=size, batch_tokens=self.batch_tokens, seed=self.seed)

    def warmup_for(self, total_steps: int) -> int:
        """The number of warm-up steps; a fraction never covers the whole run, whose first step has a rate of zero."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return min(math.ceil(total_steps * self.warmup_ratio), total_steps - 1)
