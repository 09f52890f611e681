"""The Transformer equals transformers' MarianMTModel: logits, gradients, folders both ways; and it learns."""

import dataclasses
import json
import math
import random

import pytest
import torch
import transformers
from headway.core.atomic_files import atomic_folder
from headway.core.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from headway.core.checkpoints.families.marian import MARIAN
from headway.core.errors import HeadwayError
from headway.core.generation.generation import generate_ids
from headway.core.generation.generation_config import GenerationConfig
from headway.core.inference.inference import load_for_inference, prepare_for_inference
from headway.core.models.heads import Network, language_model_head, set_activation_checkpointing
from headway.core.models.packing import PackedBatch
from headway.core.models.transformer import SIZES, Transformer, TransformerConfig, sinusoids
from headway.core.new_model import learn_tokenizer, write_new_model
from parity import TOLERANCE, ours, padded, published_gradients, sequences, stir, unpadded, weighted_mean
from safetensors.torch import load_file, save_file
from simulated_accelerator import DEVICE, reads, simulated_accelerator

VOCAB, LONGEST = 61, 17
SOURCES, TARGETS = [5, 1, LONGEST, 5, 2, 9, LONGEST, 3], [4, LONGEST, 1, 5, 9, 2, LONGEST, 6]
VARIANTS = {
    "of the paper": {},
    "as OPUS-MT": {"activation_function": "swish", "encoder_layers": 3, "decoder_layers": 1},
    "unscaled": {"scale_embedding": False, "activation_function": "gelu"},
    "other sizes of the decoder": {"decoder_attention_heads": 3, "decoder_ffn_dim": 20, "encoder_layers": 1},
}
SIZES_OF_TINY = {
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "max_position_embeddings": LONGEST,
}
TOKENS = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 2, "forced_eos_token_id": None}


def reference(**changes) -> transformers.MarianMTModel:
    """A random model. Its first token is not the padding, whose embedding transformers never trains."""
    config = {"activation_function": "relu", "scale_embedding": True, **SIZES_OF_TINY, **TOKENS, **changes}
    torch.manual_seed(0)
    model = transformers.MarianMTModel(transformers.MarianConfig(vocab_size=VOCAB, **config))
    stir(model).final_logits_bias.normal_()
    for part in (model.model.encoder, model.model.decoder):
        part.embed_positions.weight.data.copy_(part.embed_positions.create_weight())
    return model


def inputs() -> tuple[PackedBatch, dict[str, torch.Tensor]]:
    sources, targets = sequences(SOURCES, VOCAB), sequences(TARGETS, VOCAB, seed=1)
    mask = padded([[1] * length for length in SOURCES])
    theirs = {"input_ids": padded(sources), "attention_mask": mask, "decoder_input_ids": padded(targets)}
    return PackedBatch.pack(targets, source=PackedBatch.pack(sources)), theirs


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_logits_and_all_gradients_are_the_published_ones(changes, tmp_path):
    theirs = reference(**changes)
    checkpoint = ours(theirs, tmp_path)
    assert checkpoint.architecture == "MarianMTModel"
    assert checkpoint.unused == ()
    theirs.final_logits_bias.requires_grad_()
    batch, padded_inputs = inputs()
    expected = unpadded(theirs(**padded_inputs).logits, batch)
    found = checkpoint.network(batch)
    torch.testing.assert_close(found, expected, **TOLERANCE)
    weighted_mean(expected).backward()
    weighted_mean(found).backward()
    expected_gradients = published_gradients(checkpoint.network, "MarianMTModel", theirs)
    gradients = {name: parameter.grad for name, parameter in checkpoint.network.named_parameters()}
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        difference = (gradients[name] - gradient).abs().max()
        assert difference < 1e-5 * gradient.abs().max(), f"{name}: {difference:.1e}"


def test_the_encoder_has_the_published_hidden_states(tmp_path):
    theirs = reference()
    backbone = ours(theirs, tmp_path).network.backbone
    batch, padded_inputs = inputs()
    expected = theirs.model.encoder(padded_inputs["input_ids"], padded_inputs["attention_mask"]).last_hidden_state
    encoded = backbone.encode(batch.source)[: batch.source.num_tokens]
    torch.testing.assert_close(encoded, unpadded(expected, batch.source), **TOLERANCE)


