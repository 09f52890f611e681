"""What reads a text alone refuses an encoder-decoder by name, before anything is computed."""

from pathlib import Path

import pytest
from headway.core.errors import HeadwayError
from headway.core.new_model import learn_tokenizer, write_new_model
from headway.tasks import TextClassification
from headway.tasks.base.model import TaskModel
from headway.tasks.embedding.embedder import Embedder
from headway.tasks.export import export
from headway.tasks.inspection.inspected_model import open_model
from headway.tasks.inspection.probing import probe
from headway.tasks.language_modeling.loading import load_language_model
from headway.tasks.prompting.demonstrations import load_similarity_model

ROWS = [{"text": "a cat", "label": "animal"}, {"text": "a car", "label": "thing"}]
USES = {
    "embed": Embedder,
    "export": lambda model: export(model, Path("model.onnx")),
    "inspect": open_model,
    "probe": lambda model: list(probe(model, ROWS, task=TextClassification())),
    "generate": load_language_model,
    "demonstrations": lambda model: load_similarity_model(model, "cpu"),
    "classify": lambda model: TaskModel.plug(TextClassification(), model),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_it_is_refused_by_name(use, tmp_path):
    tokenizer = learn_tokenizer(["a cat", "a car"], "encoder-decoder", 300)
    write_new_model(tmp_path / "translator", "encoder-decoder", "tiny", tokenizer)
    with pytest.raises(HeadwayError, match=r"translator is a Marian,"):
        use(tmp_path / "translator")
