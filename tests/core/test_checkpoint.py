"""Model folders: every published head is read and written, old file formats are read, broken folders are reported."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from headway.core.atomic_files import atomic_file, atomic_folder
from headway.core.checkpoints import hub
from headway.core.checkpoints.checkpoint import Checkpoint, load_backbone, load_checkpoint, load_head, save_checkpoint
from headway.core.checkpoints.config_file import read_config
from headway.core.checkpoints.families.family import expand
from headway.core.checkpoints.families.registry import ARCHITECTURES, build_head
from headway.core.checkpoints.hub import find_folder
from headway.core.checkpoints.weight_conversion import backbone_table
from headway.core.errors import HeadwayError
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.heads import Network, SequenceHead, SpanHead, TokenHead, language_model_head, new_backbone
from headway.core.models.packing import PackedBatch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

LABELS = ("bad", "good", "neither", "both", "ünsure")
ROWS = [[5, 6, 7, 8], [9], [10, 11, 12]]
SHARED = {"attn_implementation": "eager", "vocab_size": 31}
BERT_SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 12,
}
# By model type: a configuration of transformers, and small sizes.
TINY = {
    "bert": (transformers.BertConfig, BERT_SIZES),
    "gpt2": (
        transformers.GPT2Config,
        {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 10, "bos_token_id": 1, "eos_token_id": 1},
    ),
    "roberta": (transformers.RobertaConfig, {**BERT_SIZES, "type_vocab_size": 1}),
    "xlm-roberta": (transformers.XLMRobertaConfig, {**BERT_SIZES, "type_vocab_size": 1, "pad_token_id": 3}),
    "camembert": (transformers.CamembertConfig, {**BERT_SIZES, "type_vocab_size": 1}),
    "distilbert": (
        transformers.DistilBertConfig,
        {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12, "max_position_embeddings": 10},
    ),
    "electra": (transformers.ElectraConfig, {**BERT_SIZES, "embedding_size": 6}),
    "albert": (transformers.AlbertConfig, {**BERT_SIZES, "embedding_size": 6, "hidden_act": "relu"}),
    "ernie": (transformers.ErnieConfig, {**BERT_SIZES, "use_task_id": True}),
}
# The classes that read one sequence; test_transformer.py tests those of the Transformer.
NAMES = [name for name, one in ARCHITECTURES.items() if one.family.model_type in TINY]
# Biases that transformers 5 neither uses nor ties where the output matrix is untied, and those that it uses.
UNUSED_BIASES = {
    "cls.predictions.bias": "cls.predictions.decoder.bias",
    "lm_head.bias": "lm_head.decoder.bias",
    "predictions.bias": "predictions.decoder.bias",
}


def tiny_config(model, **changes):
    kind, sizes = TINY[model]
    return kind(**{**SHARED, **sizes, **changes})


def published(name="BertForSequenceClassification", **changes):
    """A transformers model whose weights are all random."""
    architecture = ARCHITECTURES[name]
    if architecture.head.labelled:
        changes = {"id2label": dict(enumerate(LABELS)), "label2id": {n: i for i, n in enumerate(LABELS)}, **changes}
    torch.manual_seed(0)
    model = getattr(transformers, name)(tiny_config(architecture.family.model_type, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    parameters = dict(model.named_parameters())
    for unused, used in UNUSED_BIASES.items():
        if not model.config.tie_word_embeddings and {unused, used} <= parameters.keys():
            parameters[unused].data = parameters[used].data.clone()
    return model.eval()


def own_network(name, **changes):
    """A network of ours whose weights are all random."""
    family = ARCHITECTURES[name].family
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_layers": 2, "num_heads": 2, "intermediate_size": 12, "vocab_size": 31}
    config = replace(family.config, **{**sizes, "max_positions": 10, **changes})
    backbone = new_backbone(replace(config, num_task_types=3) if family.model_type == "ernie" else config)
    network = Network(backbone, build_head(name, backbone, len(LABELS)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    return network.eval()


def save(checkpoint: Checkpoint, folder: Path) -> Path:
    folder.mkdir()
    save_checkpoint(
        folder,
        checkpoint.network,
        architecture=checkpoint.architecture,
        labels=checkpoint.labels,
        problem_type=checkpoint.problem_type,
        config=checkpoint.config,
    )
    return folder


def reopen(folder, name):
    """Opens the folder in transformers, which must find every tensor and no other."""
    model, report = getattr(transformers, name).from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values()), report
    return model


def assert_same_logits(network, model, name):
    for ids in ROWS:
        out = model(torch.tensor([[ids]] if name.endswith("ForMultipleChoice") else [ids]))
        if network.head is None:
            expected = out.last_hidden_state[0]
        elif name.endswith("Model") and not name.endswith("LMHeadModel"):
            expected = out.pooler_output
        elif name.endswith("ForPreTraining"):
            expected = out.prediction_logits[0], out.get("sop_logits", out.get("seq_relationship_logits"))
        elif name.endswith("QuestionAnswering"):
            expected = torch.stack([out.start_logits[0], out.end_logits[0]], dim=-1)
        else:
            expected = out.logits[0] if out.logits.dim() == 3 else out.logits
        torch.testing.assert_close(network(PackedBatch.pack([ids])), expected, rtol=1e-5, atol=1e-5)


def assert_bit_equal(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert torch.equal(one[name], other[name]), name


# Every class, and those that have an output matrix over the vocabulary with and without tied weights.
TYINGS = [(name, tied) for name in NAMES for tied in (True, False) if tied or "LM" in name or "Pre" in name]
ANY_TYING = pytest.mark.parametrize(
    ("name", "tied"), TYINGS, ids=[f"{name}-{'tied' if tied else 'untied'}" for name, tied in TYINGS]
)


@ANY_TYING
def test_a_published_model_is_saved_again_bit_for_bit(name, tied, tmp_path):
    theirs = published(name, tie_word_embeddings=tied)
    theirs.save_pretrained(tmp_path / "theirs")
    checkpoint = load_checkpoint(tmp_path / "theirs")
    assert checkpoint.architecture == name
    assert checkpoint.labels == (LABELS if ARCHITECTURES[name].head.labelled else None)
    assert checkpoint.unused == ()
    assert not checkpoint.network.training
    assert_same_logits(checkpoint.network, theirs, name)
    again = reopen(save(checkpoint, tmp_path / "ours"), name)
    assert_bit_equal(again, theirs)
    assert_same_logits(checkpoint.network, again, name)
    if ARCHITECTURES[name].head.labelled:
        assert tuple(again.config.id2label.values()) == LABELS


@ANY_TYING
def test_our_model_opens_in_transformers_and_is_loaded_again_bit_for_bit(name, tied, tmp_path):
    network = own_network(name, tie_embeddings=tied)
    labels = LABELS if ARCHITECTURES[name].head.labelled else None
    tokens = {"pad_token_id": None, "bos_token_id": 1, "eos_token_id": 1}
    folder = tmp_path / "ours"
    folder.mkdir()
    save_checkpoint(folder, network, architecture=name, labels=labels, config=tokens)
    theirs = reopen(folder, name)
    assert_same_logits(network, theirs, name)
    theirs.save_pretrained(tmp_path / "theirs")
    for place in (folder, tmp_path / "theirs"):
        again = load_checkpoint(place)
        assert again.architecture == name
        assert again.labels == labels
        assert again.network.config == network.config
        assert_bit_equal(again.network, network)


@pytest.mark.parametrize("name", NAMES)
def test_the_published_class_is_inferred_from_the_head(name, tmp_path):
    same_head = {"BertLMHeadModel": "BertForMaskedLM"}
    expected = same_head.get(name, name)
    save_checkpoint(tmp_path, own_network(name))
    assert load_checkpoint(tmp_path).architecture == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_name_tables_have_the_keys_of_the_state_dict(name):
    network = own_network(name)
    architecture = ARCHITECTURES[name]
    table = backbone_table(network.backbone, architecture.family)
    assert table.keys() == network.backbone.state_dict().keys()
    heads = {} if network.head is None else network.head.state_dict()
    assert expand(architecture.head.table).keys() == heads.keys()
    once = dict(network.backbone.named_parameters())  # ALBERT's layers are one
    published_names = [n for name, source in table.items() if name in once for n in source.names]
    assert len(set(published_names)) == len(published_names)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_tied_embeddings_are_one_matrix_after_loading(tied, tmp_path):
    for name, matrix in [("BertForPreTraining", "masked_lm.lm_head"), ("GPT2LMHeadModel", "lm_head")]:
        published(name, tie_word_embeddings=tied).save_pretrained(tmp_path / name)
        network = load_checkpoint(tmp_path / name).network
        assert (network.head.get_submodule(matrix).weight is network.backbone.token_embedding.weight) == tied


def test_config_fields_that_headway_does_not_use_are_kept(tmp_path):
    published("BertForSequenceClassification", hidden_act="gelu_pytorch_tanh").save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token_id": 3, "my_field": [1, 2]}))
    came_with = json.loads(path.read_text())
    written = json.loads((save(load_checkpoint(tmp_path / "theirs"), tmp_path / "ours") / "config.json").read_text())
    assert {name: written[name] for name in came_with} == came_with


def test_changed_values_replace_those_of_the_original_config(tmp_path):
    network = own_network("BertForTokenClassification", dropout=0.4)
    save_checkpoint(
        tmp_path, network, config={"hidden_dropout_prob": 0.1, "eos_token_id": 7, "torch_dtype": "float16"}
    )
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["hidden_dropout_prob"], written["eos_token_id"], written["dtype"]) == (0.4, 7, "float32")
    assert "torch_dtype" not in written


def test_labels_are_in_the_order_of_their_numbers(tmp_path):
    names = tuple(f"label {i}" for i in range(12))
    published("GPT2ForTokenClassification", id2label=dict(enumerate(names))).save_pretrained(tmp_path)
    assert load_checkpoint(tmp_path).labels == names


def test_labels_without_names_are_numbered(tmp_path):
    published("BertForSequenceClassification", id2label={0: "LABEL_0", 1: "LABEL_1"}).save_pretrained(tmp_path)
    change(tmp_path, id2label=None, label2id=None)
    assert load_checkpoint(tmp_path).labels == ("LABEL_0", "LABEL_1")


def test_the_problem_type_is_kept(tmp_path):
    published("BertForSequenceClassification", problem_type="multi_label_classification").save_pretrained(
        tmp_path / "theirs"
    )
    checkpoint = load_checkpoint(tmp_path / "theirs")
    assert checkpoint.problem_type == "multi_label_classification"
    assert load_checkpoint(save(checkpoint, tmp_path / "ours")).problem_type == "multi_label_classification"


# Files of other programs and of older versions give the same network
OLD_FILES = pytest.mark.parametrize(
    "name", ["BertForSequenceClassification", "GPT2LMHeadModel", "BertModel", "GPT2Model"]
)


@pytest.fixture
def expected(name, tmp_path):
    published(name).save_pretrained(tmp_path)
    return load_checkpoint(tmp_path).network


def rewritten(folder, rename=lambda name: name, extra=None):
    path = folder / "model.safetensors"
    tensors = {rename(name): value.clone() for name, value in load_file(path).items()}
    save_file({**tensors, **(extra or {})}, path)


@OLD_FILES
def test_files_without_prefix_give_the_same_network(name, tmp_path, expected):
    rewritten(tmp_path, lambda n: n.removeprefix("bert.").removeprefix("transformer."))
    assert_bit_equal(load_checkpoint(tmp_path).network, expected)


@OLD_FILES
def test_files_with_prefix_give_the_same_network(name, tmp_path, expected):
    inside = ("embeddings.", "encoder.", "pooler.", "h.", "wte.", "wpe.", "ln_f.")
    prefix = "bert." if name.startswith("Bert") else "transformer."
    rewritten(tmp_path, lambda n: prefix + n if n.startswith(inside) else n)
    assert_bit_equal(load_checkpoint(tmp_path).network, expected)


@OLD_FILES
def test_files_with_gamma_and_beta_give_the_same_network(name, tmp_path, expected):
    rewritten(tmp_path, lambda n: n.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"))
    assert_bit_equal(load_checkpoint(tmp_path).network, expected)


@OLD_FILES
def test_files_with_constants_and_tied_copies_give_the_same_network(name, tmp_path, expected):
    extra = {
        "bert.embeddings.position_ids": torch.arange(10),
        "h.0.attn.bias": torch.ones(10, 10),
        "transformer.h.1.attn.masked_bias": torch.tensor(-1e4),
    }
    wanted = ("bert.",) if name.startswith("Bert") else ("h.", "transformer.")
    extra = {n: value for n, value in extra.items() if n.startswith(wanted)}
    if name == "GPT2LMHeadModel":
        extra["lm_head.weight"] = expected.backbone.token_embedding.weight.detach().clone()
    rewritten(tmp_path, extra=extra)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.unused == ()
    assert_bit_equal(checkpoint.network, expected)


@OLD_FILES
def test_a_bin_file_gives_the_same_network(name, tmp_path, expected):
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert_bit_equal(load_checkpoint(tmp_path).network, expected)


@OLD_FILES
def test_sharded_safetensors_give_the_same_network(name, tmp_path, expected):
    published(name).save_pretrained(tmp_path / "parts", max_shard_size="2KB")
    assert len(list((tmp_path / "parts").glob("model-*.safetensors"))) > 1
    assert_bit_equal(load_checkpoint(tmp_path / "parts").network, expected)


@OLD_FILES
def test_sharded_bins_give_the_same_network(name, tmp_path, expected):
    tensors = load_file(tmp_path / "model.safetensors")
    names = {}
    for part in (0, 1):
        file = f"pytorch_model-{part + 1:05}-of-00002.bin"
        torch.save({n: t for i, (n, t) in enumerate(tensors.items()) if i % 2 == part}, tmp_path / file)
        names.update({n: file for i, n in enumerate(tensors) if i % 2 == part})
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
    (tmp_path / "model.safetensors").unlink()
    assert_bit_equal(load_checkpoint(tmp_path).network, expected)


@OLD_FILES
def test_files_in_half_precision_load_in_fp32(name, tmp_path, expected):
    published(name).to(torch.bfloat16).save_pretrained(tmp_path / "half")
    network = load_checkpoint(tmp_path / "half").network
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert_bit_equal(network, expected.to(torch.bfloat16).float())


def test_the_model_type_of_an_old_config_is_inferred_from_its_class(tmp_path):
    published().save_pretrained(tmp_path)
    change(tmp_path, model_type=None)
    assert load_checkpoint(tmp_path).architecture == "BertForSequenceClassification"


@pytest.mark.parametrize("name", NAMES)
def test_every_published_class_has_its_model_type(name, tmp_path):
    family = ARCHITECTURES[name].family
    fields = {name: value for name, value in family.write_config(family.config).items() if name != "model_type"}
    (tmp_path / "config.json").write_text(json.dumps({**fields, "architectures": [name]}))
    assert read_config(tmp_path)[1] == family.config


def test_weights_are_saved_in_the_requested_precision(tmp_path):
    network = own_network("GPT2ForSequenceClassification")
    save_checkpoint(tmp_path, network, dtype=torch.bfloat16)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118 - no dict
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_training_loaded_weights_leaves_their_file_unchanged(tmp_path):
    published().save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    network = load_checkpoint(tmp_path).network.train()
    network(PackedBatch.pack(ROWS)).square().mean().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            assert parameter.requires_grad
            parameter.sub_(parameter.grad)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_loading_draws_no_random_numbers(tmp_path):
    published("BertForMaskedLM").save_pretrained(tmp_path)
    state = torch.get_rng_state()
    load_checkpoint(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


class TestANewHead:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_backbone_loads_without_its_head(self, name, tmp_path):
        published(name).save_pretrained(tmp_path)
        checkpoint = load_backbone(tmp_path)
        assert checkpoint.network.head is None
        assert checkpoint.labels is None
        assert checkpoint.architecture == name
        assert_bit_equal(checkpoint.network.backbone, load_checkpoint(tmp_path).network.backbone)

    def test_the_backbone_of_an_unknown_class_loads(self, tmp_path):
        transformers.BertForMultipleChoice(tiny_config("bert")).save_pretrained(tmp_path)
        assert load_backbone(tmp_path).unused == (
            "bert.pooler.dense.bias",
            "bert.pooler.dense.weight",
            "classifier.bias",
            "classifier.weight",
        )

    def attach(self, folder, head):
        backbone = load_backbone(folder).network.backbone
        network = Network(backbone, head(backbone))
        before = {name: p.clone() for name, p in network.head.named_parameters()}
        report = load_head(network, folder)
        for name, p in network.head.named_parameters():
            assert torch.equal(p, before[name]) != (name in report.loaded)
        return report

    def test_the_pooler_is_loaded_and_the_classifier_is_new(self, tmp_path):
        published("BertForSequenceClassification").save_pretrained(tmp_path)
        report = self.attach(tmp_path, lambda b: SequenceHead(b.config, len(LABELS)))
        assert report.loaded == ("pooler.dense.weight", "pooler.dense.bias")
        assert report.new == ("classifier.weight", "classifier.bias")

    def test_without_a_stored_pooler_the_whole_head_is_new(self, tmp_path):
        published("BertForMaskedLM").save_pretrained(tmp_path)
        report = self.attach(tmp_path, lambda b: SequenceHead(b.config, 2))
        assert report.loaded == ()
        assert len(report.new) == 4

    def test_a_classifier_over_labels_is_new_even_if_one_of_its_shape_is_stored(self, tmp_path):
        published("GPT2ForTokenClassification").save_pretrained(tmp_path)
        report = self.attach(tmp_path, lambda b: TokenHead(b.config, len(LABELS)))
        assert report == type(report)(loaded=(), new=("classifier.weight", "classifier.bias"))

    def test_span_and_language_modeling_heads_are_loaded(self, tmp_path):
        published("BertForQuestionAnswering").save_pretrained(tmp_path / "qa")
        assert self.attach(tmp_path / "qa", lambda b: SpanHead(b.config)).new == ()
        published("BertForPreTraining").save_pretrained(tmp_path / "lm")
        report = self.attach(tmp_path / "lm", language_model_head)
        assert report.new == ()
        assert "lm_head.weight" not in report.loaded  # it is the backbone's own
        published("GPT2Model").save_pretrained(tmp_path / "gpt2")
        assert self.attach(tmp_path / "gpt2", language_model_head) == type(report)((), ())


def change(folder, **fields):
    """Changes fields of a config.json; None removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