def test_positions_follow_the_formula_of_the_paper():
    size, found = 10, sinusoids(50, 10)
    for position in (0, 1, 7, 49):
        for i in range(size // 2):
            angle = position / 10000 ** (2 * i / size)
            assert found[position, i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[position, size // 2 + i] == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("size", [24, 25, 512])
def test_positions_are_those_of_transformers_to_the_last_bit(size):
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

    assert torch.equal(sinusoids(300, size), MarianSinusoidalPositionalEmbedding(300, size).create_weight())


def test_a_batch_has_the_outputs_of_its_pairs_alone(tmp_path):
    network = ours(reference(), tmp_path).network
    batch, _ = inputs()
    pairs = zip(sequences(SOURCES, VOCAB), sequences(TARGETS, VOCAB, seed=1), strict=True)
    alone = [network(PackedBatch.pack([target], source=PackedBatch.pack([source]))) for source, target in pairs]
    torch.testing.assert_close(network(batch), torch.cat(alone), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_with_a_cache_every_token_has_the_outputs_without_it(tmp_path):
    network = ours(reference(), tmp_path).network
    sources, targets = sequences([5, 1, 9], VOCAB), sequences([8, 8, 8], VOCAB, seed=1)
    expected = network(PackedBatch.pack(targets, source=PackedBatch.pack(sources))).view(3, 8, VOCAB)
    cache = network.backbone.new_cache(sources, capacity=8)
    steps = [[row[:3] for row in targets], *([[row[i]] for row in targets] for i in range(3, 8))]
    found = [network.head(network.backbone(cache.extend(step), cache)).view(3, -1, VOCAB) for step in steps]
    torch.testing.assert_close(torch.cat(found, dim=1), expected, **TOLERANCE)


GENERATION = {
    "greedy": {},
    "beams": {"num_beams": 4},
    "beams of long texts": {"num_beams": 3, "length_penalty": 2.0, "early_stopping": "yes"},
    "repetition": {"repetition_penalty": 1.3},
}


@pytest.mark.parametrize("options", GENERATION.values(), ids=GENERATION)
def test_generated_tokens_are_the_published_ones(options, tmp_path):
    theirs = reference()
    theirs.final_logits_bias[0, TOKENS["eos_token_id"]] += 2.0  # so that some texts end
    with torch.no_grad():  # larger matrices, so that texts depend more on their sources
        for parameter in theirs.parameters():
            parameter.mul_(4.0 if parameter.requires_grad and parameter.dim() == 2 else 1.0)
    network = ours(theirs, tmp_path).network
    config = GenerationConfig(max_new_tokens=12, **options)
    found = generate_ids(network, sequences(SOURCES, VOCAB), config, end_of_text_id=network.config.end_id)
    _, padded_inputs = inputs()
    more = {**options, "early_stopping": options.get("early_stopping") == "yes"}
    expected = theirs.generate(
        padded_inputs["input_ids"],
        attention_mask=padded_inputs["attention_mask"],
        max_new_tokens=12,
        do_sample=False,
        **(more if "num_beams" in options else options),
    )
    for (text, *_), row in zip(found, expected.tolist(), strict=True):
        start, *tokens = row
        assert start == network.config.start_id
        end = tokens.index(network.config.end_id) + 1 if network.config.end_id in tokens else 12
        assert list(text.token_ids) == tokens[:end]
    assert {text.finish_reason for text, *_ in found} == {"end-of-text", "length"}
    assert len({text.token_ids for text, *_ in found}) > 3


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_folder_of_transformers_is_saved_bit_for_bit(changes, tmp_path):
    theirs = reference(**changes)
    theirs.save_pretrained(tmp_path / "theirs")
    checkpoint = load_checkpoint(tmp_path / "theirs")
    with atomic_folder(tmp_path / "ours") as folder:
        save_checkpoint(folder, checkpoint.network, config=checkpoint.config)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = transformers.MarianMTModel.from_pretrained(tmp_path / "ours").eval()
    assert again.config.to_diff_dict() == theirs.config.to_diff_dict()
    _, padded_inputs = inputs()
    assert torch.equal(again(**padded_inputs).logits, theirs(**padded_inputs).logits)


@pytest.mark.parametrize("vocabulary", ["pieces", "words"])
def test_a_new_model_opens_in_transformers_with_the_same_token_ids_and_logits(vocabulary, tmp_path):
    texts = ["the cat sat on the mat", "le chat était assis sur le tapis", "the dog 12 34"]
    tokenizer = learn_tokenizer(texts, "encoder-decoder", 330, vocabulary)
    write_new_model(tmp_path / "new", "encoder-decoder", "tiny", tokenizer, max_positions=64)
    network = load_checkpoint(tmp_path / "new").network
    stir(network)
    config = network.config
    with atomic_folder(tmp_path / "model") as folder:
        save_checkpoint(folder, network)
        tokenizer.save(folder, segments=False)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model").eval()
    assert type(theirs) is transformers.MarianMTModel
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in [*texts, "the mat", "café Ünïcode 猫"]:
        source = tokenizer.join(tokenizer.encode(text).ids)[0]
        assert source[-1] == config.end_id == again.eos_token_id == theirs.config.eos_token_id
        target = [config.start_id, *source[:-1]]
        inputs = again(text, return_tensors="pt")
        assert inputs.keys() == {"input_ids", "attention_mask"}
        assert inputs.input_ids[0].tolist() == source
        expected = theirs(**inputs, decoder_input_ids=torch.tensor([target])).logits[0]
        found = network(PackedBatch.pack([target], source=PackedBatch.pack([source])))
        torch.testing.assert_close(found, expected, **TOLERANCE)
    assert theirs.generation_config.decoder_start_token_id == config.start_id == again.pad_token_id
    loss = theirs(**inputs, labels=torch.tensor([source])).loss  # which transformers shifts to the target above
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(found, torch.tensor(source)), **TOLERANCE)


def test_tensors_that_older_files_repeat_must_be_equal(tmp_path):
    reference().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    embedding = tensors["model.shared.weight"]
    tensors |= {f"model.{part}.embed_tokens.weight": embedding.clone() for part in ("encoder", "decoder")}
    tensors |= {f"model.{part}.embed_positions.weight": sinusoids(LONGEST, 24) for part in ("encoder", "decoder")}
    tensors["lm_head.weight"] = embedding.clone()
    save_file(tensors, tmp_path / "model.safetensors")
    batch, _ = inputs()
    expected = ours(reference(), tmp_path / "plain").network(batch)
    assert torch.equal(load_checkpoint(tmp_path).network(batch), expected)
    tensors["model.decoder.embed_tokens.weight"][3, 3] += 1
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(HeadwayError, match=r"decoder\.embed_tokens\.weight.* differs from the token embedding"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("share_encoder_decoder_embeddings", False),
        ("tie_word_embeddings", False),
        ("normalize_embedding", True),
        ("static_position_embeddings", False),
        ("activation_function", "quick_gelu"),
        ("decoder_vocab_size", 30),
        ("encoder_layerdrop", 0.1),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(field, value):
    with pytest.raises(HeadwayError, match=f"{field}={value!r}"):
        MARIAN.read_config({"vocab_size": VOCAB, field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("decoder_start_token_id", VOCAB, "decoder_start_token_id=61, but a vocabulary of 61 tokens"),
        ("encoder_attention_heads", 5, "encoder_attention_heads=5, among which a hidden size of 24"),
        ("encoder_layers", 10**12, r"encoder\.layers\.999999999999\.self_attn_layer_norm\.weight' is missing"),
        ("encoder_ffn_dim", 10**12, "fc1.weight"),
    ],
)
def test_a_damaged_config_is_refused_before_anything_is_computed(field, value, message, tmp_path):
    reference().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(HeadwayError, match=message):
        load_checkpoint(tmp_path)


def test_more_positions_than_a_model_can_have_are_refused_before_they_are_computed(tmp_path):
    reference().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 10**12}))
    with pytest.raises(HeadwayError, match="1000000000000 positions"):
        load_checkpoint(tmp_path)


def test_a_config_equals_its_published_form_read_again_and_is_frozen():
    config = TransformerConfig(vocab_size=9, num_heads=4, activation="silu", end_id=3)
    assert MARIAN.read_config(MARIAN.write_config(config)) == config
    defaults = MARIAN.config
    assert MARIAN.read_config({}) == MARIAN.read_config(transformers.MarianConfig().to_dict()) == defaults
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dropout = 0.5


@pytest.mark.parametrize("size", SIZES)
def test_named_sizes_have_the_number_of_parameters_of_transformers(size):
    config = TransformerConfig.named(size, vocab_size=100)
    with torch.device("meta"):
        theirs = transformers.MarianMTModel(transformers.MarianConfig(**MARIAN.write_config(config)))
        backbone = Transformer(config)
        mine = Network(backbone, language_model_head(backbone))
    positions = 2 * config.max_positions * config.hidden_size  # parameters of transformers that are not trained
    bias = theirs.final_logits_bias.numel()
    assert sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in theirs.parameters()) - positions + bias


