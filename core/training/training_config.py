"""The options of a training run: the command line's flags and the browser's form are made from these fields."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..models.packing import BatchSampler
from ..options import check_choices, check_option, is_integer, is_number, option


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained; every field carries its help text (and choices) in its metadata.

    Raises:
        HeadwayError: a value is not possible; the message names the option, the value and what is allowed.
    """

    epochs: float = option(3.0, "Passes over the training data; 0.5 is half of one.")
    max_steps: int | None = option(None, "Optimizer steps, instead of epochs.")
    batch_size: int = option(32, "Examples a batch, over all processes.")
    batch_tokens: int | None = option(None, "Tokens a batch at most, instead of a number of examples.")
    tokens_at_once: int | None = option(
        None,
        "Tokens computed at once, to bound the memory of a large batch (the same result but for rounding; similarity "
        "holds a pair against those computed with it); none: as fits the device.",
    )
    gradient_accumulation_steps: int = option(1, "Batches an optimizer step.")
    learning_rate: float = option(5e-5, "The highest learning rate, reached after the warm-up.")
    schedule: str = option("linear", "How the rate falls after the warm-up.", ("linear", "cosine", "constant"))
    # A tenth: Mosbach et al. 2021 (https://arxiv.org/abs/2006.04884), who find it steadies fine-tuning on small data.
    warmup_ratio: float = option(0.1, "Part of all steps over which the learning rate rises from zero.")
    warmup_steps: int | None = option(None, "Steps of warm-up, instead of a part of all steps.")
    weight_decay: float = option(0.01, "Decoupled weight decay of the matrices; biases and norms have none.")
    adam_beta1: float = option(0.9, "AdamW's decay of the mean of gradients.")
    adam_beta2: float = option(0.999, "AdamW's decay of the mean of squared gradients.")
    adam_epsilon: float = option(1e-8, "What AdamW adds to the root in the denominator.")
    max_grad_norm: float | None = option(1.0, "Gradients are scaled down to this norm; none: as they are.")
    dropout: float | None = option(None, "Dropout everywhere while training; none: the model's own.")
    precision: str = option("auto", "Arithmetic; auto: what the hardware does fast.", ("auto", "fp32", "bf16", "fp16"))
    seed: int = option(0, "Of everything that is random.")
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps, ...")
    eval_steps: int | None = option(None, "Steps between evaluations; none: after each epoch.")
    patience: int | None = option(None, "Stop after so many evaluations in a row without a new best.")
    save_steps: int | None = option(None, "Steps between checkpoints; none: after each evaluation and epoch.")
    keep: str = option("best", "The weights to end with.", ("best", "last"))
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
        for name in ("epochs", "learning_rate", "adam_epsilon", "max_grad_norm"):
            value = getattr(self, name)
            optional = name == "max_grad_norm"
            check_option(self, name, is_number(value) and value > 0, "a number above 0", optional)
        for name in ("adam_beta1", "adam_beta2", "dropout"):
            value = getattr(self, name)
            check_option(self, name, is_number(value) and 0 <= value < 1, "at least 0 and below 1", name == "dropout")
        decay, ratio = self.weight_decay, self.warmup_ratio
        check_option(self, "weight_decay", is_number(decay) and decay >= 0, "a number, 0 or more")
        check_option(self, "warmup_ratio", is_number(ratio) and 0 <= ratio <= 1, "from 0 to 1")
        check_choices(self)
        known = re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", str(self.device)) is not None
        check_option(self, "device", known, "auto, cpu, cuda, cuda:1, mps or xpu")
        names = isinstance(self.trackers, tuple) and all(isinstance(name, str) for name in self.trackers)
        check_option(self, "trackers", names, "a tuple of names")

    def plan(self, lengths: Sequence[int]) -> BatchSampler:
        """The batches of this run, over examples of these many tokens."""
        size = self.batch_size if self.batch_tokens is None else None
        return BatchSampler(lengths, batch_size=size, batch_tokens=self.batch_tokens, seed=self.seed)

    def warmup_for(self, total_steps: int) -> int:
        """Steps of warm-up in a run of so many; as a part of them, never all: the first step has a rate of zero."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return min(math.ceil(total_steps * self.warmup_ratio), total_steps - 1)
