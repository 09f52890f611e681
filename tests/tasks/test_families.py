"""Everything that works on BERT works on its relatives, with the numbers of transformers, or is refused by name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from headway.core.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from headway.core.checkpoints.families.registry import FAMILIES, architecture_of
from headway.core.errors import HeadwayError
from headway.core.inference.inference import MappedEmbedding, load_for_inference, prepare_for_inference
from headway.core.models.heads import (
    ChoiceHead,
    Network,
    SequenceHead,
    SpanHead,
    TokenHead,
    language_model_head,
    new_backbone,
    reads_segments,
)
from headway.core.models.packing import PackedBatch
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import Embedder, FillMask, TextClassification, load
from headway.tasks.embedding.pooling import Pooling
from headway.tasks.embedding.published_pooling import PublishedPooling
from headway.tasks.embedding.word_vectors import WordTable
from headway.tasks.export import export
from headway.tasks.inspection import (
    apply_logit_lens,
    attention_maps,
    count_parameters,
    explainable_outputs,
    integrated_gradients,
    leave_one_out,
    open_model,
    probe,
)
from headway.tasks.inspection.probing import layer_states
from headway.tasks.language_modeling.distillation import Teacher, find_words
from headway.tasks.language_modeling.loading import load_language_model
from torch import Tensor, nn

SMALL = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "max_positions": 48}
TOKENIZERS = {
    "roberta": "roberta_tokenizer_folder",
    "xlm-roberta": "unigram_tokenizer_folder",
    "distilbert": "wordpiece_folder",
    "electra": "wordpiece_folder",
    "ernie": "wordpiece_folder",
    "albert": "unigram_tokenizer_folder",
}
CHANGES: dict[str, dict[str, int]] = {
    "roberta": {"num_segments": 1},
    "xlm-roberta": {"num_segments": 1},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "ernie": {"num_task_types": 3},
}
TEXT = "the quick fox sat on the mat, naïve café owner 🙂"
PAIR = "Please send the money back"
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
ROWS = [
    {"text": f"{start} {thing}", "label": "animal" if thing in ("cat", "dog", "fox") else "thing"}
    for start in ["the", "my", "where is the", "send the", "please send my", "the quick brown", "a lazy", "your"]
    for thing in ["cat", "dog", "parcel", "money", "card", "mat", "program", "fox"]
]

Make = Callable[[str], Path]


@pytest.fixture(scope="module", params=TOKENIZERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def make(kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A folder with a tiny model and a head, whose weights are far from their initialization."""
    made: dict[str, Path] = {}

    def make_one(head: str) -> Path:
        if head in made:
            return made[head]
        tokenizer = Tokenizer.load(request.getfixturevalue(TOKENIZERS[kind]))
        torch.manual_seed(0)
        sizes = {**SMALL, **CHANGES.get(kind, {})}
        backbone = new_backbone(replace(FAMILIES[kind].config, vocab_size=tokenizer.vocab_size, **sizes))
        heads: dict[str, Callable[[], nn.Module | None]] = {
            "none": lambda: None,
            "vocabulary": lambda: language_model_head(backbone),
            "classifier": lambda: SequenceHead(backbone.config, 3),
            "tagger": lambda: TokenHead(backbone.config, 3),
            "answerer": lambda: SpanHead(backbone.config),
            "choice": lambda: ChoiceHead(backbone.config),
        }
        network = Network(backbone, heads[head]())
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        folder = tmp_path_factory.mktemp(f"{kind}-{head}")
        labels = {"classifier": ("post", "money", "other"), "tagger": ("O", "B-PER", "I-PER")}
        save_checkpoint(folder, network, labels=labels.get(head))
        tokenizer.save(folder, segments=reads_segments(backbone.config))
        made[head] = folder
        return folder

    return make_one


def reference(folder: Path, name: str = "AutoModel") -> nn.Module:
    return getattr(transformers, name).from_pretrained(folder, attn_implementation="eager").eval()


def inputs_of(folder: Path, *texts: str) -> dict[str, Tensor]:
    """What plain transformers gives its model for a text or a pair."""
    return dict(transformers.AutoTokenizer.from_pretrained(folder)(*texts, return_tensors="pt"))


# Predictions.


@pytest.mark.parametrize("mask", ["[MASK]", "<mask>"])
def test_masks_are_filled_as_by_transformers(make: Make, mask: str):
    folder = make("vocabulary")
    pipeline = transformers.pipeline("fill-mask", str(folder), top_k=5)
    text = "the cat {} on the mat"
    expected = pipeline(text.format(pipeline.tokenizer.mask_token))
    (found,) = load(folder).predict(text.format(mask)).masks
    assert [one.word.removeprefix("##") for one in found] == [
        one["token_str"].strip().removeprefix("##") for one in expected
    ]
    assert [one.score for one in found] == pytest.approx([one["score"] for one in expected], abs=1e-4)