def retensor(folder, edit):
    path = folder / "model.safetensors"
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    edit(tensors)
    save_file(tensors, path)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def as_bin(folder, content):
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")


def shards(folder, missing):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": missing}}
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


QUERY = "bert.encoder.layer.1.attention.self.query.weight"
BROKEN = {
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "config that is not JSON": (lambda f: cut(f / "config.json", 60), r"config\.json, line \d+: not valid JSON"),
    "config that is not text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "not a text file"),
    "config that is a folder": (
        lambda f: ((f / "config.json").unlink(), (f / "config.json").mkdir()),
        "cannot be read",
    ),
    "config that is a list": (lambda f: (f / "config.json").write_text("[1]"), "a list instead of an object"),
    "another model": (lambda f: change(f, model_type="t5"), "model_type 't5'.*BERT, GPT-2, RoBERTa"),
    "model type that is not a word": (lambda f: change(f, model_type=["bert"]), "model_type .'bert'."),
    "no model type": (
        lambda f: change(f, model_type=None, architectures=None, type_vocab_size=1),
        "has no model_type",
    ),
    "unknown class": (lambda f: change(f, architectures=["BertForRanking"]), "does not know.*'BertForRanking'"),
    "broken class": (lambda f: change(f, architectures="BertModel"), "list of class names"),
    "unknown activation": (lambda f: change(f, hidden_act="swiglu"), r"config\.json: .*hidden_act='swiglu'"),
    "decoder": (lambda f: change(f, is_decoder=True), "is_decoder=True"),
    "size that is a word": (lambda f: change(f, hidden_size="big"), "hidden_size is 'big'"),
    "nested without end": (lambda f: (f / "config.json").write_text("[" * 10**5), r"config\.json is not valid JSON"),
    "number without end": (
        lambda f: (f / "config.json").write_text('{"vocab_size": ' + "1" * 5000 + "}"),
        r"config\.json is not valid JSON",
    ),
    "half of a character": (
        lambda f: (f / "config.json").write_text('{"model_type": "\\ud83d"}'),
        r"config\.json is not a text file",
    ),
    "layers without end": (
        lambda f: change(f, num_hidden_layers=10**8),
        r"the tensor '.*encoder\.layer\.99999999\..*' is missing",
    ),
    "positions without end": (
        lambda f: change(f, max_position_embeddings=10**15),
        r"position_embeddings.weight' has the shape .*config.json requires \(1000000000000000, 8\)",
    ),
    "vocabulary without end": (lambda f: change(f, vocab_size=2**70), "word_embeddings.weight' has the shape"),
    "width without end": (lambda f: change(f, hidden_size=2**62), "word_embeddings.weight' has the shape"),
    "segments without end": (lambda f: change(f, type_vocab_size=2**62), "token_type_embeddings.*has the shape"),
    "feed-forward without end": (lambda f: change(f, intermediate_size=2**62), "intermediate.dense.*has the shape"),
    "labels with long numbers": (lambda f: change(f, id2label={"1" * 5000: "a"}), "must map numbers to names"),
    "NaN": (
        lambda f: retensor(f, lambda t: t[QUERY][3].fill_(float("nan"))),
        f"model.safetensors: the tensor '{QUERY}' holds NaN or infinity",
    ),
    "infinity": (
        lambda f: retensor(f, lambda t: t["classifier.bias"].fill_(float("-inf"))),
        "the tensor 'classifier.bias' holds NaN or infinity",
    ),
    "size of zero": (lambda f: change(f, num_hidden_layers=0), "num_hidden_layers is 0"),
    "dropout above one": (lambda f: change(f, hidden_dropout_prob=5), "hidden_dropout_prob is 5"),
    "heads that do not divide": (lambda f: change(f, num_attention_heads=3), "hidden size of 8.*3 attention heads"),
    "too many labels": (lambda f: change(f, id2label={"0": "a", "1": "b"}), "names 2 labels.*5 outputs"),
    "labels with a gap": (
        lambda f: change(f, id2label={str(i): "x" for i in (0, 1, 2, 3, 7)}),
        "names 5 labels .numbers 0 to 7",
    ),
    "labels without numbers": (lambda f: change(f, id2label={"a": "b"}), "must map numbers to names"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
    "an export": (
        lambda f: (f / "model.safetensors").rename(f / "model.onnx"),
        "It is an ONNX export for other programs",
    ),
    "missing tensor": (lambda f: retensor(f, lambda t: t.pop(QUERY)), f"model.safetensors: .*'{QUERY}' is missing"),
    "missing head": (lambda f: retensor(f, lambda t: t.pop("classifier.bias")), "'classifier.bias' is missing"),
    "misshapen tensor": (
        lambda f: retensor(f, lambda t: t.update({QUERY: torch.zeros(8, 9)})),
        rf"'{QUERY}' has the shape \(8, 9\); config.json requires \(8, 8\)",
    ),
    "too few words": (
        lambda f: change(f, vocab_size=30),
        r"word_embeddings.weight' has the shape \(31, 8\).*\(30, 8\)",
    ),
    "too many layers": (lambda f: change(f, num_hidden_layers=1), "'bert.encoder.layer.1.* has no place"),
    "foreign tensor": (
        lambda f: retensor(f, lambda t: t.update({"adapter.weight": torch.zeros(2)})),
        "'adapter.weight' has no place",
    ),
    "whole numbers": (
        lambda f: retensor(f, lambda t: t.update({QUERY: torch.zeros(8, 8, dtype=torch.int8)})),
        "holds torch.int8 numbers: quantized",
    ),
    "cut safetensors": (lambda f: cut(f / "model.safetensors", 2000), "model.safetensors is damaged or cut off"),
    "empty safetensors": (lambda f: cut(f / "model.safetensors", 0), "model.safetensors is damaged or cut off"),
    "LFS pointer": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "git lfs pull",
    ),
    "bin that would run code": (lambda f: as_bin(f, torch.nn.Linear(2, 2)), "could run code.*model.safetensors"),
    "bin of something else": (lambda f: as_bin(f, [1, 2]), "not a table of tensors"),
    "cut bin": (lambda f: (as_bin(f, {"a": torch.ones(99)}), cut(f / "pytorch_model.bin", 700)), "damaged or cut off"),
    "empty bin": (lambda f: (as_bin(f, {}), cut(f / "pytorch_model.bin", 0)), "damaged or cut off.*it is empty"),
    "missing shard": (
        lambda f: shards(f, "model-00002-of-00002.safetensors"),
        "index.json lists model-00002-of-00002.safetensors, which is not in the folder",
    ),
    "shard somewhere else": (
        lambda f: shards(f, "../other/model.safetensors"),
        "lists ../other/model.safetensors, but",
    ),
    "weights that are a folder": (
        lambda f: ((f / "model.safetensors").unlink(), (f / "model.safetensors").mkdir()),
        "model.safetensors cannot be read",
    ),
    "bin that is a folder": (
        lambda f: ((f / "model.safetensors").unlink(), (f / "pytorch_model.bin").mkdir()),
        "pytorch_model.bin cannot be read .Is a directory",
    ),
    "index without names": (
        lambda f: (shards(f, "x"), (f / "model.safetensors.index.json").write_text("{}")),
        "has no weight_map",
    ),
}


