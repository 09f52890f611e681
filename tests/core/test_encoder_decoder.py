"""Encoder-decoders against transformers' EncoderDecoderModel, built tiny and random: outputs, gradients and texts."""

import json

import pytest
import torch
import transformers
from headway.core.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from headway.core.checkpoints.config_file import read_config
from headway.core.checkpoints.families.registry import family_named, model_of
from headway.core.checkpoints.joining import join_models
from headway.core.checkpoints.weight_conversion import published_tensors
from headway.core.errors import HeadwayError
from headway.core.generation.generation import generate, generate_ids
from headway.core.generation.generation_config import GenerationConfig
from headway.core.models import cross_attention
from headway.core.models.bert import BertConfig
from headway.core.models.encoder_decoder import EncoderDecoderConfig
from headway.core.models.gpt2 import GPT2Config
from headway.core.models.heads import set_activation_checkpointing
from headway.core.models.layers import set_dropout
from headway.core.models.packing import PackedBatch
from headway.core.tokenizers.tokenizer import Tokenizer

SIZES = {
    "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20,
    "max_position_embeddings": 34, "vocab_size": 31,
}  # fmt: skip
SMALLER = {**SIZES, "hidden_size": 8, "num_hidden_layers": 3, "vocab_size": 29}
GPT2_SIZES = {"n_embd": 12, "n_layer": 3, "n_head": 2, "n_positions": 34, "vocab_size": 29, "bos_token_id": 1}
DISTILBERT_SIZES = {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12, "max_position_embeddings": 34}
# The configurations of encoder and decoder: equal and different hidden sizes, relatives of BERT on both sides.
PAIRS = {
    "bert+bert": lambda: (transformers.BertConfig(**SIZES), transformers.BertConfig(**SMALLER)),
    "bert+bert-untied": lambda: (
        transformers.BertConfig(**SIZES),
        transformers.BertConfig(**SIZES, tie_word_embeddings=False),
    ),
    "bert+gpt2": lambda: (transformers.BertConfig(**SIZES), transformers.GPT2Config(**GPT2_SIZES, eos_token_id=1)),
    "bert+gpt2-untied": lambda: (
        transformers.BertConfig(**SMALLER),
        transformers.GPT2Config(**GPT2_SIZES, eos_token_id=1, tie_word_embeddings=False),
    ),
    "roberta+roberta": lambda: (transformers.RobertaConfig(**SIZES), transformers.RobertaConfig(**SMALLER)),
    "distilbert+camembert": lambda: (
        transformers.DistilBertConfig(vocab_size=31, **DISTILBERT_SIZES),
        transformers.CamembertConfig(**SMALLER),
    ),
    "albert+electra": lambda: (transformers.AlbertConfig(**SIZES), transformers.ElectraConfig(**SMALLER)),
}
UNTIED_PAIRS = ["bert+bert-untied", "bert+gpt2-untied"]  # they do not tend to repeat a token
MAIN_PAIRS = ["bert+bert", "bert+gpt2"]
START, END = 3, 28
SOURCES = [[5, 6, 7, 8], [9, 4], [10, 11, 12, 13, 14, 15, 4]]
TARGETS = [[START, 20], [START, 21, 22, 23, 24], [START, 25, 26]]


def published(pair, std=0.3):
    """A model of transformers whose weights are all random; with a larger `std` the texts that it writes vary more."""
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(
        *PAIRS[pair](), decoder_start_token_id=START, eos_token_id=END, pad_token_id=0
    )
    torch.manual_seed(7)
    model = transformers.EncoderDecoderModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=std)
            if std > 1 and ("position" in name or "wpe" in name):
                parameter.mul_(3)
            if std > 1 and parameter.dim() == 1:
                parameter.fill_(1 if "orm.weight" in name or ("ln_" in name and name.endswith("weight")) else 0)
    if not config.decoder.tie_word_embeddings and "cls" in dict(model.decoder.named_children()):
        model.decoder.cls.predictions.bias = model.decoder.cls.predictions.decoder.bias  # the used one
    return model.eval()


@pytest.fixture
def theirs(pair, std):
    return published(pair, std)


@pytest.fixture
def std():
    return 0.3


@pytest.fixture
def ours(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "theirs")
    return load_checkpoint(tmp_path / "theirs").network


def batch_of(sources, targets):
    return PackedBatch.pack(targets, source=PackedBatch.pack(sources))


def their_logits(model, source, target):
    return model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([target])).logits[0]


def assert_near(actual, expected):
    assert (actual - expected).abs().max() <= 1e-5 * expected.std()


@pytest.mark.parametrize("pair", PAIRS)
def test_the_logits_of_a_packed_batch_are_those_of_transformers(ours, theirs):
    logits = ours(batch_of(SOURCES, TARGETS)).split([len(target) for target in TARGETS])
    for source, target, found in zip(SOURCES, TARGETS, logits, strict=True):
        expected = their_logits(theirs, source, target)
        assert_near(found, expected)


