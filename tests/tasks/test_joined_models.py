"""Two published models as an encoder-decoder that is trained from text to text: A+B."""

import json
import shutil
from contextlib import chdir

import pytest
import torch
import transformers
from headway.core.checkpoints.checkpoint import load_checkpoint
from headway.core.checkpoints.joining import join_models, parts_of
from headway.core.errors import HeadwayError
from headway.tasks import TextToText, load, read_table
from headway.tasks.base.check import check_data
from headway.tasks.base.inference import Encoder
from headway.tasks.base.model_folder import name_base

WORDS = ["cat", "dog", "fox", "mat", "card", "program", "parcel", "money"]
ROWS = [{"input": f"the quick {word}", "output": f"send the {word} back"} for word in WORDS]
QUICK = {"eval_fraction": 0, "precision": "fp32", "device": "cpu", "progress": False}


@pytest.fixture(params=["gpt2", "bert"])
def joined(request, bert_folder, gpt2_folder, tmp_path):
    decoder = {"gpt2": gpt2_folder, "bert": bert_folder}[request.param]
    folder = tmp_path / "joined"
    folder.mkdir()
    join_models(bert_folder, decoder, folder)
    return folder, decoder


def test_both_parts_keep_their_weights_and_cross_attention_is_new(joined, bert_folder):
    folder, decoder = joined
    network = load_checkpoint(folder).network
    for part, source in ((network.backbone.encoder, bert_folder), (network.backbone.decoder, decoder)):
        for name, expected in load_checkpoint(source, head=None).network.backbone.state_dict().items():
            assert torch.equal(part.state_dict()[name], expected), name
    added = [name for name in network.backbone.decoder.state_dict() if "cross_" in name]
    assert added
    theirs = transformers.EncoderDecoderModel.from_pretrained(folder)
    assert theirs.config.decoder_start_token_id == network.config.start_id
    assert (folder / "decoder_tokenizer").exists() == (decoder != bert_folder)


@pytest.mark.filterwarnings("ignore:Version v4.12.0 introduces:FutureWarning")
def test_the_loss_is_that_of_transformers(joined):
    folder, _ = joined
    model = TextToText().on(folder)
    table = read_table(ROWS)
    examples = model.task.examples(table, model.task.columns(table, {}, need_label=True))
    features = model.task.encode(examples, model.tokenizer, model.limit)
    loss, number = model.task.loss(model.network.eval()(model.task.pack(features)), {})
    theirs = transformers.EncoderDecoderModel.from_pretrained(folder).eval()
    sources, labels = [one.source_ids for one in features], [one.target.ids for one in features]
    longest = max(map(len, sources))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in sources])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in sources])
    longest = max(map(len, labels))
    given = torch.tensor([row + [-100] * (longest - len(row)) for row in labels])
    # Its own mask of the targets would hide the start token, which is GPT-2's only one for filling.
    every = torch.ones_like(given)
    expected = theirs(ids, attention_mask=mask, decoder_attention_mask=every, labels=given).loss
    assert (loss / number).item() == pytest.approx(expected.item(), abs=1e-5)