def test_pairs_are_classified_as_by_transformers(make: Make):
    folder = make("classifier")
    found = load(folder).predict((TEXT, PAIR)).scores
    with torch.no_grad():
        logits = reference(folder, "AutoModelForSequenceClassification")(**inputs_of(folder, TEXT, PAIR)).logits
    assert list(found.values()) == pytest.approx(logits[0].softmax(-1).tolist(), abs=1e-4)


def test_a_classifier_on_frozen_features_is_trained(make: Make, tmp_path: Path):
    model = TextClassification(frozen=True).on(make("none"))
    model.fit(ROWS, output=tmp_path / "model", eval_fraction=0, device="cpu")
    assert model.evaluate(ROWS).metrics["accuracy"] > 0.85
    texts = [row["text"] for row in ROWS[:5]]
    assert load(tmp_path / "model").predict(texts) == model.predict(texts)
    # Nothing of the features is lost in the pooler, whatever its activation.
    backbone, head = model.network.backbone, model.network.head
    batch = PackedBatch.pack([model.tokenizer.join(ids)[0] for ids in model.tokenizer.encode_ids(texts)])
    with torch.no_grad():
        first = backbone(batch)[batch.first]
        pooled = head.pooler(backbone(batch), batch)
    for component in range(first.shape[1]):
        assert torch.corrcoef(torch.stack([first[:, component], pooled[:, component]]))[0, 1] > 0.99


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_packed_weights_give_the_outputs_of_the_model(make: Make, precision: str):
    folder = make("classifier")
    plain = load_checkpoint(folder).network
    ids = [[5, 6, 7, 8, 9], [10], list(range(5, 35))]
    segments = [[0, 0, 0, 1, 1], [0], [0] * 20 + [1] * 10]
    batch = PackedBatch.pack(ids, segments)
    mapped = load_for_inference(load_checkpoint(folder, filled=False), precision, torch.device("cpu"))
    assert isinstance(mapped.backbone.token_embedding, MappedEmbedding)
    with torch.inference_mode():
        expected = plain(batch)
        for network in (prepare_for_inference(plain, precision), mapped):
            distance = (network(batch).float() - expected).norm() / (expected - expected.mean(0)).norm()
            assert distance < 0.1


# Vectors and words.


def test_vectors_are_those_of_transformers(make: Make):
    folder = make("none")
    with torch.no_grad():
        hidden = reference(folder)(**inputs_of(folder, TEXT)).last_hidden_state[0]
    found = Embedder(folder, pooling="mean").embed([TEXT, PAIR])
    np.testing.assert_allclose(found[0], hidden.mean(0), rtol=1e-4, atol=1e-4)


def test_a_word_has_its_vectors(make: Make):
    embedder = Embedder(make("none"))
    assert [word.text for word in embedder.embed_words(PAIR).words] == PAIR.split()
    table = WordTable(embedder)
    assert {"cat", "the"} <= set(table.words)
    assert not any(word.startswith(("##", "[CLS", "<s", "\N{LOWER ONE EIGHTH BLOCK}", " ")) for word in table.words)
    assert len(table.nearest("cat", top=3)) == 3


