"""Published data files on the command line: train a few steps, evaluate and predict."""

import json
from pathlib import Path

import pytest
import torch
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.heads import Network
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.ui.cli import main

pytestmark = pytest.mark.realdata

NAMES = ["--label-names", "goemotions/labels.txt"]
# For each data set: the training file, the test file, the vocabulary, and the options that the files need.
FILES = {
    "sst2": ("sst2/train.tsv", "sst2/dev.tsv", "uncased", []),
    "goemotions": (
        "goemotions/train.tsv",
        "goemotions/dev.tsv",
        "uncased",
        ["--label-names", "goemotions/labels.txt"],
    ),
    "trec": ("trec/train.txt", "trec/test.txt", "uncased", []),
    "movie_reviews": ("movie_reviews/movie_reviews.jsonl", "movie_reviews/movie_reviews.jsonl", "uncased", []),
    "chnsenticorp": ("chnsenticorp/train.tsv", "chnsenticorp/dev.tsv", "chinese", []),
    "mrpc": ("mrpc/train.txt", "mrpc/test.txt", "uncased", []),
    "stsb": ("stsb/train.csv", "stsb/dev.csv", "uncased", []),
}
METRICS = {"goemotions": "f1", "stsb": "pearson"}


def tiny_model(tokenizer_folder: Path, folder: Path) -> Path:
    """A tiny BERT with random weights and a published vocabulary."""
    tokenizer = Tokenizer.load(tokenizer_folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32}
    save_checkpoint(folder, Network(Bert(BertConfig(vocab_size=tokenizer.vocab_size, **sizes))))
    tokenizer.save(folder)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_is_trained_on_and_predicted_unchanged(
    name: str, data_folder: Path, tokenizers_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    train, test, vocabulary, flags = FILES[name]
    flags = [str(data_folder / flag) if "/" in flag else flag for flag in flags]
    base = tmp_path / "base"
    base.mkdir()
    tiny_model(tokenizers_folder / f"bert-base-{vocabulary}", base)
    data = ["--data", str(data_folder / train), *flags]
    output = str(tmp_path / "model")
    # A small evaluation set keeps the test fast.
    fraction = "0.02"
    command = ["train", "text-classification", *data, "--model", str(base), "--output", output, "--max-steps", "3"]
    assert main([*command, "--eval-fraction", fraction, "--max-length", "64", "--long-texts", "cut", "--json"]) == 0
    trained = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert next(iter(trained["metrics"])) == METRICS.get(name, "accuracy")
    assert trained["steps"] == 3

    some = tmp_path / f"some{Path(test).suffix}"
    lines = (data_folder / test).read_bytes().splitlines(keepends=True)
    some.write_bytes(b"".join(lines[:200]))
    assert main(["evaluate", output, "--data", str(some), "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert evaluated["examples"] in (199, 200)  # one line can be the header

    answers = tmp_path / "answers.jsonl"
    assert main(["predict", output, "--data", str(some), "--output", str(answers)]) == 0
    rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == evaluated["examples"]
    assert {"scores", "value"} & rows[0].keys()  # no file has such a column itself