def test_it_is_trained_saved_and_gives_the_text_of_transformers(joined, tmp_path, monkeypatch, capsys):
    folder, _ = joined
    model = TextToText(max_new_tokens=12).on(folder)
    done = model.fit(ROWS, ROWS, output=tmp_path / "model", max_steps=3, learning_rate=5e-3, **QUICK)
    assert next(iter(done.metrics)) == "loss"
    opened = load(tmp_path / "model")
    theirs = transformers.EncoderDecoderModel.from_pretrained(tmp_path / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    written = tmp_path / "model" / "decoder_tokenizer"
    decoder = transformers.AutoTokenizer.from_pretrained(written) if written.exists() else tokenizer
    for beams in (1, 3):
        opened.set_options(num_beams=beams)
        for text in ["the quick cat", "where is my card", "please"]:
            inputs = tokenizer(f"{text}\n", return_tensors="pt")
            ids = theirs.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], num_beams=beams)[0]
            found = opened.predict(text)
            assert found.text == decoder.decode(ids, skip_special_tokens=True).strip()
            assert found.stopped == (ids[-1].item() == theirs.generation_config.eos_token_id)
    *_, block = (tmp_path / "model" / "README.md").read_text(encoding="utf-8").split("```python\n")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(compile(block.partition("```")[0], "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() == load(tmp_path / "model").predict("A text.").text


def test_a_long_input_is_cut_to_what_the_encoder_reads_and_counted(joined):
    folder, _ = joined
    model = TextToText(max_new_tokens=4).on(folder)
    model.fit(ROWS, max_steps=1, **QUICK)
    found = model.predict("the cat sat on the mat " * 30)
    assert found.truncated
    assert found.length.num_read == 49  # the encoder's 48 and the start token of the decoder
    assert not model.predict("the cat").truncated


def test_two_names_with_a_plus_sign_are_joined(bert_folder, gpt2_folder, tmp_path):
    name = f"{bert_folder}+{gpt2_folder}"
    TextToText().on(name).fit(ROWS, output=tmp_path / "model", max_steps=1, **QUICK)
    info = json.loads((tmp_path / "model" / "headway.json").read_text())
    assert (info["base"], info["base_from"]) == (f"{bert_folder.name}+{gpt2_folder.name}", "two models")
    assert check_data(TextToText(), ROWS, model=name).lengths.unit == "tokens"


def test_models_that_cannot_be_joined_are_refused_by_name(bert_folder, gpt2_folder, distilbert_folder):
    with pytest.raises(HeadwayError, match="the encoder is a GPT-2"):
        TextToText().on(f"{gpt2_folder}+{bert_folder}")
    with pytest.raises(HeadwayError, match="the decoder is a DistilBERT"):
        TextToText().on(f"{bert_folder}+{distilbert_folder}")
    with pytest.raises(HeadwayError, match="is a BERT, and text-to-text needs a GPT-2 or"):
        TextToText().on(bert_folder)


def test_names_of_folders_with_plus_signs_are_divided_where_both_parts_are_models(bert_folder, gpt2_folder, tmp_path):
    encoder, decoder = tmp_path / "my+bert", tmp_path / "gpt2+mine"
    shutil.copytree(bert_folder, encoder)
    shutil.copytree(gpt2_folder, decoder)
    for name, expected in {
        f"{encoder}+{decoder}": (encoder, decoder),
        f"{encoder}+gpt2": (encoder, "gpt2"),
        f"bert-base-uncased+{decoder}": ("bert-base-uncased", decoder),
        encoder: None,
        "gpt2": None,
        "mini-bert+mini-gpt2": ("mini-bert", "mini-gpt2"),
    }.items():
        assert parts_of(name) == (expected and tuple(map(str, expected)))
    assert name_base(f"{encoder}+{decoder}")["base"] == "my+bert+gpt2+mine"
    assert TextToText().on(f"{encoder}+{decoder}").config.family == "encoder-decoder"
    with pytest.raises(HeadwayError, match="several plus signs, and none of them divides it"):
        TextToText().on(f"{tmp_path}/no+such+{decoder}/thing")
    (tmp_path / "my").mkdir()
    shutil.copytree(gpt2_folder, tmp_path / "bert+gpt2")
    with chdir(tmp_path), pytest.raises(HeadwayError, match=r"my and bert.gpt2 or as my.bert and gpt2"):
        parts_of("my+bert+gpt2")


@pytest.mark.parametrize("read", [load, TextToText().on, Encoder.load], ids=["load", "train", "check"])
def test_two_vocabularies_with_one_tokenizer_are_refused(read, tmp_path):
    join_models("mini-bert", "mini-gpt2", tmp_path)
    assert read(tmp_path).tokenizer.decoder is not None
    shutil.rmtree(tmp_path / "decoder_tokenizer")
    with pytest.raises(HeadwayError, match=r"different vocabularies \(.*, but the folder has one tokenizer"):
        read(tmp_path)


def test_parts_of_different_sizes_with_one_tokenizer_are_refused(bert_folder, tmp_path):
    join_models(bert_folder, "mini-gpt2", tmp_path)
    shutil.rmtree(tmp_path / "decoder_tokenizer")
    with pytest.raises(HeadwayError, match=r"the encoder has [0-9,]+ tokens and the decoder [0-9,]+"):
        Encoder.load(tmp_path)


def test_joining_two_models_draws_no_random_numbers_of_the_caller(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    join_models("mini-bert", "mini-gpt2", tmp_path)
    assert torch.equal(torch.rand(3), expected)
