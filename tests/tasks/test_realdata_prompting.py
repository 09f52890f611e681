"""Prompts over the labelled files as they are, with the published GPT-2 vocabulary and a tiny model."""

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
# name: (what is asked about, examples, the prompt, more for `evaluate`, what is measured first)
FILES = {
    "sentiment": ("sst2/dev.tsv", "sst2/train.tsv", {"template": "sentiment"}, {}, "accuracy"),
    "question types": ("trec/test.txt", "trec/train.txt", {"template": "question-type"}, {}, "accuracy"),
    "pairs": ("mrpc/test.txt", "mrpc/train.txt", {}, {}, "accuracy"),
    "several labels": ("goemotions/dev.tsv", "goemotions/train.tsv", {}, {}, "f1"),
    "translations": ("eng_fra/eng-fra.txt", None, {"template": "translation"}, LANGUAGES, "exact_match"),
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


@pytest.mark.parametrize(("asked", "examples", "options", "more", "first"), FILES.values(), ids=FILES)
def test_a_file_as_it_is_becomes_an_evaluation(data_folder, gpt2, asked, examples, options, more, first):
    rows = read_table(data_folder / asked, limit=60)
    pool = data_folder / examples if examples else [dict(row) for row in rows.rows[40:]]
    test = [dict(row) for row in rows.rows[:12]]
    if examples:  # what the columns of a whole file tell, a few of its rows may not
        whole = read_table(data_folder / examples)
        settled = Prompt(**options).on(gpt2).columns(whole, {}, None, need_label=True)
        more = {"columns": {**settled.texts, "label": settled.label}}
    model = Prompt(shots=1, max_new_tokens=3, calibration="none", **options).on(gpt2)
    found = model.evaluate(test, pool, seeds=2, **more)
    assert next(iter(next(iter(found.figures.values())))) == first
    assert len(found.predictions) == len(found.examples) == 12
    assert all((example.pair is None) == ("mrpc" not in asked) for example in found.examples)