@pytest.mark.parametrize(("size", "millions"), [("base", 65), ("big", 213)])
def test_base_and_big_have_the_size_of_the_paper(size, millions):
    with torch.device("meta"):
        count = sum(p.numel() for p in Transformer(TransformerConfig.named(size, vocab_size=37000)).parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.04)
    assert TransformerConfig.named(size).dropout == {"base": 0.1, "big": 0.3}[size]


def test_dropout_is_where_the_paper_has_it():
    """On the sums of embeddings and positions, and on the output of each sub-layer before it is added."""
    torch.manual_seed(0)
    config = TransformerConfig.named("tiny", vocab_size=VOCAB, max_positions=LONGEST, dropout=1.0)
    backbone = stir(Transformer(config)).train()
    batch, _ = inputs()
    assert not backbone.embed(batch).any()
    x = torch.zeros(batch.num_tokens, config.hidden_size)
    for block in backbone.blocks:
        for norm in (block.norm1, block.cross_norm, block.norm2):
            x = norm(x)
    torch.testing.assert_close(backbone(batch), x)
    encoded = torch.zeros(batch.source.num_tokens, config.hidden_size)
    for block in backbone.encoder_blocks:
        encoded = block.norm2(block.norm1(encoded))
    torch.testing.assert_close(backbone.encode(batch.source)[: batch.source.num_tokens], encoded)
    assert torch.equal(backbone.eval()(batch), backbone(batch))
    assert not torch.allclose(backbone(batch), x)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-5), ("bf16", 0.02), ("int8", 0.05)])
