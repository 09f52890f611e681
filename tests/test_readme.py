"""The commands and Python examples of the README run, on sample data with tiny models under the names it uses."""

import csv
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import readme_tree
import torch
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.checkpoints.families.registry import FAMILIES
from headway.core.models.heads import Network, new_backbone, reads_segments
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import samples
from headway.ui.cli import main
from tiny_gpt2 import make_gpt2
from torch.distributed import TCPStore
from torch.distributed.run import get_args_parser
from treebanks import treebank

README = Path(__file__).resolve().parents[1] / "README.md"
CLUSTERS = README.parent / "docs/clusters.md"
MODELS = README.parent / "docs/models.md"
EVALUATION = README.parent / "docs/evaluation.md"
FEW_LABELS = README.parent / "docs/few-labels.md"
MUSIC = README.parent / "docs/music.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
SHELL = [block.strip().splitlines() for language, block in BLOCKS if language == "sh"]
PYTHON = [block for language, block in BLOCKS if language == "python"]


@pytest.fixture
def place(tmp_path: Path, wordpiece_folder: Path, byte_level_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files and models that the README names."""
    with Path(str(samples.__file__)).with_name("messages.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    for name, part in {"train.csv": rows[:60], "test.csv": rows[60:90]}.items():
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *part])
    pairs = Path(str(samples.__file__)).with_name("requests.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "pairs.csv").write_text("\n".join(pairs[:41]), encoding="utf-8")
    tokenizer = Tokenizer.load(wordpiece_folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32, "max_positions": 64}
    for name, family in {"bert-base-uncased": "bert", "distilbert-base-uncased": "distilbert"}.items():
        (tmp_path / name).mkdir()
        config = replace(FAMILIES[family].config, vocab_size=tokenizer.vocab_size, **sizes)
        save_checkpoint(tmp_path / name, Network(new_backbone(config)))
        tokenizer.save(tmp_path / name, segments=reads_segments(config))
    (tmp_path / "gpt2").mkdir()
    make_gpt2(byte_level_folder, tmp_path / "gpt2", max_positions=1024)
    (tmp_path / "corpus.txt").write_text("".join(f"{row[0]}\n" for row in rows[:200]), encoding="utf-8")
    (tmp_path / "treebank.conllu").write_text(treebank(30, lengths=range(5, 9)), encoding="utf-8")
    monkeypatch.setattr("headway.tasks.inspection.structural_probe.MAX_EPOCHS", 1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_two_blocks_install_headway_and_run_the_tests():
    assert SHELL[0] == ['pip install ".[ui]" && headway quickstart']
    assert SHELL[1] == ['pip install ".[test]" && pytest']


@pytest.mark.usefixtures("place")
def test_every_command_of_the_readme_runs():
    commands = [shlex.split(line)[1:] for block in SHELL[2:] for line in block if line.startswith("headway ")]
    assert len(commands) >= 20
    for command in commands:
        # Servers run until they are stopped: test_serve.py and test_browser_app.py start them.
        if command[0] not in ("ui", "serve"):
            assert main(command) == 0, command


@pytest.mark.usefixtures("place")
def test_the_commands_of_the_page_on_models_run():
    (block,) = re.findall(r"```sh\n(.*?)```", MODELS.read_text(encoding="utf-8"), re.S)
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [command[:2] for command in commands] == [["headway", "models"], ["headway", "train"]]
    for command in commands:
        assert main(command[1:]) == 0, command


@pytest.mark.usefixtures("place")
def test_the_commands_of_the_page_on_evaluation_run():
    blocks = re.findall(r"```sh\n(.*?)```", EVALUATION.read_text(encoding="utf-8"), re.S)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert len(commands) >= 5
    for command in commands:
        assert command[0] == "headway"
        shorter = ["--max-steps", "4"] if command[1] == "train" else []
        assert main([*command[1:], *shorter]) == 0, command
    for example in re.findall(r"```python\n(.*?)```", EVALUATION.read_text(encoding="utf-8"), re.S):
        exec(compile(example, str(EVALUATION), "exec"), {})


@pytest.mark.usefixtures("place")
def test_the_commands_of_the_section_on_cloze_prompts_run():
    section = FEW_LABELS.read_text(encoding="utf-8").partition("## Cloze prompts")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.S)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert len(commands) == 3
    for command in commands:
        assert command[0] == "headway"
        shorter = ["--max-steps", "2", "--device", "cpu"] if command[1] == "train" else []
        assert main([*command[1:], *shorter]) == 0, command


def test_the_python_examples_of_the_readme_run(place: Path, capsys: pytest.CaptureFixture[str]):
    training, prompting, _ = PYTHON  # test_smallest_task.py runs the third
    exec(compile(training, str(README), "exec"), {})
    assert (place / "runs/messages/model.safetensors").exists()
    assert capsys.readouterr().out.strip() in {"account", "billing", "delivery", "praise", "refund", "technical"}
    exec(compile(prompting, str(README), "exec"), {})
    assert capsys.readouterr().out.strip() in {"good", "bad"}


def test_every_command_of_the_page_on_music_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    melodies = Path(str(samples.__file__)).with_name("melodies.txt").read_text(encoding="utf-8").splitlines()[:6]
    (tmp_path / "melodies.txt").write_text("\n".join(melodies), encoding="utf-8")
    (tmp_path / "beginning.txt").write_text(" ".join(melodies[0].split()[:20]), encoding="utf-8")
    assert main(["events", "melodies.txt", "--output", "songs"]) == 0
    assert main(["events", "beginning.txt", "--output", "beginning.mid"]) == 0
    (tmp_path / "beginning.txt").unlink()
    ((language, block),) = re.findall(r"```(\w+)\n(.*?)```", MUSIC.read_text(encoding="utf-8"), re.S)
    commands = [shlex.split(line)[1:] for line in block.splitlines()]
    assert (language, len(commands)) == ("sh", 7)
    for command in commands:
        assert main([*command, "--max-steps", "3"] if command[0] == "train" else command) == 0, command
    assert (tmp_path / "new-songs/0001.mid").exists()


# Two tasks on this machine. Each one runs the command without the options of srun.
SRUN = """#!/bin/bash
shift
export SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_NTASKS=2 SLURM_STEP_NUM_TASKS=2 OMP_NUM_THREADS=1
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" --batch-size 20 --device cpu & other=$!
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" --batch-size 20 --device cpu && wait $other
"""


def cluster_blocks() -> list[str]:
    return re.findall(r"```bash\n(.*?)```", CLUSTERS.read_text(encoding="utf-8"), re.S)


@pytest.mark.posix
def test_the_slurm_script_of_the_page_on_clusters_trains_a_model(place: Path):
    *_, script = cluster_blocks()
    commands = {
        "srun": SRUN,
        "scontrol": "#!/bin/bash\necho localhost\n",
        "headway": f'#!/bin/bash\nexec {sys.executable} -m headway.ui.cli "$@"\n',
    }
    (place / "bin").mkdir()
    for name, content in commands.items():
        (place / "bin" / name).write_text(content)
        (place / "bin" / name).chmod(0o755)
    port = TCPStore("localhost", 0, is_master=True, wait_for_workers=False).port
    launcher = ("SLURM_", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "ACCELERATE_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(launcher)}
    environment |= {"PATH": f"{place / 'bin'}:{environment['PATH']}", "SLURM_JOB_NODELIST": "localhost"}
    done = subprocess.run(
        ["bash", "-e", "-c", script.replace("29500", str(port))], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes" in " ".join(done.stdout.split())  # wherever the line is broken
    assert (place / "model/model.safetensors").exists()


def test_torchrun_knows_the_options_of_the_page_on_clusters():
    lines = [line for block in cluster_blocks() for line in block.splitlines() if line.startswith("torchrun ")]
    assert len(lines) == 2
    for line in lines:
        arguments = get_args_parser().parse_args(shlex.split(line)[1:])
        assert (arguments.training_script, arguments.max_restarts) == ("headway.ui.cli", 3)
        assert arguments.training_script_args[0] == "train"


def test_the_tree_lists_every_file_with_the_beginning_of_its_docstring():
    readme = README.read_text(encoding="utf-8")
    assert readme_tree.rewritten(readme, README.parent) == readme, "run: python tests/readme_tree.py"


def test_every_python_file_of_the_floors_is_in_the_tree():
    lines = readme_tree.tree(README.parent).splitlines()
    files = [path for floor in readme_tree.FLOORS for path in (README.parent / floor).rglob("*.py")]
    assert sum(line.split()[0].endswith(".py") for line in lines) == sum(path.name != "__init__.py" for path in files)
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)


def test_a_tree_has_one_line_for_each_folder_and_file(tmp_path: Path):
    files = {
        "core/__init__.py": '"""Models: and more. See below."""',
        "core/models/__init__.py": '"""The arithmetic."""',
        "core/models/bert.py": '"""BERT (https://arxiv.org/abs/1810.04805): an encoder.\n\nDevlin et al. 2019."""',
        "core/errors.py": '"""Errors, as Devlin et al. 2019\nwrite them."""',
        "tasks/__init__.py": '"""Tasks."""',
        "ui/__init__.py": '"""Interfaces."""',
        "core/__pycache__/x.pyc": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    expected = """\
core/                         Models: and more
  models/                     The arithmetic
    bert.py                   BERT
  errors.py                   Errors, as Devlin et al. 2019 write them
tasks/                        Tasks
ui/                           Interfaces
"""
    assert readme_tree.tree(tmp_path) == expected
    with pytest.raises(ValueError, match="one block"):
        readme_tree.rewritten("# No tree", tmp_path)
    readme = "# Tree\n```text\ncore/ old\n  gone.py\n```\nend\n"
    assert readme_tree.rewritten(readme, tmp_path) == f"# Tree\n```text\n{expected}```\nend\n"
