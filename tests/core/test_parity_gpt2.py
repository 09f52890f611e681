"""Our GPT-2 equals that of transformers: every module, every head, every gradient."""

import dataclasses

import pytest
import torch
import transformers
from headway.core.checkpoints.families.gpt2 import GPT2 as FAMILY
from headway.core.errors import HeadwayError
from headway.core.models.activations import record_activations
from headway.core.models.gpt2 import GPT2, SIZES, GPT2Config
from headway.core.models.heads import Network, SequenceHead, TokenHead
from headway.core.models.packing import PackedBatch
from parity import (
    TOLERANCE,
    ModuleRecorder,
    assert_gradients_equal,
    ours,
    padded,
    sequences,
    stir,
    unpadded,
    weighted_mean,
)

VOCAB, LONGEST, END_OF_TEXT = 61, 17, 60
LENGTHS = [5, 1, LONGEST, 5, 2, 9, LONGEST, 3]
VARIANTS = {
    "published": {},
    "exact gelu, coarse eps": {"activation_function": "gelu", "layer_norm_epsilon": 1e-2},
    "one layer, other width": {"n_layer": 1, "n_inner": 20, "activation_function": "gelu_pytorch_tanh"},
    "unscaled dot products": {"scale_attn_weights": False},
    "scaled by layer": {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    "untied": {"tie_word_embeddings": False, "activation_function": "silu"},
}
HEADS = [
    "GPT2LMHeadModel",
    "GPT2ForSequenceClassification",
    "GPT2ForTokenClassification",
    "GPT2ForQuestionAnswering",
]


def tiny(**changes):
    return transformers.GPT2Config(
        **{
            "vocab_size": VOCAB,
            "n_embd": 24,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": LONGEST,
            "layer_norm_epsilon": 1e-4,
            "bos_token_id": END_OF_TEXT,
            "eos_token_id": END_OF_TEXT,
            "attn_implementation": "eager",
            **changes,
        }
    )


def reference(published="GPT2Model", **changes):
    torch.manual_seed(0)
    return stir(getattr(transformers, published)(tiny(**changes)))


def inputs():
    mask = padded([[1] * length for length in LENGTHS])
    rows = sequences(LENGTHS, VOCAB)
    return PackedBatch.pack(rows), {"input_ids": padded(rows), "attention_mask": mask}


def their_outputs(published, model, batch, padded_inputs):
    if published == "GPT2ForSequenceClassification":  # it finds the last token by the pad token, so one text at a time
        return torch.cat([model(ids[None]).logits for ids in batch.split(batch.input_ids)])
    out = model(**padded_inputs)
    if published == "GPT2ForQuestionAnswering":
        return unpadded(torch.stack([out.start_logits, out.end_logits], dim=-1), batch)
    return unpadded(out.logits, batch)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_every_module_equals_the_published_one(changes, tmp_path):
    theirs = reference(**changes)
    network = ours(theirs, tmp_path).network
    batch, padded_inputs = inputs()
    recorder = ModuleRecorder(theirs)
    whole = theirs(**padded_inputs, output_attentions=True)
    with record_activations(network.backbone) as activations:
        hidden = network(batch)

    def close(found, expected):
        torch.testing.assert_close(found, unpadded(expected, batch), **TOLERANCE)

    close(network.backbone.embed(batch), recorder.outputs["drop"])
    for i, block in enumerate(network.backbone.blocks):
        entering = unpadded(recorder.inputs[f"h.{i}"], batch)
        normed = unpadded(recorder.outputs[f"h.{i}.ln_1"], batch)
        close(block.attn(normed, batch), recorder.outputs[f"h.{i}.attn.c_proj"])
        close(block.mlp(unpadded(recorder.outputs[f"h.{i}.ln_2"], batch)), recorder.outputs[f"h.{i}.mlp"])
        close(block(entering, batch), recorder.outputs[f"h.{i}"])
        torch.testing.assert_close(activations.hidden_states[i], entering, **TOLERANCE)
        for j, length in enumerate(batch.lengths):
            expected = whole.attentions[i][j, :, :length, :length]
            torch.testing.assert_close(activations.attentions[i][j], expected, **TOLERANCE)
    close(hidden, whole.last_hidden_state)
    assert torch.equal(activations.hidden_states[-1], hidden)
    assert len(activations.hidden_states) == theirs.config.n_layer + 1
    assert len(activations.attentions) == theirs.config.n_layer


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


def test_the_base_model_has_the_published_gradients(tmp_path):
    theirs = reference()
    network = ours(theirs, tmp_path).network
    batch, padded_inputs = inputs()
    weighted_mean(unpadded(theirs(**padded_inputs).last_hidden_state, batch)).backward()
    weighted_mean(network(batch)).backward()
    assert_gradients_equal(network, "GPT2Model", theirs)


def test_a_sequence_of_any_length_has_the_published_outputs(tmp_path):
    theirs = reference()
    network = ours(theirs, tmp_path).network
    for length in range(1, LONGEST + 1):
        (ids,) = sequences([length], VOCAB, seed=length)
        expected = theirs(torch.tensor([ids])).last_hidden_state[0]
        torch.testing.assert_close(network(PackedBatch.pack([ids])), expected, **TOLERANCE)


def test_a_text_that_contains_end_of_text_tokens_is_classified_by_its_last_token(tmp_path):
    network = ours(reference("GPT2ForSequenceClassification", num_labels=3), tmp_path).network
    theirs = transformers.GPT2ForSequenceClassification.from_pretrained(tmp_path, attn_implementation="eager")
    rows = [[5, END_OF_TEXT, 7, END_OF_TEXT], [END_OF_TEXT], [END_OF_TEXT, END_OF_TEXT, 3], [8, 9]]
    expected = torch.cat([theirs(torch.tensor([ids])).logits for ids in rows])
    torch.testing.assert_close(network(PackedBatch.pack(rows)), expected, **TOLERANCE)


def test_a_batch_has_the_outputs_of_its_sequences_alone_and_is_unchanged(tmp_path):
    network = ours(reference("GPT2ForSequenceClassification"), tmp_path).network
    batch, _ = inputs()
    before = [x.clone() for x in (batch.input_ids, batch.position_ids, batch.segment_ids, batch.cu_seqlens)]
    together = network(batch)
    alone = [network(PackedBatch.pack([ids])) for ids in sequences(LENGTHS, VOCAB)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-6, atol=1e-6)
    for x, y in zip(before, (batch.input_ids, batch.position_ids, batch.segment_ids, batch.cu_seqlens), strict=True):
        assert torch.equal(x, y)


def test_a_token_does_not_depend_on_later_tokens(tmp_path):
    network = ours(reference(), tmp_path).network
    first, second = network(PackedBatch.pack([[4, 5, 6, 7], [4, 5, 9, 9]])).chunk(2)
    torch.testing.assert_close(first[:2], second[:2])
    assert not torch.allclose(first[2:], second[2:])


def test_recording_activations_leaves_the_outputs_and_the_model_unchanged(tmp_path):
    network = ours(reference("GPT2LMHeadModel"), tmp_path).network
    batch, _ = inputs()
    expected = network(batch)
    with record_activations(network.backbone):
        assert torch.equal(network(batch), expected)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_dropout_is_active_in_training_only():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB,
        hidden_size=24,
        num_layers=2,
        num_heads=4,
        intermediate_size=96,
        dropout=0.5,
        embedding_dropout=0.5,
        attention_dropout=0.5,
        head_dropout=0.5,
    )
    for head in (SequenceHead(config, 3), TokenHead(config, 3)):
        network = Network(GPT2(config), head)
        batch, _ = inputs()
        assert torch.equal(network.eval()(batch), network.eval()(batch))
        first, second = network.train()(batch), network.train()(batch)
        assert not torch.equal(first, second)
        first.square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(("field", "value"), [("activation_function", "quick_gelu"), ("add_cross_attention", True)])
def test_unsupported_config_values_are_refused_by_name(field, value):
    with pytest.raises(HeadwayError, match=field):
        FAMILY.read_config({field: value})


def test_a_config_equals_its_published_form_read_again_and_is_frozen():
    config = GPT2Config(
        vocab_size=9, intermediate_size=70, activation="gelu", head_dropout=0.3, scale_attention_by_layer=True
    )
    assert FAMILY.read_config(FAMILY.write_config(config)) == config
    assert FAMILY.read_config({}) == FAMILY.read_config(transformers.GPT2Config().to_dict()) == GPT2Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dropout = 0.5


@pytest.mark.parametrize("size", SIZES)
def test_named_sizes_have_the_number_of_parameters_of_transformers(size):
    config = GPT2Config.named(size, vocab_size=100)
    fields = {**FAMILY.write_config(config), "bos_token_id": 0, "eos_token_id": 0}
    with torch.device("meta"):
        theirs = transformers.GPT2Model(transformers.GPT2Config(**fields))
        mine = GPT2(config)
    assert sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in theirs.parameters())
