"""Our BERT equals that of transformers: every module, every head, every gradient, and real weights."""

import dataclasses

import pytest
import torch
import transformers
from headway.core.checkpoints.checkpoint import load_backbone, load_checkpoint
from headway.core.checkpoints.families.bert import BERT as FAMILY
from headway.core.errors import HeadwayError
from headway.core.models.activations import record_activations
from headway.core.models.bert import SIZES, Bert, BertConfig
from headway.core.models.heads import Network, SequenceHead
from headway.core.models.packing import PackedBatch
from headway.core.tokenizers.tokenizer import Tokenizer
from parity import (
    TOLERANCE,
    ModuleRecorder,
    assert_gradients_equal,
    ours,
    padded,
    segments,
    sequences,
    stir,
    unpadded,
    weighted_mean,
)

VOCAB, LONGEST = 61, 17
LENGTHS = [5, 1, LONGEST, 5, 2, 9, LONGEST, 3]
VARIANTS = {
    "published": {},
    "tanh gelu, coarse eps": {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3},
    "three segments, one layer": {"type_vocab_size": 3, "num_hidden_layers": 1, "layer_norm_eps": 1e-6},
    "relu, one head": {"hidden_act": "relu", "num_attention_heads": 1, "intermediate_size": 20},
    "untied": {"tie_word_embeddings": False, "hidden_act": "gelu_pytorch_tanh"},
}
HEADS = [
    "BertModel",
    "BertForMaskedLM",
    "BertLMHeadModel",
    "BertForPreTraining",
    "BertForNextSentencePrediction",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertForQuestionAnswering",
    "BertForMultipleChoice",
]


def tiny(**changes):
    return transformers.BertConfig(
        **{
            "vocab_size": VOCAB,
            "hidden_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 40,
            "max_position_embeddings": LONGEST,
            "layer_norm_eps": 1e-5,
            "attn_implementation": "eager",
            **changes,
        }
    )


def reference(published="BertModel", **changes):
    torch.manual_seed(0)
    return stir(getattr(transformers, published)(tiny(**changes)))


def inputs(kinds=2):
    batch = PackedBatch.pack(sequences(LENGTHS, VOCAB), segments(LENGTHS, kinds))
    mask = padded([[1] * length for length in LENGTHS])
    return batch, {
        "input_ids": padded(sequences(LENGTHS, VOCAB)),
        "token_type_ids": padded(segments(LENGTHS, kinds)),
        "attention_mask": mask,
    }


def their_outputs(published, model, batch, padded_inputs):
    if published == "BertForMultipleChoice":  # it reads (B, choices, n)
        padded_inputs = {name: value[:, None] for name, value in padded_inputs.items()}
    out = model(**padded_inputs)
    if published == "BertModel":
        return out.pooler_output
    if published == "BertForPreTraining":
        return unpadded(out.prediction_logits, batch), out.seq_relationship_logits
    if published == "BertForQuestionAnswering":
        return unpadded(torch.stack([out.start_logits, out.end_logits], dim=-1), batch)
    return unpadded(out.logits, batch) if out.logits.dim() == 3 else out.logits


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_every_module_equals_the_published_one(changes, tmp_path):
    theirs = reference(**changes)
    network = ours(theirs, tmp_path).network
    batch, padded_inputs = inputs(theirs.config.type_vocab_size)
    recorder = ModuleRecorder(theirs)
    whole = theirs(**padded_inputs, output_attentions=True)
    with record_activations(network.backbone) as activations:
        hidden = network.backbone(batch)

    def close(found, expected):
        torch.testing.assert_close(found, unpadded(expected, batch), **TOLERANCE)

    close(network.backbone.embed(batch), recorder.outputs["embeddings"])
    for i, block in enumerate(network.backbone.blocks):
        layer = f"encoder.layer.{i}"
        entering = unpadded(recorder.inputs[layer], batch)
        close(block.attn(entering, batch), recorder.outputs[f"{layer}.attention.output.dense"])
        between = unpadded(recorder.inputs[f"{layer}.intermediate"], batch)
        close(block.mlp(between), recorder.outputs[f"{layer}.output.dense"])
        close(block(entering, batch), recorder.outputs[layer])
        close(activations.hidden_states[i + 1], recorder.outputs[layer])
        for j, length in enumerate(batch.lengths):
            expected = whole.attentions[i][j, :, :length, :length]
            torch.testing.assert_close(activations.attentions[i][j], expected, **TOLERANCE)
    close(hidden, whole.last_hidden_state)
    torch.testing.assert_close(network(batch), whole.pooler_output, **TOLERANCE)
    assert len(activations.hidden_states) == theirs.config.num_hidden_layers + 1
    assert len(activations.attentions) == theirs.config.num_hidden_layers