@pytest.mark.parametrize("pair", MAIN_PAIRS)
@pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "computed-again"])
def test_all_gradients_are_those_of_transformers(checkpointed, ours, theirs):
    for source, target in zip(SOURCES, TARGETS, strict=True):
        their_logits(theirs, source, target).square().sum().backward()
    ours.train()
    set_dropout(ours, 0.0)
    set_activation_checkpointing(ours, checkpointed)
    ours(batch_of(SOURCES, TARGETS)).square().sum().backward()
    for model in (ours, theirs):  # gradients are compared as weights, by their published names
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    found = published_tensors(ours, "EncoderDecoderModel", None)
    expected = theirs.state_dict()
    assert found.keys() <= expected.keys()
    assert sum(value.any() for value in found.values()) > 60
    for name, value in found.items():
        spread = expected[name].std() if value.numel() > 1 else expected[name].abs()
        assert (value - expected[name]).abs().max() <= 1e-5 * max(float(spread), 1e-2), name


@pytest.mark.parametrize("pair", PAIRS)
def test_a_folder_is_saved_again_bit_for_bit(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "theirs")
    checkpoint = load_checkpoint(tmp_path / "theirs")
    assert checkpoint.architecture == "EncoderDecoderModel"
    assert checkpoint.unused == ()
    (tmp_path / "ours").mkdir()
    save_checkpoint(tmp_path / "ours", checkpoint.network, config=checkpoint.config)
    again, report = transformers.EncoderDecoderModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    expected = theirs.state_dict()
    assert again.state_dict().keys() == expected.keys()
    for name, value in again.state_dict().items():
        assert torch.equal(value, expected[name]), name
    source, target = SOURCES[0], TARGETS[1]
    assert torch.equal(their_logits(again, source, target), their_logits(theirs, source, target))
    for name in ("decoder_start_token_id", "pad_token_id", "eos_token_id"):
        assert getattr(again.generation_config, name) == getattr(theirs.generation_config, name)
    assert read_config(tmp_path / "ours")[1] == checkpoint.network.config


VARIED = pytest.mark.parametrize("std", [2.0])
OPTIONS = {
    "greedy": {},
    "penalized": {"repetition_penalty": 1.3},
    "beams": {"num_beams": 3},
    "several-beams": {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 0.4},
}