@pytest.mark.parametrize(("breaks", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_folder_is_reported_in_one_line_with_its_path(breaks, message, tmp_path):
    published().save_pretrained(tmp_path)
    breaks(tmp_path)
    with pytest.raises(HeadwayError, match=message) as caught:
        load_checkpoint(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tied_matrix_that_differs_from_the_embedding_is_refused(tmp_path):
    published("GPT2LMHeadModel").save_pretrained(tmp_path)
    retensor(tmp_path, lambda t: t.update({"lm_head.weight": torch.zeros(31, 8)}))
    with pytest.raises(HeadwayError, match=r"'lm_head.weight' differs.*\"tie_word_embeddings\": false"):
        load_checkpoint(tmp_path)


def test_a_missing_backbone_tensor_is_an_error_without_a_head_too(tmp_path):
    published("BertForMaskedLM").save_pretrained(tmp_path)
    retensor(tmp_path, lambda t: t.pop(QUERY))
    with pytest.raises(HeadwayError, match=QUERY):
        load_backbone(tmp_path)


def test_tensors_of_other_heads_are_reported(tmp_path):
    published("BertForPreTraining").save_pretrained(tmp_path)
    change(tmp_path, architectures=["BertForMaskedLM"])
    assert load_checkpoint(tmp_path).unused == (
        "bert.pooler.dense.bias",
        "bert.pooler.dense.weight",
        "cls.seq_relationship.bias",
        "cls.seq_relationship.weight",
    )


def test_an_unknown_head_has_no_published_class(tmp_path):
    network = own_network("GPT2Model")
    network.head = torch.nn.Linear(8, 2)
    with pytest.raises(ValueError, match="no published class for Linear"):
        save_checkpoint(tmp_path, network)
    assert load_head(network, tmp_path).new == ("weight", "bias")


def test_a_wrong_number_of_labels_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="2 labels for 5 outputs"):
        save_checkpoint(tmp_path, own_network("GPT2ForTokenClassification"), labels=["a", "b"])


FULL_DISK = """
import resource
from pathlib import Path
from headway.core.atomic_files import atomic_folder
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.errors import HeadwayError
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.heads import Network

network = Network(Bert(BertConfig(vocab_size=400, hidden_size=64, num_layers=1, num_heads=2, intermediate_size=64)))
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))  # a file may not grow further, as on a full disk
try:
    with atomic_folder(Path("model"), overwrite=True) as folder:
        save_checkpoint(folder, network)
except HeadwayError as error:
    print(error)
"""


@pytest.mark.posix
def test_a_full_disk_is_reported_and_leaves_the_old_model_unchanged(tmp_path):
    with atomic_folder(tmp_path / "model") as folder:
        save_checkpoint(folder, own_network("BertModel"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    run = subprocess.run([sys.executable, "-c", FULL_DISK], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "the disk is full" in run.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


@pytest.mark.parametrize("whole", [atomic_file, atomic_folder])
def test_a_file_in_the_way_of_a_folder_is_reported(whole, tmp_path):
    (tmp_path / "notes").write_text("mine")
    for below in ("model", "deeper/model"):
        with pytest.raises(HeadwayError, match="cannot be written"), whole(tmp_path / "notes" / below):
            pytest.fail("writing started")


class TestFindFolder:
    def test_a_folder_is_returned_as_given(self, tmp_path, monkeypatch):
        assert find_folder(tmp_path) == tmp_path
        monkeypatch.setenv("HOME", str(tmp_path.parent))
        assert find_folder(f"~/{tmp_path.name}") == tmp_path

    def test_a_text_instead_of_a_path_is_reported(self):
        with pytest.raises(HeadwayError, match="too long for the name of a file"):
            find_folder("a lovely film, " * 20)

    def test_a_built_in_name_gives_its_folder(self, tmp_path, monkeypatch):
        monkeypatch.setitem(hub.BUILT_IN, "headway-tiny", tmp_path)
        assert find_folder("headway-tiny") == tmp_path
        with pytest.raises(HeadwayError, match=r"Built in: .*headway-tiny"):
            find_folder("./headway-tinny")

    def test_every_built_in_model_has_a_config(self):
        assert all((folder / "config.json").is_file() for folder in hub.BUILT_IN.values())

    def test_a_file_instead_of_a_folder_is_reported(self, tmp_path):
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(HeadwayError, match=r"is a file; a model is a folder with a config\.json"):
            find_folder(tmp_path / "config.json")

    @pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "../up", "a/b/c"])
    def test_a_missing_path_is_named(self, path):
        with pytest.raises(HeadwayError, match=f"no model folder {path.removeprefix('./')}"):
            find_folder(path)

    @pytest.mark.parametrize("name", ["bert-base-uncasedd", "someone/some-bert", "runs/reviews"])
    def test_an_unknown_name_offline_says_where_it_was_looked_for(self, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(HeadwayError, match=f"'{name}'.*{tmp_path / name}.*HF_HUB_OFFLINE.*not downloaded before"):
            find_folder(name)

    def test_an_invalid_hub_id_is_refused(self):
        with pytest.raises(HeadwayError, match=r"the hub says: Cannot have -- or .. in repo_id: 'a--b/model'"):
            find_folder("a--b/model")

    def test_a_downloaded_model_is_used_offline(self, tmp_path, monkeypatch):
        from huggingface_hub import constants

        repository = tmp_path / "models--someone--some-bert"
        snapshot = repository / "snapshots" / ("0" * 40)
        published().save_pretrained(snapshot)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        assert load_checkpoint("someone/some-bert").labels == LABELS


def test_weights_have_the_permissions_of_the_configuration(tmp_path):
    save_checkpoint(tmp_path, Network(Bert(BertConfig(hidden_size=8, num_layers=1, num_heads=2, vocab_size=9))))
    modes = {path.name: path.stat().st_mode for path in tmp_path.iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]
