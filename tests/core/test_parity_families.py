"""The relatives of BERT equal those of transformers: hidden states, every head, every gradient, packed and alone."""

import pytest
import torch
import transformers
from headway.core.checkpoints.families.registry import ARCHITECTURES, FAMILIES
from headway.core.errors import HeadwayError
from headway.core.models.activations import record_activations
from headway.core.models.packing import PackedBatch
from parity import TOLERANCE, assert_gradients_equal, ours, sequences, stir, unpadded, weighted_mean
from torch.nn.utils.rnn import pad_sequence

VOCAB, LONGEST = 61, 17
LENGTHS = [5, 1, LONGEST, 5, 2, 9, LONGEST, 3]
SIZES: dict[str, object] = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": LONGEST,
    "layer_norm_eps": 1e-5,
}
DISTILBERT_SIZES = {"dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 40, "max_position_embeddings": LONGEST}
# Name -> model type, and what its config.json states.
VARIANTS = {
    "roberta": ("roberta", {**SIZES, "max_position_embeddings": LONGEST + 2, "type_vocab_size": 1}),
    "roberta, other padding": (
        "roberta",
        {
            **SIZES,
            "max_position_embeddings": LONGEST + 8,
            "type_vocab_size": 1,
            "pad_token_id": 7,
            "hidden_act": "relu",
        },
    ),
    "xlm-roberta, untied": (
        "xlm-roberta",
        {**SIZES, "max_position_embeddings": LONGEST + 2, "type_vocab_size": 1, "tie_word_embeddings": False},
    ),
    "camembert": ("camembert", {**SIZES, "max_position_embeddings": LONGEST + 2, "type_vocab_size": 1}),
    "distilbert": ("distilbert", DISTILBERT_SIZES),
    "distilbert, sinusoidal, relu": (
        "distilbert",
        {**DISTILBERT_SIZES, "sinusoidal_pos_embds": True, "activation": "relu"},
    ),
    "electra": ("electra", {**SIZES, "embedding_size": 10}),
    "electra without projection": ("electra", {**SIZES, "embedding_size": 24, "hidden_act": "gelu_new"}),
    "ernie": ("ernie", {**SIZES, "use_task_id": True}),
    "ernie without tasks": ("ernie", SIZES),
    "albert": ("albert", {**SIZES, "embedding_size": 10}),
    "albert, relu": ("albert", {**SIZES, "embedding_size": 24, "hidden_act": "relu", "classifier_dropout_prob": 0.2}),
}
PUBLISHED = {
    "roberta": transformers.RobertaConfig,
    "xlm-roberta": transformers.XLMRobertaConfig,
    "camembert": transformers.CamembertConfig,
    "distilbert": transformers.DistilBertConfig,
    "electra": transformers.ElectraConfig,
    "ernie": transformers.ErnieConfig,
    "albert": transformers.AlbertConfig,
}
CASES = [
    (variant, f"{FAMILIES[model].classes}{suffix}")
    for variant, (model, _) in VARIANTS.items()
    for suffix in FAMILIES[model].heads
]


def reference(variant: str, published: str):
    model, changes = VARIANTS[variant]
    outputs = {"num_labels": 5} if ARCHITECTURES[published].head.labelled else {}
    config = PUBLISHED[model](vocab_size=VOCAB, attn_implementation="eager", **changes, **outputs)
    torch.manual_seed(0)
    return stir(getattr(transformers, published)(config))


def inputs(theirs) -> tuple[PackedBatch, dict[str, torch.Tensor]]:
    """Sequences without the padding token, packed, and padded for the reference."""
    pad = theirs.config.pad_token_id
    rows = [[(token + 1) % VOCAB if token == pad else token for token in row] for row in sequences(LENGTHS, VOCAB)]
    padded = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=pad)
    mask = pad_sequence([torch.ones(length, dtype=torch.long) for length in LENGTHS], batch_first=True)
    return PackedBatch.pack(rows), {"input_ids": padded, "attention_mask": mask}


def their_outputs(published: str, theirs, batch: PackedBatch, padded: dict[str, torch.Tensor]):
    if published.endswith("ForMultipleChoice"):  # it reads (B, choices, n)
        padded = {name: value[:, None] for name, value in padded.items()}
    out = theirs(**padded)
    if published.endswith("ForPreTraining"):
        order = out.get("sop_logits")
        return unpadded(out.prediction_logits, batch), out.seq_relationship_logits if order is None else order
    if published.endswith("ForQuestionAnswering"):
        return unpadded(torch.stack([out.start_logits, out.end_logits], dim=-1), batch)
    if published.endswith("Model"):
        pooled = out.get("pooler_output")
        return unpadded(out.last_hidden_state, batch) if pooled is None else pooled
    return unpadded(out.logits, batch) if out.logits.dim() == 3 else out.logits


