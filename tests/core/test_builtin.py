"""The built-in models: complete, small, and with the same logits in transformers."""

from pathlib import Path

import pytest
import torch
import transformers
from headway.core.checkpoints.checkpoint import load_checkpoint
from headway.core.checkpoints.hub import BUILT_IN
from headway.core.generation.generation import generate
from headway.core.generation.generation_config import GenerationConfig
from headway.core.models.packing import PackedBatch
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import load

NAMES = ["mini-bert", "mini-gpt2"]
MAX_BYTES = 16_000_000
TEXTS = ["The old man went down to the river and looked at the water.", "She said nothing; he waited."]


def test_both_models_are_built_in():
    assert sorted(BUILT_IN) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_built_in_models_are_small_and_in_half_precision(name: str):
    from safetensors.torch import load_file

    weights = BUILT_IN[name] / "model.safetensors"
    assert weights.stat().st_size < MAX_BYTES
    assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.float16}
    assert {path.name for path in BUILT_IN[name].iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_built_in_models_give_the_same_logits_in_transformers(name: str):
    network, tokenizer = load_checkpoint(name).network, Tokenizer.load(BUILT_IN[name])
    kind = transformers.BertForMaskedLM if name == "mini-bert" else transformers.GPT2LMHeadModel
    theirs = kind.from_pretrained(BUILT_IN[name], dtype=torch.float32).eval()
    published = transformers.AutoTokenizer.from_pretrained(BUILT_IN[name])
    for text in TEXTS:
        ids, _ = tokenizer.join(tokenizer.encode(text).ids)
        assert published(text)["input_ids"] == ids
        with torch.no_grad():
            expected = theirs(torch.tensor([ids])).logits[0]
            torch.testing.assert_close(network(PackedBatch.pack([ids])), expected, atol=1e-4, rtol=1e-4)


def test_mini_bert_predicts_english_better_than_chance(tmp_path: Path):
    text = tmp_path / "held-out.txt"
    text.write_text("\n".join(TEXTS * 3), encoding="utf-8")
    assert load("mini-bert").evaluate(str(text)).metrics["perplexity"] < 1000


def test_mini_gpt2_generates_words():
    network, tokenizer = load_checkpoint("mini-gpt2").network, Tokenizer.load(BUILT_IN["mini-gpt2"])
    config = GenerationConfig(max_new_tokens=30, temperature=0.8, top_k=40, seed=0)
    ((found,),) = generate(network, tokenizer, [""], config)
    words = [word.strip('.,;:!?"') for word in found.text.split()]
    assert sum(word.isalpha() for word in words) > 0.7 * len(words) > 5
