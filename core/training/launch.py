"""The launcher of several processes: which rank this one has, from the environment variables.

torchrun and accelerate launch say where the processes find one another, with MASTER_ADDR and MASTER_PORT
(https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables). MPI and `srun` do not.
"""

import os
from dataclasses import dataclass

from ..errors import HeadwayError, SharedError

ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
MAX_PORT = 65535
MODULE = "-m headway.ui.cli"


@dataclass(frozen=True)
class Launcher:
    """The environment variables of a launcher."""

    name: str
    rank: str
    world_size: str
    local_rank: str = ""  # the rank on this machine
    local_world_size: str = ""


TORCH = Launcher("the launcher", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
LAUNCHERS = (
    TORCH,
    Launcher(
        "mpirun",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    Launcher(
        "mpirun",
        "MV2_COMM_WORLD_RANK",
        "MV2_COMM_WORLD_SIZE",
        "MV2_COMM_WORLD_LOCAL_RANK",
        "MV2_COMM_WORLD_LOCAL_SIZE",
    ),
    Launcher("mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    Launcher("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    Launcher("srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
)
# Settings of accelerate launch -> what they ask for.
REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


def launch_rank() -> int:
    """The rank of this process, 0 without a launcher."""
    launcher = _launcher()
    return 0 if launcher is None else _integer(launcher.rank, 0)


def local_rank() -> int:
    """The rank of this process among those on its machine, 0 without a launcher."""
    launcher = _launcher()
    return 0 if launcher is None else _integer(launcher.local_rank, launch_rank())


def join_launch() -> bool:
    """Whether this process is one of several; then torch's environment variables are completed for it.

    Raises:
        SharedError: the processes cannot find one another, or the launcher asks for another kind of parallelism than
            data parallelism.
        HeadwayError: the rank or the port is not a possible number.
    """
    _refuse_other_parallelism()
    launcher = _launcher()
    if launcher is None:
        return False
    missing = [name for name in (launcher.rank, *ADDRESS) if not os.environ.get(name)]
    if missing:
        raise SharedError(_explain_missing(launcher, missing))
    _check_numbers(launcher)
    if launcher is not TORCH:
        names = ((TORCH.rank, launcher.rank), (TORCH.world_size, launcher.world_size))
        local = ((TORCH.local_rank, launcher.local_rank), (TORCH.local_world_size, launcher.local_world_size))
        os.environ |= {ours: os.environ[theirs] for ours, theirs in (*names, *local) if theirs in os.environ}
    return True


def _launcher() -> Launcher | None:
    """The launcher that started several processes, if one did. WORLD_SIZE takes precedence: 1 is a single process."""
    if TORCH.world_size in os.environ:
        return TORCH if _integer(TORCH.world_size, 1) > 1 else None
    for launcher in LAUNCHERS:
        if launcher.rank not in os.environ or _integer(launcher.world_size, 1) <= 1:
            continue
        if launcher.world_size != "SLURM_NTASKS" or not _is_beside_the_tasks():
            return launcher
    return None


def _is_beside_the_tasks() -> bool:
    """Whether this process has the number of tasks of a SLURM job without being one of them.

    These are the script of an sbatch job, and the shell of an interactive step, which is a step of one task.
    """
    is_script = os.environ.get("ENVIRONMENT") == "BATCH" and "SLURM_STEP_ID" not in os.environ
    return is_script or "SLURM_STEP_NUM_TASKS" in os.environ


def _integer(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default


def _check_numbers(launcher: Launcher) -> None:
    """Raises HeadwayError if the rank of this process or the port of the address cannot be."""
    size = _integer(launcher.world_size, 1)
    for name, most in ((launcher.rank, size - 1), ("MASTER_PORT", MAX_PORT)):
        text = os.environ[name]
        if not text.isdecimal() or int(text) > most:
            raise HeadwayError(
                f"{name}={text[:50]!r} in the environment is not a number from 0 to {most}. Set it right; for a "
                f"process that works alone, remove {launcher.world_size}."
            )


def _refuse_other_parallelism() -> None:
    for name, what in REFUSED.items():
        if os.environ.get(name, "").lower() in ("1", "true", "yes", "on", "y", "t"):
            raise SharedError(
                f"The launcher asks for {what} ({name}), but training is data-parallel (DDP) only: the models fit "
                "one GPU, and checkpoints, exact resuming and clipping need the whole parameters in each process. "
                f"Start it without: torchrun --nproc-per-node=gpu {MODULE} ..., or accelerate launch --multi_gpu."
            )


def _explain_missing(launcher: Launcher, missing: list[str]) -> str:
    size = os.environ[launcher.world_size]
    names = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"
    problem = f"{size} processes were started by {launcher.name}, but cannot find one another: {names}."
    alone = "For processes that work independently of one another, set WORLD_SIZE=1."
    if launcher.name == "srun" or os.environ.get("SLURM_STEP_NUM_TASKS") == size:
        return (
            f"{problem} Before srun, run: export MASTER_PORT=29500 "
            'MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1). Or let srun start torchrun, '
            "once on each machine: srun --ntasks-per-node=1 torchrun --nnodes=$SLURM_NNODES --nproc-per-node=gpu "
            f"--rdzv-id=$SLURM_JOB_ID --rdzv-backend=c10d --rdzv-endpoint=$MASTER_ADDR:29500 {MODULE} ... {alone}"
        )
    if launcher.name == "mpirun":
        return (
            f"{problem} Give each process the name of the first machine: mpirun -np {size} "
            f"-x MASTER_ADDR=HOST -x MASTER_PORT=29500 ... (Open MPI; others: -genv MASTER_ADDR HOST), or use "
            f"torchrun --nproc-per-node={size} {MODULE} ... {alone}"
        )
    return f"{problem} Start the processes with torchrun --nproc-per-node={size} {MODULE} ... {alone}"
