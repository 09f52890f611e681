"""Every command that computes with a model has --device."""

import inspect
from importlib import import_module

import pytest
from headway.ui import cli
from ran_commands import Headway

# They are for the CPU, or compute nothing.
WITHOUT = {
    "check",
    "events",
    "export",
    "models",
    "push",
    "quickstart",
    "samples",
    "tasks",
}
COMMANDS = {
    "predict": ["{trained}", "a text"],
    "evaluate": ["{trained}", "--data", "reviews.csv"],
    "serve": ["{trained}"],
    "ui": ["{trained}"],
    "embed": ["{trained}", "a text", "another"],
    "rank": ["{trained}", "a text", "--data", "reviews.csv"],
    "search": ["{trained}", "a text", "--data", "reviews.csv"],
    "words": ["{trained}", "film"],
    "generate": ["{gpt2}", "a text"],
    "prompt": ["{gpt2}", "a text", "--labels", "good,bad"],
    "inspect": ["{trained}", "a text"],
    "probe": ["{trained}", "--data", "reviews.csv"],
    "compare": ["{trained}", "{trained}", "--data", "reviews.csv"],
    "label-errors": ["--data", "reviews.csv"],
    "doctor": [],
    "learning-curve": ["--data", "reviews.csv"],
}


def test_every_command_that_computes_with_a_model_has_the_option():
    found = set()
    for name, (module, _) in cli.COMMANDS.items():
        command = getattr(import_module(f"headway.ui.{module}"), f"{name.replace('-', '_')}_command")()
        if "device" in inspect.signature(command).parameters:
            found.add(name)
    assert found == {*COMMANDS, "train"}
    assert cli.COMMANDS.keys() - found == WITHOUT


@pytest.mark.parametrize("command", COMMANDS)
def test_a_device_that_does_not_exist_is_refused(command, headway: Headway, trained, gpt2, reviews):
    arguments = [one.format(trained=trained, gpt2=gpt2) for one in COMMANDS[command]]
    ran = headway(command, *arguments, "--device", "cuda:97")
    assert ran.code == 2
    assert "device='cuda:97' is not on this machine" in " ".join(ran.err.split())


def test_the_cpu_can_be_chosen(headway: Headway, trained, gpt2):
    assert headway("predict", trained, "a text", "--device", "cpu").code == 0
    assert headway("generate", gpt2, "a text", "--device", "cpu", "--max-new-tokens", "1").code == 0
