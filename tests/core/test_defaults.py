"""The learning rate and the epochs that a run gets if it names none."""

import pytest
from headway.core.training.defaults import (
    MAX_EPOCHS,
    suited_epochs,
    suited_rate,
    with_rate_from_scratch,
    with_suited_values,
    with_usual_values,
)
from headway.core.training.training_config import TrainConfig


def test_published_sizes_get_published_rates_and_small_models_higher_ones():
    assert suited_rate(768) == 5e-5
    assert 2e-5 <= suited_rate(1024) <= 5e-5
    assert 2e-4 <= suited_rate(384) <= 5e-4
    assert 2e-4 <= suited_rate(256) <= 5e-4
    assert suited_rate(16) == 5e-4
    rates = [suited_rate(size) for size in (128, 256, 384, 512, 768, 1024)]
    assert rates == sorted(rates, reverse=True)


def test_few_rows_get_more_epochs_up_to_a_limit_and_many_rows_get_three():
    assert suited_epochs(10_000) == suited_epochs(200) == 3
    assert 10 * suited_epochs(20) >= 100 > 3 * 20
    assert suited_epochs(1) == MAX_EPOCHS


def test_many_labels_get_more_steps():
    assert suited_epochs(157, 2) == suited_epochs(157) == 3
    assert 157 * suited_epochs(157, 77) >= 1000
    assert suited_epochs(10, 500) == suited_epochs(10) == 30
    _, note = with_suited_values(TrainConfig(), 384, [1] * 5000, 77)
    assert "5,000 examples of 77 labels" in note


@pytest.mark.parametrize("options", [{"batch_size": 8}, {"batch_tokens": 8}, {"gradient_accumulation_steps": 2}])
def test_epochs_follow_the_steps_of_an_epoch_however_batches_are_made(options):
    config, note = with_suited_values(TrainConfig(**options), 384, [1] * 640)
    size = 8 if "gradient_accumulation_steps" not in options else 64
    assert config.epochs == suited_epochs(640 // size)
    assert f"{config.epochs:g} epochs" in note


def test_the_note_names_the_values_the_reasons_and_the_options():
    config, note = with_suited_values(TrainConfig(), 384, [1] * 1000)
    assert config.learning_rate == suited_rate(384)
    for part in ("0.0002", "384", f"{config.epochs:g} epochs", "1,000", "--learning-rate", "--epochs"):
        assert part in note
    assert "\n" not in note


def test_explicit_options_win_and_are_not_explained():
    given = TrainConfig(learning_rate=1e-3, epochs=0.5)
    assert with_suited_values(given, 384, [1] * 10) == (given, "")
    config, note = with_suited_values(TrainConfig(max_steps=7), 384, [1] * 10)
    assert config.max_steps == 7
    assert "epochs" not in note
    config, note = with_suited_values(TrainConfig(learning_rate=1e-3), 384, [1] * 10)
    assert (config.learning_rate, config.epochs) == (1e-3, MAX_EPOCHS)
    assert "--learning-rate" not in note


def test_random_weights_have_a_higher_rate_that_falls_with_the_size():
    rates = {size: with_rate_from_scratch(TrainConfig(), size)[0].learning_rate for size in (128, 512, 768, 1024)}
    assert rates == {128: 1e-3, 512: 1e-3, 768: 6e-4, 1024: 3e-4}
    _, note = with_rate_from_scratch(TrainConfig(), 128)
    assert note == "learning rate 0.001 for random weights and a hidden size of 128 (other values: --learning-rate)"
    assert with_rate_from_scratch(TrainConfig(learning_rate=1e-4), 128)[1] == ""


def test_the_usual_values_are_those_of_bert_base():
    config = with_usual_values(TrainConfig())
    assert (config.learning_rate, config.epochs) == (5e-5, 3)
    assert with_usual_values(TrainConfig(epochs=2)).epochs == 2


@pytest.mark.parametrize("rows", [1, 8, 33, 200, 640, 3000, 50_000])
@pytest.mark.parametrize("suited", [True, False])
def test_a_quick_run_is_never_longer_than_a_balanced_one_and_a_thorough_one_is_always_longer(rows, suited):
    def steps(effort: str) -> float:
        config = TrainConfig(effort=effort)
        lengths = [1] * rows
        found = with_suited_values(config, 384, lengths)[0] if suited else with_usual_values(config, lengths)
        assert found.epochs is not None
        return found.epochs * len(config.sampler(lengths).epoch(0))

    assert steps("quick") == min(100, steps("balanced"))
    assert steps("thorough") == 3 * steps("balanced")


def test_the_effort_gives_way_to_the_options_that_are_given():
    for given in ({"epochs": 2.0}, {"max_steps": 7}):
        lengths = [1] * 10
        plain, thorough = (
            with_usual_values(TrainConfig(effort=one, **given), lengths) for one in ("balanced", "thorough")
        )
        assert plain.max_steps == thorough.max_steps
        assert plain.max_steps or plain.epochs == thorough.epochs
