"""A run whose passes do not fit in the memory continues with smaller ones."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from headway.core.device import free_memory
from headway.core.errors import HeadwayError
from headway.core.models.bert import BertConfig
from headway.core.models.gpt2 import GPT2Config
from headway.core.models.heads import Network
from headway.core.models.packing import PackedBatch
from headway.core.training.memory import TrainingMemory
from headway.core.training.out_of_memory import is_out_of_memory
from headway.core.training.training import fit
from headway.core.training.training_config import TrainConfig
from headway.core.training.training_events import Finished, Note, Step
from headway.core.training.training_step import TrainingStep
from headway.ui.browser.run_drawing import draw_data
from headway.ui.runs.job import History
from headway.ui.training_view import TrainingView
from rich.console import Console
from torch import Tensor
from train_worker import Data, SmallDevice, tiny_bert

CONFIG = TrainConfig(epochs=2, batch_size=8, learning_rate=3e-3, precision="fp32", device="cpu")
DATA = Data(40)
SAYS_SO = {
    "torch": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB."),
    "apple": RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
}


def run(network, config=CONFIG, data=DATA, **options):
    return list(fit(network, config.sampler(data.lengths), data.collate, data.loss, config, **options))


def losses(events):
    return [one.loss for one in events if isinstance(one, Step)]


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("error", SAYS_SO)
def test_the_curve_is_that_of_a_run_with_the_smaller_passes(tmp_path: Path, where: str, error: str):
    network = SmallDevice(tiny_bert(dropout=0.2), 29, where, SAYS_SO[error])
    events = run(network, run_folder=tmp_path)
    notes = [one for one in events if isinstance(one, Note)]
    found = int(notes[-1].note.split()[-1].rstrip("."))
    assert 1 <= found <= 29
    expected = tiny_bert(dropout=0.2)
    # The same passes from the first step on: the passes before fitted, or were repeated.
    assert losses(events) == losses(run(expected, replace(CONFIG, tokens_at_once=found)))
    assert all(torch.equal(p, dict(expected.named_parameters())[name]) for name, p in network.named_parameters())
    assert f"--tokens-at-once {found}." in (tmp_path / "log.jsonl").read_text()


def test_the_limit_stays_for_the_rest_of_the_run():
    network = SmallDevice(tiny_bert(), 29)
    events = run(network)
    assert len([one for one in events if isinstance(one, Note)]) == 1
    assert network.passes[0] > 29
    assert max(network.passes[1:]) <= network.passes[0] // 2


def test_a_single_sequence_that_does_not_fit_ends_the_run():
    with pytest.raises(
        HeadwayError, match=r"step 0: the GPU's memory is full \(CUDA out of memory.*\)\. Use a smaller"
    ):
        run(SmallDevice(tiny_bert(), 5))


def test_other_errors_end_the_run_as_they_are():
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert not is_out_of_memory(error)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(SmallDevice(tiny_bert(), 29, error=error))


def test_what_the_other_processes_have_continued_from_is_not_repeated(monkeypatch: pytest.MonkeyPatch):
    # As before the last backward pass of a step on several processes.
    monkeypatch.setattr(TrainingStep, "_prefetch", lambda step: setattr(step, "_exchanging", True))
    with pytest.raises(HeadwayError, match=r"while the processes exchange gradients.*Use --tokens-at-once 2\d\."):
        run(SmallDevice(tiny_bert(), 29, "backward"))


def test_the_terminal_and_the_browser_show_that_memory_was_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    note = next(one for one in run(SmallDevice(tiny_bert(), 29)) if isinstance(one, Note))
    assert note.note.startswith("Step 1: the memory was full. The step was repeated in passes of at most")
    console = Console(width=300)
    TrainingView(console).show(note)
    assert note.note in capsys.readouterr().out
    (tmp_path / "events.jsonl").write_text(json.dumps(note.to_json()) + "\n")
    history = History(tmp_path / "events.jsonl")
    history.read()
    assert "the memory was full" in draw_data(history)


MODELS = {
    "MiniLM": (BertConfig(hidden_size=384, num_layers=6, num_heads=12, intermediate_size=1536), 22.7e6),
    "BERT-base": (BertConfig(), 110e6),
    "BERT-large": (BertConfig.named("large"), 335e6),
    "GPT-2 124M": (GPT2Config(), 124e6),
    "GPT-2 1.5B": (GPT2Config.named("1558M"), 1558e6),
}
# GB of the device -> tokens at once in bf16.
EXPECTED = {
    "MiniLM": {8: 32768, 16: 65536, 24: 65536, 80: 131072, 141: 131072},
    "BERT-base": {8: 4096, 16: 16384, 24: 16384, 80: 65536, 141: 131072},
    "BERT-large": {8: 512, 16: 4096, 24: 8192, 80: 32768, 141: 65536},
    "GPT-2 124M": {8: 4096, 16: 16384, 24: 16384, 80: 65536, 141: 131072},
    "GPT-2 1.5B": {8: 512, 16: 512, 24: 512, 80: 8192, 141: 16384},
}


@pytest.mark.parametrize("name", MODELS)
def test_the_tokens_at_once_follow_the_free_memory(name: str, monkeypatch: pytest.MonkeyPatch):
    config, parameters = MODELS[name]
    found = {}
    for gigabytes in EXPECTED[name]:
        free = int(gigabytes * 1e9 - 0.8e9 - 4 * parameters)  # without the driver's part and the weights
        answers = {
            "mem_get_info": (free - 10**9, free + 10**9),
            "memory_reserved": 3 * 10**9,
            "memory_allocated": 2 * 10**9,
        }
        for function, answer in answers.items():
            monkeypatch.setattr(torch.cuda, function, lambda _, answer=answer: answer)
        device = torch.device("cuda:0")
        assert free_memory(device) == free
        memory = TrainingMemory(config, int(parameters), length=512, half=True)
        found[gigabytes] = memory.tokens_at_once(device)
        assert memory.tokens_in(free, "cuda") >= TrainingMemory(config, int(parameters), 512).tokens_in(free, "cuda")
        checkpointed = replace(memory, checkpointed=True).tokens_at_once(device)
        assert checkpointed == max(checkpointed, found[gigabytes])
    assert found == EXPECTED[name]


def test_a_cpu_has_the_same_tokens_at_once_in_every_run():
    memory = TrainingMemory(BertConfig(), 110_000_000, length=512)
    assert {memory.tokens_in(gigabytes * 2**30, "cpu") for gigabytes in (64, 256)} == {4096}
    assert memory.tokens_in(8 * 2**30, "cpu") < 4096
    assert memory.tokens_at_once(torch.device("cpu")) == memory.tokens_at_once(torch.device("cpu"))


def test_a_device_that_does_not_say_how_much_memory_it_has_gets_a_usual_number():
    assert TrainingMemory(BertConfig(), 110_000_000, length=512).tokens_at_once(torch.device("meta")) == 16_384


@pytest.mark.gpu
def test_a_full_gpu_gets_smaller_passes():
    data = Data(512)
    for one in data.sequences:
        one[:] = (one * 16)[:16]
    data.lengths = [16] * 512
    config = replace(CONFIG, device="cuda", batch_size=512, epochs=None, max_steps=3, tokens_at_once=100_000)
    torch.cuda.empty_cache()
    wide = Wide(tiny_bert())
    share = (torch.cuda.memory_reserved() + 400 * 2**20) / torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        events = run(wide, config, data)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any(isinstance(one, Note) for one in events)
    assert isinstance(events[-1], Finished)
    assert losses(events) == pytest.approx(losses(run(Wide(tiny_bert()), config, data)), rel=1e-3)


class Wide(Network):
    """Needs 128 KB per token in addition."""

    def __init__(self, network: Network):
        super().__init__(network.backbone, network.head)

    def forward(self, batch: PackedBatch) -> Tensor:
        extra = torch.ones(batch.num_tokens, 2**15, device=batch.input_ids.device)
        return super().forward(batch) + 0 * extra.sum()