def test_a_sentence_model_with_a_unigram_vocabulary_is_a_bert(unigram_tokenizer_folder: Path, tmp_path: Path):
    """The layout of the multilingual sentence models: a BERT whose tokenizer is named BertTokenizer and is Unigram."""
    tokenizer = Tokenizer.load(unigram_tokenizer_folder)
    torch.manual_seed(0)
    config = replace(FAMILIES["bert"].config, vocab_size=tokenizer.vocab_size, **SMALL)
    save_checkpoint(tmp_path, Network(new_backbone(config)))
    tokenizer.save(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    named = {**settings, "tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named))
    PublishedPooling(Pooling(("mean",)), max_length=32).write(tmp_path, config.hidden_size)
    embedder = Embedder(tmp_path)
    ids = embedder.tokenizer.join(embedder.tokenizer.encode("Schöner schöner").ids)[0]
    assert embedder.tokenizer.tokens(ids)[-4:-1] == ["er", "\N{LOWER ONE EIGHTH BLOCK}schön", "er"]
    with torch.no_grad():
        expected = reference(tmp_path)(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(embedder.embed("Schöner schöner"), expected, rtol=1e-4, atol=1e-5)


# Inspection and probes.


@pytest.mark.parametrize("head", ["none", "vocabulary", "classifier", "answerer"])
def test_tokens_and_words_of_a_pair_have_their_places(make: Make, head: str):
    opened = open_model(make(head))
    encoded = opened.encode(TEXT, PAIR)
    for word in encoded.words:
        assert word.text == (TEXT, PAIR)[word.part][word.start : word.end]
    shown = ["".join(word.text for word in encoded.words if word.part == part) for part in (0, 1)]
    assert shown == ["".join(text.split()) for text in (TEXT, PAIR)]
    special = len(encoded.tokens) - sum(token.start is not None for token in encoded.tokens)
    assert special == opened.tokenizer.num_special(pair=True)


def test_attention_and_the_lens_are_those_of_transformers(make: Make):
    folder = make("vocabulary")
    opened = open_model(folder)
    encoded = opened.encode(TEXT, PAIR)
    ids = torch.tensor([encoded.input_ids])
    given = (
        {"token_type_ids": torch.tensor([encoded.features.segment_ids])}
        if opened.tokenizer.framing.second_segment
        else {}
    )
    if not reads_segments(opened.network.config):
        given = {}
    with torch.no_grad():
        outputs = reference(folder, "AutoModelForMaskedLM")(input_ids=ids, output_attentions=True, **given)
    weights = attention_maps(opened, encoded).weights
    torch.testing.assert_close(weights, torch.stack([layer[0] for layer in outputs.attentions]), **CLOSE)
    last = apply_logit_lens(opened, encoded, top=1).layers[-1]
    best = outputs.logits[0].softmax(-1).max(-1)
    assert [one[0].token_id for one in last.candidates] == best.indices.tolist()
    assert [one[0].probability for one in last.candidates] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_attributions_sum_to_the_change_of_the_output(make: Make):
    opened = open_model(make("classifier"))
    encoded = opened.encode(TEXT, PAIR)
    output = explainable_outputs(opened, encoded)[0]
    found = integrated_gradients(opened, encoded, output)
    assert abs(found.gap) < 0.02 * max(1, abs(found.value - found.baseline))
    assert sum(found.by_word) == pytest.approx(sum(found.by_token), abs=1e-4)
    assert all(change is not None for change in leave_one_out(opened, encoded, output).by_word)


def test_parameters_are_counted_as_by_transformers(make: Make):
    folder = make("vocabulary")
    expected = reference(folder, "AutoModelForMaskedLM").num_parameters()
    assert count_parameters(load_checkpoint(folder).network).total == expected


def test_layers_are_probed(make: Make):
    folder = make("none")
    network, ids = load_checkpoint(folder, head=None).network, [[5, 6, 7, 8], [9, 10, 11]]
    theirs = reference(folder)
    with torch.no_grad():
        states = PackedBatch.pack(ids).split(layer_states(network.backbone, PackedBatch.pack(ids)))
        for found, one in zip(states, ids, strict=True):
            expected = theirs(torch.tensor([one]), output_hidden_states=True).hidden_states
            torch.testing.assert_close(found, torch.stack([x[0] for x in expected], 1), **CLOSE)
    *_, result = probe(folder, ROWS, seeds=1)
    assert [one.layer for one in result.layers] == [0, 1, 2]
    assert result.mix.mean > result.majority.mean


# Distillation.


def test_the_words_of_a_sequence_are_found(make: Make):
    tokenizer = Tokenizer.load(make("none"))
    words = ["the", "parcel", "has", "arrived", "in", "London"]
    ids = tokenizer.join(tokenizer.encode(" ".join(words)).ids)[0]
    found = find_words(ids, tokenizer)
    assert [word.lower() for word in found.words] == [word.lower() for word in words]
    firsts = tokenizer.tokens([ids[position] for position in found.positions])
    assert all(word[0].lower() in token.lower() for word, token in zip(words, firsts, strict=True))


def test_a_student_of_one_family_learns_from_a_teacher_of_another(make: Make, bert_folder: Path, tmp_path: Path):
    teacher = make("none")
    texts = tmp_path / "texts.txt"
    texts.write_text("the cat sat on the mat\nthe quick fox sat\n" * 20)
    trained = FillMask(teacher=str(teacher)).on(bert_folder)
    trained.fit(texts, output=tmp_path / "model", max_steps=2, device="cpu")
    assert load(tmp_path / "model").predict("the [MASK] sat").masks
    opened, student = Teacher(teacher), Tokenizer.load(bert_folder)
    assert opened.token_embedding(student, 8).shape == (student.vocab_size, 8)
    pieces = opened.tokenizer.encode_word("cat")
    largest = opened.model.token_embedding.weight.shape[1]
    rows = opened.token_embedding(student, largest)
    mean = opened.model.token_embedding.weight[pieces].mean(0)
    cat, mask = student.id_of("cat"), student.mask_id
    # A rotation of all rows keeps the distances.
    other = opened.model.token_embedding.weight[opened.tokenizer.mask_id]
    assert float((rows[cat] - rows[mask]).norm()) == pytest.approx(float((mean - other).norm()), rel=1e-3)


def test_a_student_of_every_family_learns(make: Make, bert_folder: Path, tmp_path: Path):
    texts = tmp_path / "texts.txt"
    texts.write_text("the cat sat on the mat\nthe quick fox sat\n" * 20)
    trained = FillMask(teacher=str(bert_folder)).on(make("none"))
    trained.fit(texts, output=tmp_path / "model", max_steps=2, device="cpu")
    assert load(tmp_path / "model").predict("the [MASK] sat").masks


# Files for other programs.


@pytest.mark.slow
@pytest.mark.parametrize("head", ["none", "vocabulary", "classifier", "tagger", "answerer", "choice"])
def test_an_exported_graph_has_the_outputs_of_transformers(make: Make, head: str, tmp_path: Path):
    import onnxruntime

    folder = make(head)
    exported = export(folder, tmp_path / "graph")
    network = load_checkpoint(folder).network
    expected_inputs = ["input_ids", "attention_mask", "token_type_ids"][: 3 if reads_segments(network.config) else 2]
    assert list(exported.file.inputs) == expected_inputs
    session = onnxruntime.InferenceSession(tmp_path / "graph/onnx/model.onnx", providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == expected_inputs
    published = architecture_of(network.config, network.head)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "graph")
    given = tokenizer([TEXT, PAIR], padding=True, return_tensors="np")
    found = dict(zip(exported.file.outputs, session.run(list(exported.file.outputs), dict(given)), strict=True))
    with torch.no_grad():
        for row, text in enumerate([TEXT, PAIR]):
            one = {name: value[None] if head == "choice" else value for name, value in inputs_of(folder, text).items()}
            theirs = reference(folder, published)(**one)
            for name, value in found.items():
                expected = theirs[name][0].numpy()
                part = value[row, : len(expected)] if value.ndim > 1 else value[row]
                np.testing.assert_allclose(part, expected, rtol=1e-3, atol=1e-3, err_msg=name)
    assert ("token_type_ids" in (tmp_path / "graph/README.md").read_text()) == reads_segments(network.config)


# Shared layers.


@pytest.mark.parametrize("kind", ["albert"], indirect=True)
def test_shared_layers_stay_shared_in_training_and_are_packed_and_stored_once(make: Make, tmp_path: Path):
    from safetensors.torch import load_file

    model = TextClassification().on(make("none"))
    before = load_checkpoint(make("none")).network.backbone.blocks[0].mlp.up.weight.clone()
    model.fit(ROWS, output=tmp_path / "model", eval_fraction=0, max_steps=3, device="cpu")
    network = load_checkpoint(tmp_path / "model").network
    first, second = (network.backbone.blocks[i].mlp.up.weight for i in (0, 1))
    assert first is second
    assert not torch.equal(first, before)
    stored = load_file(tmp_path / "model/model.safetensors")
    assert sum(tensor.numel() for tensor in stored.values()) == count_parameters(network).total
    mapped = load_for_inference(load_checkpoint(tmp_path / "model", filled=False), "fp32", torch.device("cpu"))
    assert len(set(mapped.backbone.blocks)) == 1
    assert load(tmp_path / "model").predict("the cat") == model.predict("the cat")


# Published classes without a head of a task.


def test_the_discriminator_of_an_electra_is_trained_and_inspected(electra_folder: Path, tmp_path: Path):
    """The class that ELECTRA is published as has the end of a class of fill-mask."""
    config = transformers.ElectraConfig.from_pretrained(electra_folder)
    transformers.ElectraForPreTraining(config).save_pretrained(tmp_path / "published")
    Tokenizer.load(electra_folder).save(tmp_path / "published")
    with pytest.raises(HeadwayError, match="has no head that predicts"):
        load(tmp_path / "published")
    assert open_model(tmp_path / "published").model is None
    for task, rows in ((TextClassification(), ROWS), (FillMask(), [{"text": row["text"]} for row in ROWS])):
        output = tmp_path / task.name
        task.on(tmp_path / "published").fit(rows, output=output, eval_fraction=0, max_steps=2, device="cpu")
        assert load(output).predict("the [MASK] sat")


# What only a GPT-2 can do.


def test_generation_is_refused_by_the_name_of_the_family(make: Make, kind: str):
    title = FAMILIES[kind].with_article
    with pytest.raises(HeadwayError, match=f"is {title}, which fills masks and does not predict the next token"):
        load_language_model(make("vocabulary"))


def test_a_model_says_what_it_is(make: Make, kind: str, tmp_path: Path):
    model = TextClassification(frozen=True).on(make("none"))
    assert f"({FAMILIES[kind].title})" in repr(model)
    model.fit(ROWS, output=tmp_path / "model", eval_fraction=0, device="cpu")
    card = (tmp_path / "model/README.md").read_text()
    assert f"It is {FAMILIES[kind].with_article} with 2 layers" in card
    assert f"- {kind}\n" in card
