"""The learning rate and the number of epochs of a run that names none: they follow the model and the data.

The values were chosen by a sweep (tests/benchmarks/defaults.py); docs/defaults.md has its scores. Published practice
for BERT-base and BERT-large: 2e-5 to 5e-5 and 2 to 4 epochs (Devlin et al. 2019, https://arxiv.org/abs/1810.04805,
appendix A.3). Smaller models need higher rates (Turc et al. 2019, https://arxiv.org/abs/1908.08962: up to 3e-4), and
few rows need more epochs (Mosbach et al. 2021, https://arxiv.org/abs/2006.04884).
"""

import math
from dataclasses import replace

from ..models.packing import TokenLengths
from .training_config import TrainConfig

EPOCHS = 3
RATE = 5e-5  # of a hidden size of 768, and of all self-supervised training of pretrained models
HIDDEN_SIZE = 768
MAX_RATE = 5e-4
# (largest hidden size, rate) of training from random weights: Biderman et al. 2023 (https://arxiv.org/abs/2304.01373,
# table 1: 1e-3 for a hidden size of 512, 6e-4 for 768, 3e-4 for 1,024); RoBERTa-base has 6e-4, too (Liu et al. 2019,
# https://arxiv.org/abs/1907.11692, table 9), and so has GPT-3 small (Brown et al. 2020, table 2.1).
RATES_FROM_SCRATCH = ((512, 1e-3), (768, 6e-4), (math.inf, 3e-4))
MIN_STEPS, MAX_EPOCHS = 300, 50  # as many steps as these, but not more epochs
STEPS_PER_LABEL, MAX_EPOCHS_FOR_LABELS = 20, 30
QUICK_STEPS, THOROUGH = 100, 3  # of the efforts: the maximum number of steps, and the factor of the epochs


def with_usual_values(config: TrainConfig, num_tokens: TokenLengths = ()) -> TrainConfig:
    """The usual learning rate and epochs of BERT-base in place of those that are not given.

    Args:
        config: the options of the run.
        num_tokens: of each training example, for the effort; without them, it is balanced.
    """
    steps = _steps_per_epoch(config, num_tokens) if len(num_tokens) else 0
    return _filled(config, RATE, _with_effort(config, EPOCHS, steps))


def with_rate_from_scratch(config: TrainConfig, hidden_size: int) -> tuple[TrainConfig, str]:
    """Training from random weights: its usual learning rate if none is given.

    Args:
        config: the options of the run.
        hidden_size: of the model.

    Returns:
        The options with a rate, and a sentence on it; empty if it was given.
    """
    if config.learning_rate is not None:
        return config, ""
    rate = next(rate for most, rate in RATES_FROM_SCRATCH if hidden_size <= most)
    reason = f"learning rate {rate:g} for random weights and a hidden size of {hidden_size}"
    return replace(config, learning_rate=rate), f"{reason} (other values: --learning-rate)"


def with_suited_values(
    config: TrainConfig, hidden_size: int, num_tokens: TokenLengths, num_labels: int = 0
) -> tuple[TrainConfig, str]:
    """Fine-tuning: a learning rate and epochs that suit the model and the data, in place of those that are not given.

    Args:
        config: the options of the run.
        hidden_size: of the model.
        num_tokens: of each training example.
        num_labels: that the model chooses from; 0: it does not.

    Returns:
        The complete options, and a sentence on what was chosen and why; empty if everything was given.
    """
    reasons, options = [], []
    rate, epochs = suited_rate(hidden_size), EPOCHS
    if config.learning_rate is None:
        reasons.append(f"learning rate {rate:g} for a hidden size of {hidden_size}")
        options.append("--learning-rate")
    if config.epochs is None and config.max_steps is None:
        steps = _steps_per_epoch(config, num_tokens)
        epochs = _with_effort(config, suited_epochs(steps, num_labels), steps)
        what = f"{len(num_tokens):,} examples" + f" of {num_labels:,} labels" * (num_labels > 0)
        why = f" ({round(epochs * steps):,} steps) for {what}" if epochs != EPOCHS else ""
        reasons.append(f"{epochs:.3g} epochs{why}")
        options.append("--epochs")
    chosen = f"{' and '.join(reasons)} (other values: {', '.join(options)})" if reasons else ""
    return _filled(config, rate, epochs), chosen


def suited_rate(hidden_size: int) -> float:
    """The peak learning rate: inversely proportional to the square of the hidden size, in two digits."""
    return float(f"{min(MAX_RATE, RATE * (HIDDEN_SIZE / hidden_size) ** 2):.1e}")


def suited_epochs(steps_per_epoch: int, num_labels: int = 0) -> int:
    """EPOCHS, or as many as MIN_STEPS and STEPS_PER_LABEL for each label need, within their limits."""
    steps_per_epoch = max(1, steps_per_epoch)
    few_rows = min(MAX_EPOCHS, math.ceil(MIN_STEPS / steps_per_epoch))
    many_labels = min(MAX_EPOCHS_FOR_LABELS, math.ceil(STEPS_PER_LABEL * num_labels / steps_per_epoch))
    return max(EPOCHS, few_rows, many_labels)


def _steps_per_epoch(config: TrainConfig, num_tokens: TokenLengths) -> int:
    return math.ceil(len(config.sampler(num_tokens).epoch(0)) / config.gradient_accumulation_steps)


def _with_effort(config: TrainConfig, epochs: float, steps_per_epoch: int) -> float:
    """The epochs of the chosen effort; quick is never longer than balanced, and thorough is always longer."""
    if config.effort == "quick" and epochs * steps_per_epoch > QUICK_STEPS:
        return QUICK_STEPS / steps_per_epoch
    return epochs * THOROUGH if config.effort == "thorough" else epochs


def _filled(config: TrainConfig, rate: float, epochs: float) -> TrainConfig:
    return replace(
        config,
        learning_rate=rate if config.learning_rate is None else config.learning_rate,
        epochs=float(epochs) if config.epochs is None else config.epochs,
    )
