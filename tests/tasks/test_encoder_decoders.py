"""What reads a text alone refuses an encoder-decoder by name; its parameters can be counted."""

from pathlib import Path

import pytest
from headway.core.errors import HeadwayError
from headway.core.new_model import learn_tokenizer, write_new_model
from headway.tasks import TextClassification
from headway.tasks.base.model import TaskModel
from headway.tasks.embedding.embedder import Embedder
from headway.tasks.export import export
from headway.tasks.inspection.inspected_model import open_model
from headway.tasks.inspection.parameters import count_parameters
from headway.tasks.inspection.probing import probe
from headway.tasks.inspection.structure import probe_structure
from headway.tasks.language_modeling.loading import load_language_model
from headway.tasks.prompting.demonstrations import load_similarity_model

ROWS = [{"text": "a cat", "label": "animal"}, {"text": "a car", "label": "thing"}]
TREES = [{"tokens": ["a", "cat", "sleeps"], "heads": [2, 3, 0]}] * 20
USES = {
    "embed": Embedder,
    "export": lambda model: export(model, Path("model.onnx")),
    "inspect": open_model,
    "probe": lambda model: list(probe(model, ROWS, task=TextClassification())),
    "probe for trees": lambda model: list(probe_structure(model, TREES)),
    "generate": load_language_model,
    "demonstrations": lambda model: load_similarity_model(model, "cpu"),
    "classify": lambda model: TaskModel.plug(TextClassification(), model),
}


@pytest.fixture
def translator(tmp_path: Path) -> Path:
    tokenizer = learn_tokenizer(["a cat", "a car"], "encoder-decoder", 300)
    write_new_model(tmp_path / "translator", "encoder-decoder", "tiny", tokenizer)
    return tmp_path / "translator"


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_it_is_refused_by_name(use, translator):
    with pytest.raises(HeadwayError, match=r"translator is a Marian,"):
        use(translator)


def test_the_refused_export_says_what_can_be_done_instead(translator, tmp_path):
    with pytest.raises(HeadwayError, match=r"encoder-decoders are not exported.*headway predict"):
        export(translator, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_its_parameters_are_counted(translator):
    opened = open_model(translator, reads_text=False)
    counted = count_parameters(opened.network)
    assert counted.total == sum(parameter.numel() for parameter in opened.network.parameters())
    names = {one.name: one.count for one in counted.matrices}
    assert names["backbone.blocks.{i}.cross_attn.kv.weight"] == names["backbone.encoder_blocks.{i}.mlp.up.weight"] == 2
