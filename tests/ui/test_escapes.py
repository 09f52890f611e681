"""Control characters in texts, labels and file names: terminals show them and do not obey them."""

import json
import unicodedata
from pathlib import Path

import pytest
from headway.core.training.training_config import TrainConfig
from headway.core.visible import visible, visible_json
from headway.tasks import TextClassification
from headway.ui.cli import main
from headway.ui.terminal import screen
from rich.text import Text

EVIL = "\x1b]0;title\x07\x1b[2J\x9b31mred\x7f\x08"
FAST = TrainConfig(max_steps=2, batch_size=8, learning_rate=1e-3, precision="fp32", device="cpu")


def is_harmless(shown: str) -> bool:
    return not any(unicodedata.category(character) == "Cc" and character not in "\n\t" for character in shown)


def test_every_control_character_is_visible():
    controls = "".join(chr(code) for code in (*range(32), *range(0x7F, 0xA0)))
    assert is_harmless(visible(controls))
    assert visible("tab\tand line\n") == "tab\tand line\n"
    assert visible("\x1b[31m\x9b") == "␛[31m\\x9b"
    assert json.loads(visible_json(json.dumps(controls, ensure_ascii=False))) == controls
    assert is_harmless(visible_json(json.dumps(controls, ensure_ascii=False)))


def test_a_terminal_gets_no_sequence_from_a_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = screen()
    console.print(f"a {EVIL}")
    console.print(Text.assemble((f"b {EVIL}", "bold red")), soft_wrap=True)
    shown = capsys.readouterr().out
    assert "\x1b[1;31m" in shown  # rich's own
    for sequence in ("\x1b]0", "\x1b[2J", "\x9b"):
        assert sequence not in shown
    assert "a ␛]0;title" in shown


@pytest.fixture(scope="module")
def model(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("evil") / "model"
    labels = [("ok", f"bad {EVIL}")[i % 2] for i in range(24)]
    TextClassification().on(tiny).fit([f"text {i}" for i in range(24)], labels, output=output, config=FAST)
    return output


def test_no_command_prints_a_control_character(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    name = tmp_path / "in \x1b[31m.csv"
    name.write_text(f'text,label\n"my {EVIL}",ok\n"your {EVIL}","bad {EVIL}"\n')
    missing = tmp_path / "none \x1b[2J.csv"
    runs = [
        (0, ["predict", model, f"my {EVIL}"]),
        (0, ["predict", model, f"my {EVIL}", "--json"]),
        (0, ["predict", model, "--data", name]),
        (0, ["predict", model, "--data", name, "--output", tmp_path / "out \x1b[31m.csv"]),
        (0, ["evaluate", model, "--data", name]),
        (0, ["check", "text-classification", "--data", name]),
        (2, ["predict", model, "--data", missing]),
        (2, ["predict", model, "text", f"--{EVIL}"]),
        (0, ["embed", model, f"my {EVIL}", "your"]),
        (0, ["train", "text-classification", "--data", name, "--model", model, "--output", tmp_path / "n\x1b[3m"]),
    ]
    for status, arguments in runs:
        assert main([str(one) for one in arguments]) == status, arguments
        shown = capsys.readouterr()
        assert shown.out + shown.err
        assert is_harmless(shown.out), arguments
        assert is_harmless(shown.err), arguments
