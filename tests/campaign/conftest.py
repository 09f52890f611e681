"""Tiny random models for the campaigns, in folders that hold no head."""

from pathlib import Path
from typing import Any

import pytest
import torch
from children import failures
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.models.bert import BertConfig
from headway.core.models.gpt2 import GPT2Config
from headway.core.models.heads import Network, new_backbone
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import TASKS

SMALL = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "max_positions": 48}

TEXTS = ["the fox is here", "my parcel, please", "the cat sat", "a dog"] * 3
ROWS: dict[str, list[dict[str, Any]]] = {
    "text-classification": [{"text": t, "label": "xy"[i % 2]} for i, t in enumerate(TEXTS)],
    "token-classification": [{"tokens": t.split(), "tags": ["B-X"] + ["O"] * t.count(" ")} for t in TEXTS],
    "question-answering": [
        {"question": "who", "context": t, "answers": {"text": [t[:3]], "answer_start": [0]}} for t in TEXTS
    ],
    "multiple-choice": [{"context": t, "choices": [t[:3], "a dog"], "label": i % 2} for i, t in enumerate(TEXTS)],
    "sentence-similarity": [{"sentence1": t, "sentence2": t, "label": float(i % 2)} for i, t in enumerate(TEXTS)],
    "next-sentence-prediction": [{"sentence1": t, "sentence2": t, "label": i % 2} for i, t in enumerate(TEXTS)],
    "fill-mask": [{"text": t} for t in TEXTS],
    "text-generation": [{"text": t} for t in TEXTS],
    "text-to-text": [{"input": t, "output": t[:5]} for t in TEXTS],
}


def make_folder(kind: type[BertConfig] | type[GPT2Config], tokenizer_folder: Path, folder: Path) -> Path:
    tokenizer = Tokenizer.load(tokenizer_folder)
    torch.manual_seed(0)
    save_checkpoint(folder, Network(new_backbone(kind(vocab_size=tokenizer.vocab_size, **SMALL))))
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def bert_folder(wordpiece_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(BertConfig, wordpiece_folder, tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def gpt2_folder(byte_level_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(GPT2Config, byte_level_folder, tmp_path_factory.mktemp("tiny-gpt2"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """The models are tiny, and a process that has started threads cannot be forked."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=ROWS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny trained model of each task."""
    name = request.param
    kind = "gpt2_folder" if name in ("text-generation", "text-to-text", "text-classification") else "bert_folder"
    output = tmp_path_factory.mktemp("models") / name
    base, task = request.getfixturevalue(kind), TASKS[name]()
    options = {"output": output, "max_steps": 1, "eval_fraction": 0}
    # In another process, because this one must not start threads.
    assert not failures([0], lambda _: task.on(base).fit(ROWS[name], **options), 60)
    return output
