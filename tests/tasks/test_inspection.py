"""Inspection: attention, logit lens, attributions, ablations and counts equal direct computations."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.errors import HeadwayError
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.gpt2 import GPT2, GPT2Config
from headway.core.models.heads import Network, SequenceHead, SpanHead, TokenHead, language_model_head, new_backbone
from headway.core.models.packing import PackedBatch
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.core.training.memory import estimate_activations
from headway.tasks import TextClassification, load
from headway.tasks.inspection import (
    Component,
    InspectedModel,
    Ranking,
    ablate,
    apply_logit_lens,
    attention_maps,
    choose_output,
    count_parameters,
    explainable_outputs,
    integrated_gradients,
    leave_one_out,
    next_token_steps,
    open_model,
    rank_components,
)
from headway.tasks.inspection.attribution import TOLERANCE
from torch import Tensor, nn

SIZES = {"hidden_size": 32, "num_layers": 3, "num_heads": 4, "intermediate_size": 64, "max_positions": 48}
TEXT = "Please send the money back to my card, naïve café owner 🙂"
PAIR = "the cat sat on the mat"
LABELS = {
    "classifier": ("post", "money", "other"),
    "tagger": ("O", "B-PER", "I-PER"),
}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}

Make = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def make(wordpiece_folder: Path, byte_level_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A folder with a tiny model of a kind and a head, whose weights are far from their initialization."""
    made: dict[tuple[str, str], Path] = {}

    def make_one(kind: str, head: str) -> Path:
        if (kind, head) in made:
            return made[kind, head]
        tokenizer = Tokenizer.load(wordpiece_folder if kind == "bert" else byte_level_folder)
        torch.manual_seed(0)
        config = (BertConfig if kind == "bert" else GPT2Config)(vocab_size=tokenizer.vocab_size, **SIZES)
        backbone = new_backbone(config)
        heads: dict[str, Callable[[], nn.Module | None]] = {
            "none": lambda: None,
            "vocabulary": lambda: language_model_head(backbone),
            "classifier": lambda: SequenceHead(config, 3),
            "tagger": lambda: TokenHead(config, 3),
            "answerer": lambda: SpanHead(config),
        }
        network = Network(backbone, heads[head]())
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        folder = tmp_path_factory.mktemp(f"{kind}-{head}")
        save_checkpoint(folder, network, labels=LABELS.get(head))
        tokenizer.save(folder)
        made[kind, head] = folder
        return folder

    return make_one


