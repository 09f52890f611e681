"""Prompts on published labelled files, with the published GPT-2 vocabulary and a tiny model."""

from pathlib import Path

import pytest
import torch
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.models.gpt2 import GPT2, GPT2Config
from headway.core.models.heads import Network
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import Prompt
from headway.tasks.data.read import read_table

pytestmark = pytest.mark.realdata
LANGUAGES = {"columns": {"text": "0", "label": "1"}}
# name: (queries, examples, options of the prompt, arguments of `evaluate`, first metric)
FILES = {
    "sentiment": ("sst2/dev.tsv", "sst2/train.tsv", {"template": "sentiment"}, {}, "accuracy"),
    "question types": ("trec/test.txt", "trec/train.txt", {"template": "question-type"}, {}, "accuracy"),
    "channel": (
        "trec/test.txt",
        "trec/train.txt",
        {"template": "question-type", "scoring": "channel"},
        {},
        "accuracy",
    ),
    "knn": ("trec/test.txt", "trec/train.txt", {"template": "question-type", "scoring": "knn"}, {}, "accuracy"),
    "pmi": ("mrpc/test.txt", "mrpc/train.txt", {"scoring": "pmi"}, {}, "accuracy"),
    "channel of pairs": ("mrpc/test.txt", "mrpc/train.txt", {"scoring": "channel"}, {}, "accuracy"),
    "pairs": ("mrpc/test.txt", "mrpc/train.txt", {}, {}, "accuracy"),
    "several labels": ("goemotions/dev.tsv", "goemotions/train.tsv", {}, {}, "f1"),
    "translations": ("eng_fra/eng-fra.txt", None, {"template": "translation"}, LANGUAGES, "rougeL"),
}


@pytest.fixture(scope="module")
def gpt2(tokenizers_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = Tokenizer.load(tokenizers_folder / "gpt2")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32}
    folder = tmp_path_factory.mktemp("gpt2")
    save_checkpoint(folder, Network(GPT2(GPT2Config(vocab_size=tokenizer.vocab_size, **sizes))))
    tokenizer.save(folder)
    return folder


@pytest.mark.parametrize(("queries", "examples", "options", "more", "first"), FILES.values(), ids=FILES)
def test_a_prompt_is_evaluated_on_a_published_file(data_folder, gpt2, queries, examples, options, more, first):
    rows = read_table(data_folder / queries, limit=60)
    pool = data_folder / examples if examples else [dict(row) for row in rows.rows[40:]]
    test = [dict(row) for row in rows.rows[:12]]
    if examples:  # columns that a whole file makes clear may not be clear from a few rows
        whole = read_table(data_folder / examples)
        columns = Prompt(**options).on(gpt2).reader.columns(whole, {}, need_label=True)
        more = {"columns": {**columns.texts, "label": columns.label}}
    model = Prompt(shots=1, max_new_tokens=3, calibration="none", **options).on(gpt2)
    found = model.evaluate(test, pool, seeds=2, **more)
    assert next(iter(next(iter(found.figures.values())))) == first
    assert len(found.predictions) == len(found.examples) == 12
    assert all((example.pair is None) == ("mrpc" not in queries) for example in found.examples)
