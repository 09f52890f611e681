"""What the README says to type works: its blocks are run on sample data, with a tiny model under the names it uses."""

import csv
import re
import shlex
from pathlib import Path

import pytest
import torch
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.heads import Network
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import samples
from headway.ui.cli import main
from tiny_gpt2 import make_gpt2

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
SHELL = [block.strip().splitlines() for language, block in BLOCKS if language == "sh"]
PYTHON = [block for language, block in BLOCKS if language == "python"]


@pytest.fixture
def place(tmp_path: Path, wordpiece_folder: Path, byte_level_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the README speaks of."""
    with Path(str(samples.__file__)).with_name("messages.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    for name, part in {"train.csv": rows[:60], "test.csv": rows[60:90]}.items():
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *part])
    tokenizer = Tokenizer.load(wordpiece_folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32, "max_positions": 64}
    (tmp_path / "bert-base-uncased").mkdir()
    network = Network(Bert(BertConfig(vocab_size=tokenizer.vocab_size, **sizes)))
    save_checkpoint(tmp_path / "bert-base-uncased", network)
    tokenizer.save(tmp_path / "bert-base-uncased")
    (tmp_path / "gpt2").mkdir()
    make_gpt2(byte_level_folder, tmp_path / "gpt2", max_positions=1024)
    (tmp_path / "corpus.txt").write_text("".join(f"{row[0]}\n" for row in rows[:200]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_two_blocks_are_the_main_job_and_the_tests():
    assert SHELL[0] == ["pip install . && headway quickstart"]
    assert SHELL[1] == ['pip install ".[test]" && pytest']


@pytest.mark.usefixtures("place")
def test_the_commands_for_ones_own_file_work():
    commands = [shlex.split(line)[1:] for block in SHELL[2:] for line in block if line.startswith("headway ")]
    assert len(commands) >= 5
    for command in commands:
        # Servers run until they are stopped: test_serve.py and test_browser_app.py start them.
        if command[0] not in ("ui", "serve"):
            assert main(command) == 0, command


def test_the_lines_of_python_work(place: Path, capsys: pytest.CaptureFixture[str]):
    training, prompting = PYTHON
    exec(compile(training, str(README), "exec"), {})
    assert (place / "runs/messages/model.safetensors").exists()
    assert capsys.readouterr().out.strip() in {"account", "billing", "delivery", "praise", "refund", "technical"}
    exec(compile(prompting, str(README), "exec"), {})
    assert capsys.readouterr().out.strip() in {"good", "bad"}


def test_every_file_of_the_tree_is_there():
    tree = next(block for language, block in BLOCKS if language == "text")
    root = README.parent
    lines = [line for line in tree.splitlines() if line.strip()]
    assert len(lines) > 30
    folders: list[str] = []
    for line in lines:
        name = line.split()[0]
        del folders[(len(line) - len(line.lstrip())) // 2 :]  # each folder's files stand two further to the right
        path = root.joinpath(*folders, name)
        if name.endswith("/"):
            folders.append(name)
        assert path.exists(), path