@pytest.fixture(params=["bert", "gpt2"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def reference(folder: Path, name: str = "AutoModel") -> nn.Module:
    return getattr(transformers, name).from_pretrained(folder, attn_implementation="eager").eval()


def model_inputs(inspected: InspectedModel, encoded) -> dict[str, Tensor]:
    """The inputs of transformers for a sequence."""
    inputs = {"input_ids": torch.tensor([encoded.input_ids])}
    if not inspected.causal:
        inputs["token_type_ids"] = torch.tensor([encoded.features.segment_ids])
    return inputs


# Encoding.


@pytest.mark.parametrize("head", ["none", "vocabulary", "classifier", "tagger", "answerer"])
def test_tokens_and_words_have_their_offsets_in_the_text(make, kind, head):
    inspected = open_model(make(kind, head))
    texts = (TEXT, PAIR) if head in ("none", "vocabulary", "classifier", "answerer") else (TEXT,)
    encoded = inspected.encode(*texts)
    for word in encoded.words:
        assert word.text == texts[word.part][word.start : word.end]
        assert {encoded.tokens[i].word for i in word.tokens} == {encoded.words.index(word)}
    shown = ["".join(word.text for word in encoded.words if word.part == part) for part in range(len(texts))]
    assert shown == ["".join(text.split()) for text in texts]
    placed = [i for i, token in enumerate(encoded.tokens) if token.start is not None]
    assert sorted(i for word in encoded.words for i in word.tokens) == placed
    special = 3 - (len(texts) == 1) if kind == "bert" else (len(texts) - 1) + (head == "answerer")
    assert len(encoded.tokens) - len(placed) == special


def test_a_long_text_is_truncated(make, kind):
    for head in ("none", "classifier", "tagger"):
        encoded = open_model(make(kind, head)).encode("the cat " * 100)
        assert len(encoded.input_ids) == SIZES["max_positions"]
        assert encoded.num_truncated > 100
    encoded = open_model(make(kind, "answerer")).encode("where is it?", "the cat " * 100)
    assert len(encoded.input_ids) == SIZES["max_positions"]
    assert encoded.num_truncated > 100


def test_missing_and_superfluous_texts_are_refused(make):
    with pytest.raises(HeadwayError, match="reads question and context; given: question"):
        open_model(make("bert", "answerer")).encode("where?")
    with pytest.raises(HeadwayError, match="reads text; given"):
        open_model(make("bert", "tagger")).encode("one", "two")


# Attention.


@pytest.mark.parametrize("head", ["none", "classifier"])
def test_attention_weights_equal_those_of_transformers(make, kind, head):
    folder = make(kind, head)
    inspected = open_model(folder)
    for texts in ((TEXT,), (TEXT, PAIR)):
        encoded = inspected.encode(*texts)
        view = attention_maps(inspected, encoded)
        with torch.no_grad():
            found = reference(folder)(**model_inputs(inspected, encoded), output_attentions=True).attentions
        torch.testing.assert_close(view.weights, torch.stack([one[0] for one in found]), **CLOSE)
        assert view.causal == (kind == "gpt2")


def test_gpt2_does_not_attend_to_later_tokens(make):
    inspected = open_model(make("gpt2", "none"))
    weights = attention_maps(inspected, inspected.encode(TEXT)).weights
    assert weights.triu(1).abs().max() == 0


def test_the_statistics_of_a_head_are_averages_of_its_weights(make, kind):
    inspected = open_model(make(kind, "none"))
    encoded = inspected.encode(TEXT, PAIR)
    view = attention_maps(inspected, encoded)
    count = len(encoded.tokens)
    for figures in view.heads:
        weights = view.weights[figures.layer - 1, figures.head - 1].tolist()
        pairs = [(i, j, weights[i][j]) for i in range(count) for j in range(count)]
        expected = {
            "to_itself": sum(w for i, j, w in pairs if i == j) / count,
            "to_previous": sum(w for i, j, w in pairs if j == i - 1) / count,
            "to_next": sum(w for i, j, w in pairs if j == i + 1) / count,
            "to_special": sum(w for _, j, w in pairs if encoded.tokens[j].start is None) / count,
            "distance": sum(w * abs(i - j) for i, j, w in pairs) / count,
        }
        for name, value in expected.items():
            assert getattr(figures, name) == pytest.approx(value, abs=1e-5), name
        assert 0 <= figures.entropy <= torch.tensor(float(count)).log2()


def test_an_empty_text_can_be_inspected(make, kind):
    inspected = open_model(make(kind, "vocabulary"))
    encoded = inspected.encode("")
    assert attention_maps(inspected, encoded).weights.shape[-1] == len(encoded.tokens) == (2 if kind == "bert" else 1)
    assert len(apply_logit_lens(inspected, encoded).layers) == SIZES["num_layers"] + 1


# Logit lens.


def test_the_lens_of_gpt2_is_its_norm_and_head_on_every_layer(make):
    folder = make("gpt2", "vocabulary")
    inspected = open_model(folder)
    encoded = inspected.encode(TEXT)
    model = reference(folder, "AutoModelForCausalLM")
    with torch.no_grad():
        states = model(**model_inputs(inspected, encoded), output_hidden_states=True).hidden_states
        layers = [model.lm_head(model.transformer.ln_f(state[0])) for state in states[:-1]]
        layers.append(model.lm_head(states[-1][0]))  # normalized already
    check_lens(apply_logit_lens(inspected, encoded), layers)


def test_the_lens_of_bert_is_its_masked_word_head_on_every_layer(make):
    folder = make("bert", "vocabulary")
    inspected = open_model(folder)
    encoded = inspected.encode("the [MASK] sat on the mat")
    assert [token.text for token in encoded.tokens].count("[MASK]") == 1
    model = reference(folder, "AutoModelForMaskedLM")
    with torch.no_grad():
        states = model(**model_inputs(inspected, encoded), output_hidden_states=True).hidden_states
        layers = [model.cls(state)[0] for state in states]
    check_lens(apply_logit_lens(inspected, encoded), layers)


def check_lens(view, layers: list[Tensor]) -> None:
    assert len(view.layers) == len(layers) == SIZES["num_layers"] + 1
    for layer, logits in zip(view.layers, layers, strict=True):
        best = logits.softmax(-1).topk(5)
        found = torch.tensor([[one.probability for one in row] for row in layer.candidates])
        torch.testing.assert_close(found, best.values, **CLOSE)
        assert [[one.token_id for one in row] for row in layer.candidates] == best.indices.tolist()


def test_a_fine_tuned_gpt2_has_a_lens_and_a_fine_tuned_bert_does_not(make):
    gpt2, bert = open_model(make("gpt2", "classifier")), open_model(make("bert", "classifier"))
    assert len(apply_logit_lens(gpt2, gpt2.encode(TEXT)).layers) == SIZES["num_layers"] + 1
    with pytest.raises(HeadwayError, match="no head over the vocabulary"):
        apply_logit_lens(bert, bert.encode(TEXT))


def test_next_tokens_have_the_most_likely_alternatives(make):
    folder = make("gpt2", "vocabulary")
    inspected = open_model(folder)
    steps = next_token_steps(inspected, "the cat", steps=4)
    ids = inspected.encode("the cat").input_ids
    model = reference(folder, "AutoModelForCausalLM")
    for step in steps:
        with torch.no_grad():
            best = model(torch.tensor([ids])).logits[0, -1].softmax(-1).topk(10)
        assert [one.token_id for one in step.likeliest] == best.indices.tolist()
        assert [one.probability for one in step.likeliest] == pytest.approx(best.values.tolist(), abs=1e-5)
        ids.append(step.token_id)
    assert next_token_steps(inspected, "the cat " * 50) == ()  # the context is full
    assert next_token_steps(open_model(make("bert", "vocabulary")), "the cat") == ()


# Attributions.

CASES = [("classifier", (TEXT,)), ("classifier", (TEXT, PAIR)), ("tagger", (TEXT,)), ("answerer", ("who sat?", PAIR))]


@pytest.mark.parametrize(("head", "texts"), CASES)
def test_attributions_sum_to_the_difference_from_the_baseline(make, kind, head, texts):
    inspected = open_model(make(kind, head))
    encoded = inspected.encode(*texts)
    for output in explainable_outputs(inspected, encoded)[:2]:
        found = integrated_gradients(inspected, encoded, output)
        change = found.value - found.baseline
        assert sum(found.by_token) == pytest.approx(change + found.gap, abs=1e-5)
        assert abs(found.gap) <= TOLERANCE * max(abs(change), 0.1)
        assert sum(found.by_word) == pytest.approx(sum(found.by_token), abs=1e-5)  # special tokens have no share


def direct_gradients(model, inputs: dict[str, Tensor], blank: Tensor, measure, points: int) -> tuple[Tensor, Tensor]:
    """Integrated gradients by the midpoint rule, with the model of transformers."""
    whole = model.get_input_embeddings()(inputs.pop("input_ids")).detach()
    total = torch.zeros_like(whole)
    for i in range(points):
        x = (blank + (i + 0.5) / points * (whole - blank)).requires_grad_()
        total += torch.autograd.grad(measure(model(inputs_embeds=x, **inputs).logits[0]), x)[0] / points
    return (total * (whole - blank))[0].sum(-1), whole


def test_integrated_gradients_equal_a_direct_computation(make, kind):
    folder = make(kind, "classifier")
    inspected = open_model(folder)
    encoded = inspected.encode(TEXT)
    model = reference(folder, "AutoModelForSequenceClassification")
    if kind == "gpt2":
        model.config.pad_token_id = 0
    output = choose_output(explainable_outputs(inspected, encoded), "money")
    found = integrated_gradients(inspected, encoded, output)
    inputs = model_inputs(inspected, encoded)
    table = model.get_input_embeddings().weight.detach()
    blank = table[inputs["input_ids"]].clone()
    text = torch.tensor([token.start is not None for token in encoded.tokens])
    blank[0, text] = table[0] if kind == "bert" else 0.0  # [PAD] is the first token of this vocabulary
    assert kind == "gpt2" or inspected.tokenizer.tokens([0]) == ["[PAD]"]
    expected, _ = direct_gradients(model, inputs, blank, lambda logits: logits.softmax(-1)[1], 60)
    torch.testing.assert_close(torch.tensor(found.by_token), expected, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(("head", "texts"), CASES)
def test_leave_one_out_runs_the_sequence_without_the_word(make, kind, head, texts):
    inspected = open_model(make(kind, head))
    encoded = inspected.encode(*texts)
    output = explainable_outputs(inspected, encoded)[0]
    found = leave_one_out(inspected, encoded, output)
    assert len(found.by_word) == len(encoded.words)
    for word, share in zip(encoded.words, found.by_word, strict=True):
        assert (share is None) == bool(set(word.tokens) & set(output.tokens))
        if share is None:
            continue
        kept = [i for i in range(len(encoded.tokens)) if i not in word.tokens]
        ids, segments = encoded.input_ids, encoded.features.segment_ids
        with torch.no_grad():
            batch = PackedBatch.pack([[ids[i] for i in kept]], [[segments[i] for i in kept]])
            outputs = inspected.network(batch)
        number = output.measure(outputs if inspected.task.per_token else outputs[0], kept).item()
        assert share == pytest.approx(found.value - number, abs=1e-5)


def test_the_prediction_is_the_first_explainable_output(make, kind):
    classifier, tagger, answerer = (open_model(make(kind, head)) for head in ("classifier", "tagger", "answerer"))
    encoded = classifier.encode(TEXT)
    outputs, prediction = explainable_outputs(classifier, encoded), classifier.predict(encoded)
    assert [one.name for one in outputs] == sorted(prediction.scores, key=lambda name: -prediction.scores[name])
    assert leave_one_out(classifier, encoded, outputs[0]).value == pytest.approx(prediction.score, abs=1e-5)
    encoded = tagger.encode(TEXT)
    prediction = tagger.predict(encoded)
    outputs = explainable_outputs(tagger, encoded)
    for entity, output in zip(prediction.entities, outputs, strict=False):
        assert output.name == f"{entity.label}: {entity.text}"
        assert leave_one_out(tagger, encoded, output).value == pytest.approx(entity.score, abs=1e-5)
    assert [one.name for one in outputs[len(prediction.entities) :]] == [
        f"{tag}: {word}" for tag, word in zip(prediction.tags, prediction.words, strict=True)
    ]
    encoded = answerer.encode("who sat?", PAIR)
    prediction = answerer.predict(encoded)
    assert explainable_outputs(answerer, encoded)[0].name == (prediction.answer or "no answer")


def test_unknown_outputs_and_models_without_a_task_are_refused(make):
    inspected = open_model(make("bert", "classifier"))
    outputs = explainable_outputs(inspected, inspected.encode(TEXT))
    with pytest.raises(HeadwayError, match=r"--explain good: .*There is: .*money"):
        choose_output(outputs, "good")
    bare = open_model(make("bert", "vocabulary"))
    with pytest.raises(HeadwayError, match="no head for text-classification"):
        explainable_outputs(bare, bare.encode(TEXT))


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "regression"])
def test_several_labels_and_numbers_are_attributed(make, kind, problem_type):
    inspected = open_model(make(kind, "classifier"))
    number = problem_type == "regression"
    task = TextClassification(labels=() if number else LABELS["classifier"], problem_type=problem_type)
    inspected.model.task = replace(task, target_mean=3.0, target_std=2.0)
    encoded = inspected.encode(TEXT)
    output = explainable_outputs(inspected, encoded)[0]
    found = integrated_gradients(inspected, encoded, output)
    logits = inspected.network(inspected.pack([encoded]))[0]
    expected = logits[0] * 2 + 3 if number else logits.sigmoid().max()
    assert found.value == pytest.approx(expected.item(), abs=1e-5)
    assert (found.output, found.unit) == (("the number", "value") if number else (output.name, "probability"))


# Ablation.


def test_an_ablated_head_contributes_nothing(make, kind):
    folder = make(kind, "classifier")
    inspected, changed = open_model(folder), open_model(folder)
    size = SIZES["hidden_size"] // SIZES["num_heads"]
    with torch.no_grad():  # the columns of the output matrix that read the third head
        changed.network.backbone.blocks[1].attn.out.weight[:, 2 * size : 3 * size] = 0
    batch = inspected.pack([inspected.encode(TEXT), inspected.encode(PAIR)])
    with torch.no_grad():
        before = inspected.network(batch)
        with ablate(inspected.network.backbone, [Component(2, 3)]):
            off = inspected.network(batch)
        torch.testing.assert_close(off, changed.network(batch), **CLOSE)
        assert not torch.allclose(off, before)
        assert torch.equal(inspected.network(batch), before)  # restored


def test_an_ablated_layer_returns_its_input(make, kind):
    folder = make(kind, "classifier")
    inspected, changed = open_model(folder), open_model(folder)
    del changed.network.backbone.blocks[1]
    batch = inspected.pack([inspected.encode(TEXT)])
    with torch.no_grad(), ablate(inspected.network.backbone, [Component(2)]):
        assert torch.equal(inspected.network(batch), changed.network(batch))


def test_heads_and_layers_are_ranked_by_the_score_without_them(make, kind):
    model = load(make(kind, "classifier"))
    texts = [TEXT, PAIR, "my parcel has not arrived", "where is my money", "Ada lived in London"] * 4
    found = [one.label for one in model.predict(texts)]
    rows = [{"text": text, "label": label} for text, label in zip(texts, found, strict=True)]
    *scores, ranking = rank_components(model, rows)
    assert isinstance(ranking, Ranking)
    assert (ranking.metric, ranking.score, ranking.examples) == ("accuracy", 1.0, 20)
    assert len(scores) == len(ranking.rows) == SIZES["num_layers"] * (SIZES["num_heads"] + 1)
    changes = [row.change for row in ranking.rows]
    assert changes == sorted(changes)
    worst = ranking.rows[0]
    with ablate(model.network.backbone, [worst.component]):
        assert model.evaluate(rows).metrics["accuracy"] == worst.score
    assert worst.score == pytest.approx(1 + worst.change)
    *_, fewer = rank_components(model, rows, most=10)
    assert fewer.examples == 10
    assert "10 of 20 examples, drawn with seed 0" in fewer.notes[-1]


# Parameters.


def test_gpt2_has_124_million_parameters():
    with torch.device("meta"):
        backbone = GPT2(GPT2Config())
        network = Network(backbone, language_model_head(backbone))
        published = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    found = count_parameters(network)
    assert (
        found.total == sum(one.parameters for one in found.matrices) == sum(p.numel() for p in published.parameters())
    )
    assert round(found.total / 1e6) == 124
    needs = {one.purpose: one.bytes for one in found.memory}
    assert needs["weights, fp32"] == 4 * found.total
    assert needs["training with AdamW, fp32"] == 16 * found.total
    assert needs["cache of one full context, fp32"] == 2 * 12 * 768 * 4 * 1024
    qkv = next(one for one in found.matrices if "qkv.weight" in one.name)
    assert (qkv.name, qkv.shape, qkv.count) == ("backbone.blocks.{i}.attn.qkv.weight", (2304, 768), 12)


def test_bert_has_the_parameters_of_transformers():
    with torch.device("meta"):
        network = Network(Bert(BertConfig()))
        published = transformers.BertModel(transformers.BertConfig(), add_pooling_layer=False)
    found = count_parameters(network)
    assert found.total == sum(p.numel() for p in published.parameters())
    assert all("cache" not in one.purpose for one in found.memory)


@pytest.mark.parametrize("config", [BertConfig.named("mini"), GPT2Config.named("mini")])
def test_estimated_activations_are_close_to_the_stored_ones(config):
    lengths = [64] * 4
    backbone = new_backbone(config).train()
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = backbone(PackedBatch.pack([list(range(5, 5 + n)) for n in lengths]))
        measured = sum(size for place, size in kept.items() if place not in weights)
    del out
    estimated = estimate_activations(config, sum(lengths), lengths[0])
    assert estimated / 1.6 < measured < estimated * 1.6