@pytest.mark.parametrize("changes", [{}, VARIANTS["untied"]], ids=["tied", "untied"])
@pytest.mark.parametrize("published", HEADS)
def test_every_head_has_the_published_outputs_and_gradients(published, changes, tmp_path):
    outputs = {"num_labels": 5} if published.endswith(("SequenceClassification", "TokenClassification")) else {}
    theirs = reference(published, **changes, **outputs)
    checkpoint = ours(theirs, tmp_path)
    assert checkpoint.architecture == published
    batch, padded_inputs = inputs()
    expected = their_outputs(published, theirs, batch, padded_inputs)
    found = checkpoint.network(batch)
    torch.testing.assert_close(found, expected, **TOLERANCE)
    weighted_mean(expected).backward()
    weighted_mean(found).backward()
    assert_gradients_equal(checkpoint.network, published, theirs)


def test_a_sequence_of_any_length_has_the_published_outputs(tmp_path):
    theirs = reference()
    network = ours(theirs, tmp_path).network
    for length in range(1, LONGEST + 1):
        (ids,) = sequences([length], VOCAB, seed=length)
        expected = theirs(torch.tensor([ids])).last_hidden_state[0]
        torch.testing.assert_close(network.backbone(PackedBatch.pack([ids])), expected, **TOLERANCE)


def test_a_batch_has_the_outputs_of_its_sequences_alone_and_is_unchanged(tmp_path):
    network = ours(reference("BertForSequenceClassification"), tmp_path).network
    batch, _ = inputs()
    before = [x.clone() for x in (batch.input_ids, batch.position_ids, batch.segment_ids, batch.cu_seqlens)]
    together = network(batch)
    alone = [
        network(PackedBatch.pack([ids], [kinds]))
        for ids, kinds in zip(sequences(LENGTHS, VOCAB), segments(LENGTHS, 2), strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-6, atol=1e-6)
    for x, y in zip(before, (batch.input_ids, batch.position_ids, batch.segment_ids, batch.cu_seqlens), strict=True):
        assert torch.equal(x, y)


def test_recording_activations_leaves_the_outputs_and_the_model_unchanged(tmp_path):
    network = ours(reference("BertForTokenClassification"), tmp_path).network
    batch, _ = inputs()
    expected = network(batch)
    with record_activations(network.backbone):
        assert torch.equal(network(batch), expected)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_dropout_is_active_in_training_only():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=24,
        num_layers=2,
        num_heads=4,
        intermediate_size=40,
        dropout=0.5,
        attention_dropout=0.5,
        head_dropout=0.5,
    )
    network = Network(Bert(config), SequenceHead(config, 3))
    batch, _ = inputs()
    assert torch.equal(network.eval()(batch), network.eval()(batch))
    first, second = network.train()(batch), network.train()(batch)
    assert not torch.equal(first, second)
    first.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_act", "quick_gelu"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("position_embedding_type", "relative_key"),
    ],
)
def test_unsupported_config_values_are_refused_by_name(field, value):
    with pytest.raises(HeadwayError, match=f"{field}={value!r}"):
        FAMILY.read_config({field: value})


def test_a_config_equals_its_published_form_read_again_and_is_frozen():
    config = BertConfig(vocab_size=9, activation="gelu_tanh", norm_eps=1e-3, head_dropout=0.3, tie_embeddings=False)
    assert FAMILY.read_config(FAMILY.write_config(config)) == config
    assert FAMILY.read_config({}) == FAMILY.read_config(transformers.BertConfig().to_dict()) == BertConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dropout = 0.5


@pytest.mark.parametrize("size", SIZES)
def test_named_sizes_have_the_number_of_parameters_of_transformers(size):
    config = BertConfig.named(size, vocab_size=100)
    with torch.device("meta"):
        published = transformers.BertConfig(**FAMILY.write_config(config))
        theirs = transformers.BertModel(published, add_pooling_layer=False)
        mine = Bert(config)
    assert sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_the_real_minilm_has_the_published_outputs(minilm):
    tokenizer = Tokenizer.load(minilm)
    texts = ["A lovely film.", "two hours I will not get back", "naïve 😀 中文", ""]
    joined = [tokenizer.join(encoding.ids) for encoding in tokenizer.encode_batch(texts)]
    joined.append(tokenizer.join(tokenizer.encode("Who?").ids, tokenizer.encode("Ada Lovelace. " * 40).ids))
    batch = PackedBatch.pack(*zip(*joined, strict=True))
    checkpoint = load_checkpoint(minilm)
    theirs = transformers.BertModel.from_pretrained(minilm, attn_implementation="eager")
    with torch.no_grad():
        expected = [theirs(torch.tensor([ids]), token_type_ids=torch.tensor([kinds])) for ids, kinds in joined]
        hidden, pooled = checkpoint.network.backbone(batch), checkpoint.network(batch)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(hidden, torch.cat([one.last_hidden_state[0] for one in expected]), **close)
    torch.testing.assert_close(pooled, torch.cat([one.pooler_output for one in expected]), **close)
    assert load_backbone(minilm).network.head is None