def test_a_prepared_model_has_the_same_outputs_with_weights_in_memory_or_in_their_file(precision, tolerance, tmp_path):
    reference().save_pretrained(tmp_path)
    batch, _ = inputs()
    plain = load_checkpoint(tmp_path).network
    with torch.inference_mode():
        expected = plain(batch)
        for prepared in (
            prepare_for_inference(plain, precision),
            load_for_inference(load_checkpoint(tmp_path, filled=False), precision, torch.device("cpu")),
        ):
            found = prepared(batch)
            assert float((found - expected).norm() / (expected - expected.mean(0)).norm()) < tolerance
            cache = prepared.backbone.new_cache(sequences(SOURCES, VOCAB), capacity=LONGEST)
            again = prepared.head(prepared.backbone(cache.extend(sequences(TARGETS, VOCAB, seed=1)), cache))
            assert float((again - expected).norm() / (expected - expected.mean(0)).norm()) < tolerance


def test_a_training_step_does_not_wait_for_the_device_and_has_the_gradients_of_the_cpu(tmp_path):
    network = ours(reference(), tmp_path).network
    batch, _ = inputs()
    batch = dataclasses.replace(batch, target_ids=batch.input_ids.roll(-1))
    network(batch).total.backward()
    expected = [parameter.grad for parameter in network.parameters()]
    network.zero_grad()
    with simulated_accelerator():
        network.to(DEVICE)
        moved = batch.to(DEVICE)
        reads.clear()
        network(moved).total.backward()
        assert reads == []
        found = [parameter.grad.cpu() for parameter in network.parameters()]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_activation_checkpointing_changes_no_gradient(tmp_path):
    network = ours(reference(dropout=0.3), tmp_path).network.train()
    batch, _ = inputs()
    found = []
    for enabled in (False, True):
        set_activation_checkpointing(network, enabled)
        network.zero_grad()
        torch.manual_seed(1)
        weighted_mean(network(batch)).backward()
        found.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


FIRST, LAST, TEN = 0, 1, range(2, 12)  # the tokens of the digits


def digits(count: int, seed: int) -> list[list[int]]:
    chosen = random.Random(seed)
    return [chosen.choices(TEN, k=chosen.randint(3, 8)) for _ in range(count)]


def reversal(rows: list[list[int]]) -> PackedBatch:
    targets = [[*reversed(row), LAST] for row in rows]
    source = PackedBatch.pack([[*row, LAST] for row in rows])
    batch = PackedBatch.pack([[FIRST, *target[:-1]] for target in targets], source=source)
    return dataclasses.replace(batch, target_ids=torch.tensor([token for target in targets for token in target]))


@torch.inference_mode()
def most_likely(network: Network, sources: list[list[int]], count: int) -> list[list[int]]:
    cache, tokens = network.backbone.new_cache(sources, capacity=count), [[FIRST]] * len(sources)
    found: list[list[int]] = [[] for _ in sources]
    for _ in range(count):
        tokens = network.head(network.backbone(cache.extend(tokens), cache)).argmax(dim=-1)[:, None].tolist()
        found = [[*row, *token] for row, token in zip(found, tokens, strict=True)]
    return found


def test_a_small_model_learns_to_reverse_digits():
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_layers": 1, "num_encoder_layers": 1, "num_heads": 2, "num_encoder_heads": 2}
    wide = {"intermediate_size": 128, "encoder_intermediate_size": 128, "dropout": 0.0}
    backbone = Transformer(TransformerConfig(vocab_size=12, max_positions=16, **sizes, **wide))
    network = Network(backbone, language_model_head(backbone)).train()
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=300)
    for step in range(300):
        losses = network(reversal(digits(32, seed=step)))
        (losses.total / len(losses)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    unseen = digits(100, seed=-1)
    found = most_likely(network.eval(), [[*row, LAST] for row in unseen], 9)
    right = [row[: row.index(LAST)] == source[::-1] for row, source in zip(found, unseen, strict=True) if LAST in row]
    assert sum(right) > 90
