"""How transformers generates with a model folder: generation_config.json, and the ends of texts in config.json."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.checkpoints.model_files import read_json
from ...core.models.encoder_decoder import EncoderDecoderConfig
from ...core.models.transformer import TransformerConfig

if TYPE_CHECKING:
    from ...core.generation.generation_config import GenerationConfig
    from ...core.models.heads import Config
    from ...core.tokenizers.tokenizer import Tokenizer


def write_generation_config(folder: Path, config: "GenerationConfig", model: "Config", tokenizer: "Tokenizer") -> None:
    """Writes the options and the token that ends a text, so that transformers stops and generates the same.

    Filters that transformers applies by default are switched off. The token is in config.json as well: programs that
    read no generation_config.json would use GPT-2's 50256, which a smaller vocabulary does not have.
    """
    if isinstance(model, EncoderDecoderConfig | TransformerConfig):
        tokens: dict[str, int | None] = {
            "decoder_start_token_id": model.start_id,
            "eos_token_id": model.end_id,
            "pad_token_id": model.pad_id,
        }
    else:
        tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.end_of_text_id)
        _write(folder / "config.json", {**read_json(folder / "config.json"), **tokens})
    written: dict[str, Any] = {
        **tokens,
        "max_new_tokens": config.max_new_tokens,
        "num_beams": config.num_beams,
        "length_penalty": config.length_penalty,
        "repetition_penalty": config.repetition_penalty,
        "do_sample": config.do_sample,
    }
    if config.no_repeat_ngram_size:
        written["no_repeat_ngram_size"] = config.no_repeat_ngram_size
    if config.do_sample:
        written |= {
            "temperature": 1.0 if config.temperature is None else config.temperature,
            "top_k": config.top_k or 0,
            "top_p": 1.0 if config.top_p is None else config.top_p,
        }
    _write(folder / "generation_config.json", written)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
