"""The sizes of the published models are those of the networks, and the page on them has the same numbers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from headway.core.checkpoints.families.registry import FAMILIES
from headway.core.checkpoints.published_models import MODELS, PublishedModel
from headway.core.models.bert import BertConfig
from headway.core.models.heads import Config, new_backbone

PAGE = Path(__file__).resolve().parents[2] / "docs/models.md"


def config_of(model: PublishedModel) -> Config:
    family = FAMILIES[model.family].config
    size = model.hidden_size
    sizes: dict[str, Any] = {
        "vocab_size": model.vocabulary,
        "hidden_size": size,
        "num_layers": model.layers,
        "num_heads": size // 64,
        "intermediate_size": 4 * size,
    }
    if isinstance(family, BertConfig):
        positions = model.positions - family.position_offset
        return replace(
            family,
            **sizes,
            max_positions=positions,
            num_segments=model.segments,
            num_task_types=model.task_types,
            embedding_size=model.embedding_size,
        )
    return replace(family, **sizes, max_positions=model.positions)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_number_of_parameters_is_that_of_the_network(model: PublishedModel):
    with torch.device("meta"):
        backbone = new_backbone(config_of(model))
    assert model.parameters == sum(parameter.numel() for parameter in backbone.parameters())


def row(model: PublishedModel) -> str:
    """The row of a model on the page: parameters in millions, weights in fp32 in MB, training with AdamW in GB."""
    title, number = FAMILIES[model.family].title, model.parameters
    sizes = f"{number / 1e6:.0f} | {4 * number / 1e6:,.0f} | {16 * number / 1e9:.1f}"
    shape = f"{model.layers} x {model.hidden_size:,}"
    return f"| `{model.name}` | {title} | {model.language} | {model.good_for} | {shape} | {sizes} |"


def test_the_page_has_a_row_for_every_model():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("| `")] == [row(model) for model in MODELS]


def test_every_family_has_a_model_or_is_named_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    assert not [family.title for family in FAMILIES.values() if family.title not in page]