@VARIED
@pytest.mark.parametrize("pair", UNTIED_PAIRS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_generated_tokens_are_those_of_transformers(options, ours, theirs):
    found = generate_ids(ours, SOURCES, GenerationConfig(max_new_tokens=16, **options), end_of_text_id=END)
    different = set()
    for source, texts in zip(SOURCES, found, strict=True):
        expected = theirs.generate(torch.tensor([source]), max_new_tokens=16, do_sample=False, **options)
        for text, row in zip(texts, expected.tolist(), strict=True):
            ids = list(text.token_ids)
            different.update(ids)
            assert ids == row[1 : 1 + len(ids)]
            assert len(ids) == 16 or ids[-1] == END
    assert len(different) > 3


@VARIED
@pytest.mark.parametrize("pair", UNTIED_PAIRS)
def test_a_sample_depends_on_its_source_seed_and_number_only(ours):
    config = GenerationConfig(max_new_tokens=8, temperature=1.0, num_return_sequences=3)
    together = generate_ids(ours, SOURCES, config, end_of_text_id=END)
    for source, texts in zip(SOURCES, together, strict=True):
        (alone,) = generate_ids(ours, [source], config, end_of_text_id=END)
        assert [text.token_ids for text in alone] == [text.token_ids for text in texts]
    assert len({text.token_ids for texts in together for text in texts}) > 4


@pytest.mark.parametrize("pair", MAIN_PAIRS)
@torch.no_grad()
def test_cached_steps_equal_one_pass_after_rows_are_dropped_copied_and_forked(ours):
    model = ours.backbone
    cache = model.new_cache(SOURCES, capacity=8, copies=2)
    model(cache.extend([[START]] * 3), cache)
    cache.reorder([2, 0, 2])
    sources, targets = [SOURCES[2], SOURCES[0], SOURCES[2]], [[START, 20, 21], [START, 22, 23], [START, 24, 25]]
    found = model(cache.extend([target[1:] for target in targets]), cache)
    expected = model(batch_of(sources, targets)).view(3, 3, -1)
    assert_near(found.view(3, 2, -1), expected[:, 1:])
    forked = cache.fork([1, 0, 2], capacity=4)
    found = model(forked.extend([[5], [6], [7]]), forked)
    longer = [[*targets[0], 5], [*targets[2], 6], [*targets[2], 7]]
    assert_near(found, model(batch_of([SOURCES[2]] * 3, longer)).view(3, 4, -1)[:, -1])


def changed(folder, edit):
    content = json.loads((folder / "config.json").read_text())
    edit(content)
    (folder / "config.json").write_text(json.dumps(content))


REFUSED = {
    "an encoder of another kind": (lambda c: c["encoder"].update(model_type="t5"), "encoder says model_type 't5'"),
    "a decoder as encoder": (lambda c: c.update(encoder=c["decoder"]), "the encoder is a GPT-2; an encoder is a BERT"),
    "a decoder of another kind": (
        lambda c: c["decoder"].update(model_type="llama"),
        "decoder says model_type 'llama'",
    ),
    "a decoder without cross-attention": (
        lambda c: c.update(decoder=transformers.DistilBertConfig().to_dict()),
        "the decoder is a DistilBERT, which has no cross-attention",
    ),
    "a missing part": (lambda c: c.pop("decoder"), "needs the fields encoder and decoder"),
    "shared parts": (lambda c: c.update(tie_encoder_decoder=True), "tie_encoder_decoder=true"),
    "an unknown token": (
        lambda c: c.update(eos_token_id=29),
        "eos_token_id is 29, but the decoder has the tokens 0 to",
    ),
    "several tokens": (lambda c: c.update(eos_token_id=[1, 2]), r"eos_token_id is \[1, 2\]"),
}


@pytest.mark.parametrize(("edit", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_supported_is_refused_by_name(edit, message, tmp_path):
    published("bert+gpt2").save_pretrained(tmp_path)
    changed(tmp_path, edit)
    with pytest.raises(HeadwayError, match=message):
        read_config(tmp_path)


@pytest.mark.parametrize("pair", ["bert+gpt2"])
def test_a_model_that_does_not_say_where_texts_start_is_refused(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    changed(tmp_path, lambda content: content.pop("decoder_start_token_id"))
    with pytest.raises(HeadwayError, match="decoder_start_token_id"):
        generate_ids(load_checkpoint(tmp_path).network, SOURCES)


def test_a_decoder_without_cross_attention_is_an_error():
    with pytest.raises(ValueError, match="cross-attention"):
        EncoderDecoderConfig(BertConfig(), GPT2Config())
    with pytest.raises(ValueError, match="causal"):
        EncoderDecoderConfig(BertConfig(), BertConfig(cross_attention=True))


@pytest.mark.parametrize("decoder", ["mini-gpt2", "mini-bert"])
def test_two_published_models_are_joined_with_their_weights_and_tokenizers(decoder, tmp_path):
    join_models("mini-bert", decoder, tmp_path)
    joined, tokenizer = load_checkpoint(tmp_path), Tokenizer.load(tmp_path)
    parts = load_checkpoint("mini-bert"), load_checkpoint(decoder)
    backbone = joined.network.backbone
    for name, value in parts[0].network.backbone.state_dict().items():
        assert torch.equal(backbone.encoder.state_dict()[name], value)
    for name, value in parts[1].network.backbone.state_dict().items():
        assert torch.equal(backbone.decoder.state_dict()[name], value)
    for name, value in parts[1].network.head.state_dict().items():
        assert torch.equal(joined.network.head.state_dict()[name.removeprefix("masked_lm.")], value)
    new = backbone.decoder.blocks[0].cross_attn
    assert new.q.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not new.kv.bias.any()

    model, report = transformers.EncoderDecoderModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    text = "A text, as it is."
    source = transformers.AutoTokenizer.from_pretrained(tmp_path)(text).input_ids
    assert source == tokenizer.join(tokenizer.encode(text).ids)[0]
    folder = tmp_path / "decoder_tokenizer" if decoder == "mini-gpt2" else tmp_path
    (found,) = generate(joined.network, tokenizer, [text], GenerationConfig(max_new_tokens=8))
    expected = model.generate(torch.tensor([source]), max_new_tokens=8, do_sample=False)[0]
    assert list(found[0].token_ids) == expected.tolist()[1:]
    words = transformers.AutoTokenizer.from_pretrained(folder).decode(expected, skip_special_tokens=True)
    assert found[0].text.strip() == words.strip()


def test_groups_of_pairs_give_the_attention_of_single_pairs_with_equal_gradients():
    torch.manual_seed(0)
    lengths = [(3, 9), (1, 2), (17, 4), (3, 8), (40, 70), (16, 5), (2, 9)]
    batch = batch_of([[1] * source for _, source in lengths], [[1] * target for target, _ in lengths])
    assert 1 < len(batch.cross_layout.groups) < len(lengths)
    outputs = []
    for kernel in (cross_attention._across_by_pairs, cross_attention._across_by_groups):
        torch.manual_seed(1)
        q, kv = (torch.randn(n, *shape, requires_grad=True) for n, shape in [(82, (2, 4)), (107, (2, 2, 4))])
        out = kernel(q, kv, batch, dropout=0.0, scale=0.5)
        out.square().sum().backward()
        outputs.append((out.detach(), q.grad, kv.grad))
    for found, expected in zip(*reversed(outputs), strict=True):
        assert_near(found, expected)


def test_a_model_type_has_a_family_whether_or_not_it_is_joined_of_two():
    assert family_named("encoder-decoder").with_article == "an encoder-decoder"
    assert model_of(family_named("encoder-decoder").config) == "encoder-decoder"
    assert family_named("bert").title == "BERT"
