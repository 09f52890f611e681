"""The lines for clusters: the script for SLURM trains a model, and torchrun has the options."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from guide_blocks import blocks, pages
from stand_ins import write_stand_ins
from torch.distributed import TCPStore
from torch.distributed.run import get_args_parser

pytestmark = pytest.mark.docs
# Two tasks on this machine. Each one runs the command without the options of srun.
SRUN = """#!/bin/bash
shift
export SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_NTASKS=2 SLURM_STEP_NUM_TASKS=2 OMP_NUM_THREADS=1
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" --batch-size 20 --device cpu & other=$!
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" --batch-size 20 --device cpu && wait $other
"""


def cluster_blocks() -> list[str]:
    """The scripts for launchers, on whichever page they are."""
    scripts = [one.content for page in pages() for one in blocks(page) if one.language == "bash"]
    return [one for one in scripts if one.startswith(("torchrun ", "#!/bin/bash"))]


@pytest.mark.posix
def test_the_slurm_script_of_the_page_on_clusters_trains_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wordpiece_folder: Path, byte_level_folder: Path, minilm: Path
):
    (script,) = [one for one in cluster_blocks() if one.startswith("#!")]
    tokenizers = {"wordpiece": wordpiece_folder, "byte-level": byte_level_folder}
    write_stand_ins(script, set(), tmp_path, tokenizers, minilm)
    monkeypatch.chdir(tmp_path)
    commands = {
        "srun": SRUN,
        "scontrol": "#!/bin/bash\necho localhost\n",
        "headway": f'#!/bin/bash\nexec {sys.executable} -m headway.ui.cli "$@"\n',
    }
    (tmp_path / "bin").mkdir()
    for name, content in commands.items():
        (tmp_path / "bin" / name).write_text(content)
        (tmp_path / "bin" / name).chmod(0o755)
    port = TCPStore("localhost", 0, is_master=True, wait_for_workers=False).port
    launcher = ("SLURM_", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "ACCELERATE_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(launcher)}
    environment |= {"PATH": f"{tmp_path / 'bin'}:{environment['PATH']}", "SLURM_JOB_NODELIST": "localhost"}
    done = subprocess.run(
        ["bash", "-e", "-c", script.replace("29500", str(port))], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes" in " ".join(done.stdout.split())  # wherever the line is broken
    assert (tmp_path / "model/model.safetensors").exists()


def test_torchrun_knows_the_options_of_the_page_on_clusters():
    lines = [line for block in cluster_blocks() for line in block.splitlines() if line.startswith("torchrun ")]
    assert len(lines) == 2
    for line in lines:
        arguments = get_args_parser().parse_args(shlex.split(line)[1:])
        assert (arguments.training_script, arguments.max_restarts) == ("headway.ui.cli", 3)
        assert arguments.training_script_args[0] == "train"