@pytest.mark.parametrize(("variant", "published"), CASES)
def test_every_head_has_the_published_outputs_and_gradients(variant, published, tmp_path):
    theirs = reference(variant, published)
    checkpoint = ours(theirs, tmp_path)
    assert checkpoint.architecture == published
    batch, padded = inputs(theirs)
    expected = their_outputs(published, theirs, batch, padded)
    found = checkpoint.network(batch)
    torch.testing.assert_close(found, expected, **TOLERANCE)
    weighted_mean(expected).backward()
    weighted_mean(found).backward()
    assert_gradients_equal(checkpoint.network, published, theirs)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_head_for_multiple_choice_has_the_published_dropout(variant, tmp_path):
    model, changes = VARIANTS[variant]
    own = {"seq_classif_dropout": 0.3} if model == "distilbert" else {"hidden_dropout_prob": 0.2}
    own |= {"classifier_dropout_prob" if model == "albert" else "classifier_dropout": 0.3}
    own |= {"summary_last_dropout": 0.4} if model == "electra" else {}
    config = PUBLISHED[model](vocab_size=VOCAB, **{**changes, **own})
    theirs = getattr(transformers, f"{FAMILIES[model].classes}ForMultipleChoice")(config)
    summary = dict(theirs.named_modules()).get("sequence_summary.last_dropout")
    head = ours(theirs, tmp_path).network.head
    assert head.dropout.p == (theirs.dropout if summary is None else summary).p
    assert head.first_dropout.p == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_hidden_state_is_the_published_one(variant, tmp_path):
    family = FAMILIES[VARIANTS[variant][0]]
    theirs = reference(variant, family.base_class)
    backbone = ours(theirs, tmp_path).network.backbone
    batch, padded = inputs(theirs)
    with record_activations(backbone) as activations:
        backbone(batch)
    expected = theirs(**padded, output_hidden_states=True).hidden_states
    assert len(activations.hidden_states) == len(expected) == 4
    for one, other in zip(activations.hidden_states, expected, strict=True):
        torch.testing.assert_close(one, unpadded(other, batch), **TOLERANCE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_has_the_outputs_of_its_sequences_alone(variant, tmp_path):
    theirs = reference(variant, f"{FAMILIES[VARIANTS[variant][0]].classes}ForSequenceClassification")
    network = ours(theirs, tmp_path).network
    batch, _ = inputs(theirs)
    alone = [network(PackedBatch.pack([ids.tolist()])) for ids in batch.split(batch.input_ids)]
    torch.testing.assert_close(network(batch), torch.cat(alone), rtol=1e-6, atol=1e-6)


def test_two_packed_roberta_texts_have_the_published_vectors(tmp_path):
    theirs = reference("roberta", "RobertaModel")
    backbone = ours(theirs, tmp_path).network.backbone
    first, second = sequences([11, 6], VOCAB, seed=5)
    first, second = ([token if token != 1 else 2 for token in row] for row in (first, second))
    found = backbone(PackedBatch.pack([first, second])).split([11, 6])
    for row, vectors in zip((first, second), found, strict=True):
        expected = theirs(torch.tensor([row])).last_hidden_state[0]
        assert torch.cosine_similarity(vectors, expected, dim=-1).min() > 0.9999


def test_a_model_with_one_segment_ignores_those_of_its_tokenizer(tmp_path):
    theirs = reference("roberta", "RobertaModel")
    backbone = ours(theirs, tmp_path).network.backbone
    assert backbone.config.num_segments == 1
    pair = PackedBatch.pack([[0, 5, 2, 6, 2]], [[0, 0, 0, 1, 1]])
    expected = theirs(pair.input_ids[None]).last_hidden_state[0]
    torch.testing.assert_close(backbone(pair), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", FAMILIES)
def test_a_config_equals_its_published_form_read_again(model):
    family = FAMILIES[model]
    assert family.read_config(family.write_config(family.config)) == family.config
    if model in PUBLISHED:
        assert family.read_config(PUBLISHED[model]().to_dict()) == family.read_config({}) == family.config


@pytest.mark.parametrize("model", ["roberta", "electra"])
def test_what_is_not_implemented_is_refused_by_name(model):
    with pytest.raises(HeadwayError, match="position_embedding_type='relative_key'"):
        FAMILIES[model].read_config({"position_embedding_type": "relative_key"})
