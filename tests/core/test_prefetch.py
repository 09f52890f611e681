"""The inputs of the next forward pass are made in a thread, and nothing else changes."""

import threading
import time
from dataclasses import replace

import pytest
import torch
from headway.core.errors import HeadwayError
from headway.core.training import prefetch
from headway.core.training.prefetch import Prefetcher
from headway.core.training.training import fit
from headway.core.training.training_config import TrainConfig
from headway.core.training.training_events import Note, Step
from train_worker import Data, SmallDevice, tiny_bert, weights

CONFIG = TrainConfig(epochs=2, batch_size=8, learning_rate=3e-3, precision="fp32", device="cpu", tokens_at_once=30)
DATA = Data(40)
CPU = torch.device("cpu")


@pytest.fixture
def _threaded(monkeypatch: pytest.MonkeyPatch):
    """The thread of a GPU, on the CPU."""

    class Threaded(Prefetcher):
        def __init__(self, make, device):
            super().__init__(make, device)
            self._thread = prefetch.ThreadPoolExecutor(1, "prefetch")

    monkeypatch.setattr("headway.core.training.training_step.Prefetcher", Threaded)


def run(network=None, config=CONFIG, collate=DATA.collate, **options):
    network = network or tiny_bert(dropout=0.2)
    events = list(fit(network, config.sampler(DATA.lengths), collate, DATA.loss, config, **options))
    return [one.loss for one in events if isinstance(one, Step)], weights(network)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.usefixtures("_threaded")
@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_run_is_the_same_and_almost_all_inputs_are_made_in_the_thread(accumulated: int, monkeypatch):
    config = replace(CONFIG, gradient_accumulation_steps=accumulated)
    made = []

    def collate(indices, seed):
        made.append((threading.current_thread() is threading.main_thread(), tuple(indices), seed))
        return DATA.collate(indices, seed)

    losses, trained = run(config=config, collate=collate)
    assert not threads()
    in_main = sum(main for main, *_ in made)
    assert in_main == 2  # the first part of each epoch
    assert len(made) == len({one[1:] for one in made}) > 20  # nothing twice
    monkeypatch.undo()
    expected, weights_of_one = run(config=config)
    assert losses == expected
    assert all(torch.equal(tensor, weights_of_one[name]) for name, tensor in trained.items())


@pytest.mark.usefixtures("_threaded")
def test_the_thread_works_only_during_a_step(monkeypatch):
    idle = []

    def evaluate(network):
        idle.append(list(active))
        return {"accuracy": 1.0}

    active = set()

    def collate(indices, seed):
        active.add(seed)
        time.sleep(0.002)
        inputs = DATA.collate(indices, seed)
        active.discard(seed)
        return inputs

    run(config=replace(CONFIG, eval_steps=1), collate=collate, evaluate=evaluate)
    assert idle == [[]] * 10


@pytest.mark.usefixtures("_threaded")
@pytest.mark.parametrize("error", [HeadwayError("row 7 of a.csv: its text is empty"), ValueError("wrong"), OSError(5)])
def test_an_error_in_the_thread_is_raised_as_it_is(error: Exception):
    calls = []

    def collate(indices, seed):
        calls.append(indices)
        if len(calls) == 7:
            assert threading.current_thread() is not threading.main_thread()
            raise error
        return DATA.collate(indices, seed)

    with pytest.raises(type(error)) as raised:
        run(collate=collate)
    assert raised.value is error
    assert not threads()


@pytest.mark.usefixtures("_threaded")
@pytest.mark.parametrize("how", ["stop", "close", "interrupt"])
def test_the_thread_ends_with_the_run(how: str):
    network = tiny_bert()
    taken = []

    def stop():
        taken.append(1)
        return how == "stop" and len(taken) > 2

    def loss(outputs, targets):
        if how == "interrupt" and len(taken) > 2:
            raise KeyboardInterrupt
        return DATA.loss(outputs, targets)

    events = fit(network, CONFIG.sampler(DATA.lengths), DATA.collate, loss, CONFIG, stop=stop)
    if how == "close":
        while not isinstance(next(events), Step):
            pass
        assert threads()
        events.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            list(events)
    assert not threads()


@pytest.mark.usefixtures("_threaded")
def test_a_step_that_is_repeated_in_smaller_passes_takes_no_inputs_of_the_failed_try(monkeypatch):
    config = replace(CONFIG, tokens_at_once=None)
    losses, _ = run(SmallDevice(tiny_bert(dropout=0.2), 29), config)
    monkeypatch.undo()
    assert losses == run(SmallDevice(tiny_bert(dropout=0.2), 29), config)[0]
    events = fit(tiny_bert(), config.sampler(DATA.lengths), DATA.collate, DATA.loss, config)
    assert not any(isinstance(one, Note) for one in events)


def test_a_cpu_has_no_thread():
    inputs = Prefetcher(DATA.collate, CPU)
    inputs.begin([0, 1], 5)
    assert not threads()
    assert inputs.take([0, 1], 5).batch.lengths == tuple(DATA.lengths[:2])
    inputs.close()


@pytest.mark.gpu
def test_on_a_gpu_the_inputs_of_the_thread_arrive_before_they_are_read():
    device = torch.device("cuda", torch.cuda.current_device())
    inputs = Prefetcher(lambda indices, seed: DATA.collate(indices, seed).to(device), device)
    try:
        for stream in (torch.cuda.current_stream(), torch.cuda.Stream()):
            with torch.cuda.stream(stream):
                for seed in range(200):
                    indices = [(seed + i) % 40 for i in range(30)]
                    inputs.begin(indices, seed)
                    busy = torch.randn(1000, 1000, device=device)
                    for _ in range(5):
                        busy = busy @ busy  # the device is behind the host
                    found = inputs.take(indices, seed)
                    assert found.batch.input_ids.tolist() == DATA.collate(indices).batch.input_ids.tolist()
                    del found
    finally:
        inputs.close()
    assert not threads()


@pytest.mark.gpu
def test_on_a_gpu_a_run_uses_the_thread_and_learns_the_same():
    found, _ = run(tiny_bert(), replace(CONFIG, device="cuda"))
    expected, _ = run(tiny_bert())
    assert found[:5] == pytest.approx(expected[:5], abs=1e-3)
