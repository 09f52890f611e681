"""Generated tokens equal those of transformers' `generate`; texts, stop strings and streams are consistent."""

import dataclasses
from collections import Counter
from random import Random

import pytest
import torch
import transformers
from headway.core.checkpoints.checkpoint import load_checkpoint
from headway.core.errors import HeadwayError
from headway.core.generation import decoding, generation
from headway.core.generation.generation import generate, generate_ids, next_tokens, stream
from headway.core.generation.generation_config import GenerationConfig
from headway.core.generation.sampling import sample
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.cache import KVCache
from headway.core.models.gpt2 import GPT2, GPT2Config
from headway.core.models.heads import Network, SequenceHead, language_model_head
from headway.core.models.packing import PackedBatch
from headway.core.tokenizers.text_stream import token_bytes
from headway.core.tokenizers.tokenizer import Tokenizer
from parity import sequences

VOCAB, END, WINDOW = 37, 36, 48
NEW = 12
VARIANTS = [{}, {"tie_word_embeddings": False, "activation_function": "relu"}, {"n_layer": 1, "n_head": 2}]


def published(**changes):
    """A tiny GPT-2 of transformers with weights so large that its texts vary."""
    sizes = {"vocab_size": VOCAB, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": WINDOW}
    special = {"bos_token_id": END, "eos_token_id": END, "attn_implementation": "eager"}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**sizes, **special, **changes}))
    generator = torch.Generator().manual_seed(len(changes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.6, generator=generator)
            else:  # norms change little: otherwise the same token would follow every token
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return model.eval()


def pair(folder, **changes):
    theirs = published(**changes)
    theirs.save_pretrained(folder)
    return theirs, load_checkpoint(folder).network


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """(transformers' model, ours) with the same weights."""
    return [pair(tmp_path_factory.mktemp("gpt2"), **changes) for changes in VARIANTS]


@pytest.fixture(scope="module")
def with_text(tmp_path_factory, byte_level_folder):
    """Models over the tiny byte-level vocabulary: (transformers', ours, our tokenizer)."""
    tokenizer = Tokenizer.load(byte_level_folder)
    end = tokenizer.end_of_text_id
    theirs = published(vocab_size=tokenizer.vocab_size, bos_token_id=end, eos_token_id=end)
    plain = [token_bytes(tokenizer, token).isascii() for token in range(tokenizer.vocab_size)]
    theirs.transformer.wte.weight.data[~torch.tensor(plain)] *= (
        0.5  # so that parts of characters occur, but not too often
    )
    folder = tmp_path_factory.mktemp("gpt2")
    theirs.save_pretrained(folder)
    return theirs, load_checkpoint(folder).network, tokenizer


def their_ids(model, prompt, *, cached=True, **options):
    """The new tokens of each text that transformers' generate returns for a prompt, up to end-of-text."""
    options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": END, "eos_token_id": END, **options}
    ids = torch.tensor([prompt])
    found = model.generate(ids, attention_mask=torch.ones_like(ids), use_cache=cached, **options)
    return [up_to_end(row[len(prompt) :].tolist(), options["eos_token_id"]) for row in found]


def up_to_end(ids, end=END):
    return ids[: ids.index(end) + 1] if end in ids else ids


def ids_of(found):
    return [[list(one.token_ids) for one in texts] for texts in found]


def cases(seed, count):
    """Prompts of mixed lengths."""
    choose = Random(seed)
    return sequences([choose.randint(1, 9) for _ in range(count)], VOCAB, seed)


# Greedy decoding


@pytest.mark.parametrize("variant", range(len(VARIANTS)))
@pytest.mark.parametrize(("penalty", "ngram"), [(1.0, None), (1.3, None), (0.8, 3), (1.0, 2), (1.0, 1)])
def test_greedy_tokens_are_those_of_transformers_batched_and_alone(pairs, variant, penalty, ngram):
    theirs, network = pairs[variant]
    prompts = cases(variant, 15)
    repeats = {} if ngram is None else {"no_repeat_ngram_size": ngram}
    expected = [their_ids(theirs, prompt, repetition_penalty=penalty, **repeats) for prompt in prompts]
    config = GenerationConfig(max_new_tokens=NEW, repetition_penalty=penalty, no_repeat_ngram_size=ngram)
    together = generate_ids(network, prompts, config, end_of_text_id=END)
    assert ids_of(together) == expected
    for prompt, texts in zip(prompts, together, strict=True):
        (alone,) = generate_ids(network, [prompt], config, end_of_text_id=END)
        assert ids_of([alone]) == ids_of([texts])
        assert alone[0].score == pytest.approx(texts[0].score, abs=1e-4)
    assert len(Counter(token for (ids,) in expected for token in ids)) > 8  # the texts vary


def test_greedy_tokens_are_those_of_transformers_without_a_cache_and_with_padding(pairs):
    theirs, network = pairs[0]
    prompts = cases(7, 10)
    found = ids_of(generate_ids(network, prompts, GenerationConfig(max_new_tokens=NEW), end_of_text_id=END))
    assert found == [their_ids(theirs, prompt, cached=False) for prompt in prompts]
    longest = max(map(len, prompts))
    rows = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": END}
    padded = theirs.generate(rows, attention_mask=mask, **options)
    assert found == [[up_to_end(row[longest:].tolist())] for row in padded]


@torch.inference_mode()
def test_greedy_tokens_are_the_most_likely_of_a_plain_forward_pass(pairs):
    _, network = pairs[0]
    prompts = cases(3, 8)
    generated = generate_ids(network, prompts, GenerationConfig(max_new_tokens=NEW))
    for prompt, (found,) in zip(prompts, generated, strict=True):
        assert len(found.token_ids) == NEW  # no token ends a text
        assert found.finish_reason == "length"
        ids, score = list(prompt), 0.0
        for token in found.token_ids:
            logits = network(PackedBatch.pack([ids]))[-1]
            assert token == int(logits.argmax())
            score += float(logits.log_softmax(-1)[token])
            ids.append(token)
        assert found.score == pytest.approx(score, abs=1e-4)


# Sampling


def same_numbers(monkeypatch, seed, samples, prompts=1):
    """Makes transformers sample with our random numbers: one per row and step, for the samples of each prompt."""
    numbers = [Random(seed * 1_000_003 + number) for _ in range(prompts) for number in range(samples)]

    def multinomial(probabilities, num_samples):
        assert num_samples == 1
        return sample(probabilities.log(), [one.random() for one in numbers])[:, None]

    monkeypatch.setattr(torch, "multinomial", multinomial)


@pytest.mark.parametrize("seed", range(30))
def test_sampled_tokens_are_those_of_transformers_with_the_same_random_numbers(pairs, monkeypatch, seed):
    theirs, network = pairs[seed % len(pairs)]
    choose = Random(seed)
    options = {
        "temperature": choose.choice([0.5, 1.0, 1.5]),
        "top_k": choose.choice([None, 1, 5, 20]),
        "top_p": choose.choice([None, 0.3, 0.9]),
        "min_p": choose.choice([None, 0.02, 0.3]),
        "repetition_penalty": choose.choice([1.0, 1.2]),
    }
    samples = choose.choice([1, 3])
    prompts = cases(seed, 4)
    config = GenerationConfig(max_new_tokens=NEW, num_return_sequences=samples, seed=seed, **options)
    found = ids_of(generate_ids(network, prompts, config, end_of_text_id=END))
    theirs_options = {name: value for name, value in options.items() if value is not None}
    theirs_options.setdefault("top_k", 0)  # the default is 50
    for prompt, texts in zip(prompts, found, strict=True):
        same_numbers(monkeypatch, seed, samples)
        expected = their_ids(theirs, prompt, do_sample=True, num_return_sequences=samples, **theirs_options)
        assert texts == expected


@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 3, "num_return_sequences": 2}, {"temperature": 0.9, "num_return_sequences": 3}]
)
@pytest.mark.parametrize("shared", [6, 5])
def test_a_common_prefix_of_prompts_is_computed_once_with_the_same_result(pairs, monkeypatch, options, shared):
    prompts = [[*range(1, shared + 1), *rest] for rest in ([7], [8, 9, 10], [7, 3], [7])]
    config = GenerationConfig(max_new_tokens=NEW, **options)
    computed = []
    extend = KVCache.extend

    def counted(cache, sequences):
        computed.append(sum(map(len, sequences)))
        return extend(cache, sequences)

    monkeypatch.setattr(KVCache, "extend", counted)
    for _, network in pairs:
        separately = generate_ids(network, prompts, config)
        counts = [computed[0]]
        monkeypatch.setattr(decoding, "MIN_SHARED_PREFIX", 6)
        computed.clear()
        together = generate_ids(network, prompts, config)
        counts.append(sum(computed[:2]))
        monkeypatch.undo()
        monkeypatch.setattr(KVCache, "extend", counted)
        computed.clear()
        for one, other in zip(together, separately, strict=True):
            assert [text.token_ids for text in one] == [text.token_ids for text in other]
            assert [text.score for text in one] == pytest.approx([text.score for text in other], abs=1e-4)
        assert counts[0] == sum(map(len, prompts))
        if shared == 6:
            assert counts[1] == counts[0] - 3 * shared


def test_a_sample_depends_only_on_its_prompt_its_number_and_the_seed(pairs):
    _, network = pairs[0]
    prompts = cases(5, 6)
    config = GenerationConfig(max_new_tokens=NEW, num_return_sequences=4, seed=3)
    found = ids_of(generate_ids(network, prompts, config, end_of_text_id=END))
    assert ids_of(generate_ids(network, prompts, config, end_of_text_id=END)) == found
    assert ids_of(generate_ids(network, prompts[::-1], config, end_of_text_id=END)) == found[::-1]
    fewer = dataclasses.replace(config, num_return_sequences=2)
    assert ids_of(generate_ids(network, prompts[2:3], fewer, end_of_text_id=END)) == [found[2][:2]]
    assert len({tuple(ids) for texts in found for ids in texts}) > 15
    other = dataclasses.replace(config, seed=4)
    assert ids_of(generate_ids(network, prompts, other, end_of_text_id=END)) != found


def test_batches_of_prompts_give_the_same_texts(pairs, monkeypatch):
    _, network = pairs[0]
    prompts = cases(6, 12)
    config = GenerationConfig(max_new_tokens=NEW, num_return_sequences=2, seed=1)
    together = ids_of(generate_ids(network, prompts, config, end_of_text_id=END))
    monkeypatch.setattr(generation, "CACHE_BYTES", 10_000)
    assert ids_of(generate_ids(network, prompts, config, end_of_text_id=END)) == together
    monkeypatch.setattr(generation, "CACHE_BYTES", 4_000)  # less than two samples of one prompt
    assert ids_of(generate_ids(network, prompts, config, end_of_text_id=END)) == together


def test_on_an_accelerator_the_cache_takes_a_quarter_of_the_free_memory(pairs, monkeypatch):
    _, network = pairs[0]
    rows = []
    allocate = KVCache.__init__

    def watched(cache, *sizes, **more):
        rows.append(more["rows"])
        allocate(cache, *sizes, **more)

    monkeypatch.setattr(KVCache, "__init__", watched)
    config = GenerationConfig(max_new_tokens=NEW, num_return_sequences=20, seed=1)
    expected = ids_of(generate_ids(network, [[1, 2]], config, end_of_text_id=END))
    for free, most in ((4_000, 1), (2**30, 20)):
        rows.clear()
        monkeypatch.setattr(generation, "free_memory", lambda _, free=free: free)
        assert ids_of(generate_ids(network, [[1, 2]], config, end_of_text_id=END)) == expected
        assert max(rows) == most


@pytest.mark.parametrize(
    "options",
    [
        {"num_return_sequences": 3, "seed": 1},
        {"num_beams": 3, "num_return_sequences": 2},
        {"num_return_sequences": 20, "max_new_tokens": 60, "context": "slide"},
    ],
    ids=str,
)
def test_generating_in_steps_gives_the_same_text(with_text, monkeypatch, options):
    _, network, tokenizer = with_text
    config = GenerationConfig(**{"max_new_tokens": NEW, **options})
    (expected,) = generate(network, tokenizer, ["the cat"], config)
    capacities = []
    allocate = KVCache.__init__

    def watched(cache, *sizes, rows, capacity, **more):
        capacities.append(rows * capacity)
        allocate(cache, *sizes, rows=rows, capacity=capacity, **more)

    monkeypatch.setattr(KVCache, "__init__", watched)
    size = network.config
    token_bytes_in_cache = 2 * size.num_layers * size.hidden_size * 4
    monkeypatch.setattr(generation, "CACHE_BYTES", 300 * token_bytes_in_cache)
    *steps, found = generation.generate_in_steps(network, tokenizer, "the cat", config, share=3)
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], rel=1e-5)
    assert steps.count(None) == len(steps) >= max(len(one.token_ids) for one in found) - 1
    assert max(capacities) <= max(100, size.max_positions)


# Beam search


@pytest.mark.parametrize("seed", range(45))
def test_beams_and_their_scores_are_those_of_transformers_batched_and_alone(pairs, seed):
    theirs, network = pairs[seed % len(pairs)]
    choose = Random(seed)
    beams = choose.choice([2, 3, 5])
    options = {"length_penalty": choose.choice([-1.0, 0.0, 0.7, 1.0, 2.0])}
    options |= {"repetition_penalty": choose.choice([1.0, 1.0, 1.4])}
    options |= {"no_repeat_ngram_size": 2} if seed % 3 == 0 else {}
    stopping = choose.choice(["no", "yes", "never"])
    config = GenerationConfig(
        max_new_tokens=NEW, num_beams=beams, num_return_sequences=beams, early_stopping=stopping, **options
    )
    options |= {"early_stopping": {"no": False, "yes": True}.get(stopping, stopping)}
    options |= {"num_beams": beams, "num_return_sequences": beams, "max_new_tokens": NEW, "pad_token_id": END}
    prompts = cases(seed, 4)
    found = generate_ids(network, prompts, config, end_of_text_id=END)
    for prompt, texts in zip(prompts, found, strict=True):
        result = theirs.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            return_dict_in_generate=True,
            output_scores=True,
            use_cache=choose.random() < 0.5,
            **options,
        )
        assert ids_of([texts])[0] == [up_to_end(row[len(prompt) :].tolist()) for row in result.sequences]
        scores = torch.tensor([one.score for one in texts])
        torch.testing.assert_close(scores, result.sequences_scores, rtol=1e-4, atol=1e-4)
        assert [one.finish_reason for one in texts] == [
            "end-of-text" if one.token_ids[-1] == END else "length" for one in texts
        ]
    alone = [generate_ids(network, [prompt], config, end_of_text_id=END)[0] for prompt in prompts]
    assert ids_of(alone) == ids_of(found)


def test_returned_beams_are_the_best_ones_sorted_by_score(pairs):
    _, network = pairs[0]
    config = GenerationConfig(max_new_tokens=NEW, num_beams=4, num_return_sequences=4)
    (best,) = generate_ids(network, [[1, 2]], config, end_of_text_id=END)
    assert [one.score for one in best] == sorted((one.score for one in best), reverse=True)
    (first,) = generate_ids(network, [[1, 2]], dataclasses.replace(config, num_return_sequences=1), end_of_text_id=END)
    assert first == best[:1]


def test_there_can_be_more_beams_than_tokens(pairs):
    _, network = pairs[0]
    config = GenerationConfig(max_new_tokens=3, num_beams=VOCAB + 5, num_return_sequences=VOCAB + 5)
    (found,) = generate_ids(network, [[1]], config, end_of_text_id=END)
    assert len({one.token_ids for one in found}) == VOCAB + 5


def test_beams_end_at_stop_strings(with_text):
    _, network, tokenizer = with_text
    options = {"max_new_tokens": NEW, "num_beams": 3, "num_return_sequences": 3}
    (before,) = generate(network, tokenizer, ["the cat"], GenerationConfig(**options))
    stop = before[0].text[3:5]
    (found,) = generate(network, tokenizer, ["the cat"], GenerationConfig(**options, stop=(stop,)))
    assert all(stop not in one.text for one in found)
    for one in found:
        assert (stop in tokenizer.decode(one.token_ids)) == (one.finish_reason == "stop")
    assert any(one.finish_reason == "stop" for one in found)


# The context


@pytest.mark.parametrize("options", [{}, {"num_return_sequences": 2, "seed": 1}, {"num_beams": 2}])
def test_a_full_context_ends_a_text(pairs, options):
    _, network = pairs[0]
    prompts = [[1] * (WINDOW - 3), [2] * WINDOW, [3] * (WINDOW - 20)]
    found = generate_ids(network, prompts, GenerationConfig(max_new_tokens=9, **options))
    assert [[len(one.token_ids) for one in texts] for texts in found] == [
        [count] * options.get("num_return_sequences", 1) for count in (4, 1, 9)
    ]
    assert [texts[0].finish_reason for texts in found] == ["context", "context", "length"]


def greedy_with_sliding_context(model, prompt, count):
    """Greedy tokens without a cache; a full context is cut to its newer half."""
    context, new = prompt[-WINDOW:], []
    for _ in range(count):
        new.append(int(model(torch.tensor([context])).logits[0, -1].argmax()))
        context = [*context, new[-1]]
        if len(context) > WINDOW:
            context = context[-(WINDOW // 2) :]
    return new


def test_a_sliding_context_drops_its_older_half(pairs):
    theirs, network = pairs[0]
    prompts = sequences([WINDOW - 3, 5, WINDOW, 2 * WINDOW, 20], VOCAB)
    new = WINDOW + 20
    config = GenerationConfig(max_new_tokens=new, context="slide")
    found = generate_ids(network, prompts, config)
    assert ids_of(found) == [[greedy_with_sliding_context(theirs, prompt, new)] for prompt in prompts]
    assert {texts[0].finish_reason for texts in found} == {"length"}
    samples = dataclasses.replace(config, num_return_sequences=2, seed=5)
    together = generate_ids(network, prompts, samples)
    assert ids_of(together) == [ids_of(generate_ids(network, [prompt], samples))[0] for prompt in prompts]


def test_a_prompt_longer_than_the_context_is_refused_unless_it_slides(pairs):
    _, network = pairs[0]
    for options in ({}, {"num_beams": 2}, {"num_return_sequences": 2}):
        with pytest.raises(HeadwayError, match=f"Prompt 2 of 2 has {WINDOW + 1} tokens.*context is {WINDOW} tokens"):
            generate_ids(network, [[1], [1] * (WINDOW + 1)], GenerationConfig(**options))
    ((found,),) = generate_ids(network, [[1] * 99], GenerationConfig(max_new_tokens=2, context="slide"))
    assert len(found.token_ids) == 2


# Texts


def test_texts_are_the_decoded_tokens_and_prompts_can_be_empty(with_text):
    theirs, network, tokenizer = with_text
    prompts = ["The quick", "", "the cat sat on the", "naïve"]
    end = tokenizer.end_of_text_id
    found = generate(network, tokenizer, prompts, GenerationConfig(max_new_tokens=20))
    for prompt, (one,) in zip(prompts, found, strict=True):
        ids = tokenizer.encode(prompt).ids or [end]
        assert [list(one.token_ids)] == their_ids(theirs, ids, max_new_tokens=20, eos_token_id=end, pad_token_id=end)
        assert tokenizer.decode(one.token_ids).startswith(one.text)
        assert tokenizer.decode(one.token_ids)[len(one.text) :] in ("", "\N{REPLACEMENT CHARACTER}")
    assert generate(network, tokenizer, []) == []


def test_a_single_text_instead_of_a_sequence_is_refused(with_text):
    _, network, tokenizer = with_text
    with pytest.raises(TypeError, match="sequence of texts"):
        generate(network, tokenizer, "one text")


@pytest.mark.parametrize("seed", range(25))
def test_texts_end_at_the_first_stop_string_across_token_boundaries(with_text, seed):
    _, network, tokenizer = with_text
    choose = Random(seed)
    prompt = choose.choice(["the cat", "My parcel", "London", "dog "])
    config = GenerationConfig(max_new_tokens=20, temperature=1.0, seed=seed)
    ((free,),) = generate(network, tokenizer, [prompt], config)
    start = choose.randrange(len(free.text) - 3)
    stop = (free.text[start : start + choose.randint(1, 3)], "does not occur", free.text[-2:])
    ((found,),) = generate(network, tokenizer, [prompt], dataclasses.replace(config, stop=stop))
    place = min(place for text in stop if (place := free.text.find(text)) >= 0)
    assert found.text == free.text[:place]
    assert found.finish_reason == "stop"
    count = len(found.token_ids)
    assert found.token_ids == free.token_ids[:count]
    # The last token completes the stop string.
    data = [token_bytes(tokenizer, token) for token in found.token_ids]
    texts = [b"".join(data[:end]).decode(errors="replace") for end in (count, count - 1)]
    assert any(text in texts[0] for text in stop)
    assert not any(text in texts[1].rstrip("\N{REPLACEMENT CHARACTER}") for text in stop)


def test_stop_strings_end_where_those_of_transformers_do(with_text, byte_level_folder):
    theirs, network, tokenizer = with_text
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(byte_level_folder)
    stopped = 0
    for seed in range(12):
        choose = Random(seed)
        prompt = [choose.randrange(tokenizer.vocab_size - 1) + 1 for _ in range(3)]
        (free,) = their_ids(theirs, prompt, max_new_tokens=20, eos_token_id=0)
        text = tokenizer.decode(free)
        start = choose.randrange(2, len(text) - 2)
        stop = text[start : start + 2]
        if "\N{REPLACEMENT CHARACTER}" in text[: start + 3] or stop in tokenizer.decode([*prompt, *free[:1]]):
            continue
        options = {"stop_strings": [stop], "tokenizer": their_tokenizer, "max_new_tokens": 20, "eos_token_id": 0}
        (expected,) = their_ids(theirs, prompt, **options)
        config = GenerationConfig(max_new_tokens=20, stop=(stop,))
        steps = decoding.decode(decoding.TextGenerator(network, config, 0, tokenizer), [prompt], samples=[0])
        rows = [rows for rows, _ in steps][-1]
        assert rows[0].token_ids == expected
        stopped += 1
    assert stopped >= 6


# Streams


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.5, "seed": 4}, {"top_k": 9, "num_return_sequences": 3}, {"stop": ("e",)}]
)
def test_a_stream_yields_the_generated_text(with_text, options):
    _, network, tokenizer = with_text
    config = GenerationConfig(max_new_tokens=25, **options)
    for prompt in ("the dog", ""):
        (expected,) = generate(network, tokenizer, [prompt], config)
        texts, pieces = [], ""
        for one in stream(network, tokenizer, prompt, config):
            pieces += one.piece
            if one.generation is not None:
                assert pieces == one.generation.text
                texts.append(one.generation)
                pieces = ""
        assert [one.token_ids for one in texts] == [one.token_ids for one in expected]
        assert [one.text for one in texts] == [one.text for one in expected]


def test_next_tokens_yields_the_ten_most_likely_tokens_with_the_models_probabilities(with_text):
    theirs, network, tokenizer = with_text
    config = GenerationConfig(max_new_tokens=12, temperature=0.7, top_k=30, repetition_penalty=1.2, seed=2)
    ((whole,),) = generate(network, tokenizer, ["London"], config)
    ids = tokenizer.encode("London").ids
    steps = list(next_tokens(network, tokenizer, "London", config))
    assert tuple(step.token_id for step in steps) == whole.token_ids
    assert "".join(step.piece for step in steps) == whole.text
    assert [step.finish_reason for step in steps] == [None] * (len(steps) - 1) + [whole.finish_reason]
    for step in steps:
        with torch.no_grad():
            probabilities = theirs(torch.tensor([ids])).logits[0, -1].softmax(-1)
        best = probabilities.topk(10)
        assert [one.token_id for one in step.likeliest] == best.indices.tolist()
        found = torch.tensor([one.probability for one in step.likeliest])
        torch.testing.assert_close(found, best.values, rtol=1e-4, atol=1e-6)
        assert step.probability == pytest.approx(float(probabilities[step.token_id]), rel=1e-4)
        ids.append(step.token_id)
        for one in (step, *step.likeliest):
            assert one.token
            assert "\N{REPLACEMENT CHARACTER}" not in one.token
    assert sum(step.token == tokenizer.decode([step.token_id]) for step in steps) > 0


# Errors

GREEDY = {"temperature": 0}
BAD = [
    ({"max_new_tokens": 0}, "max_new_tokens=0"),
    ({"max_new_tokens": 2.5}, "max_new_tokens=2.5"),
    ({"num_return_sequences": 0}, "num_return_sequences=0"),
    ({"num_beams": True}, "num_beams=True"),
    ({"top_k": 0}, "top_k=0"),
    ({"top_p": 0.0}, "top_p=0.0"),
    ({"top_p": 1.1}, "top_p=1.1"),
    ({"min_p": -0.1}, "min_p=-0.1"),
    ({"temperature": -1}, "temperature=-1"),
    ({"temperature": 1e-9}, "temperature=1e-09"),
    ({"temperature": float("nan")}, "temperature=nan"),
    ({"repetition_penalty": 0}, "repetition_penalty=0"),
    ({"length_penalty": float("inf")}, "length_penalty=inf"),
    ({"early_stopping": "maybe"}, "early_stopping='maybe'.*no, yes, never"),
    ({"context": "grow"}, "context='grow'.*stop, slide"),
    ({"seed": -1}, "seed=-1"),
    ({"stop": "text"}, "stop='text'"),
    ({"stop": ("",)}, "non-empty strings"),
    ({"num_beams": 2, "temperature": 0.5}, "num_beams=2.*temperature=0.5"),
    ({"num_beams": 2, "top_k": 4}, "num_beams=2.*top_k=4"),
    ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences=3 of num_beams=2"),
    ({"num_beams": 2, "context": "slide"}, "num_beams=2.*slide"),
    (GREEDY | {"top_p": 0.5}, "temperature=0.*top_p=0.5"),
    (GREEDY | {"num_return_sequences": 2}, "temperature=0.*num_return_sequences=2"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_an_invalid_option_is_named(options, message):
    with pytest.raises(HeadwayError, match=message):
        GenerationConfig(**options)


def test_samples_and_beams_are_aliases():
    short, long = GenerationConfig(samples=2, beams=3), GenerationConfig(num_return_sequences=2, num_beams=3)
    assert short == long
    assert (long.samples, long.beams) == (2, 3)
    assert dataclasses.replace(long, samples=1) == GenerationConfig(num_beams=3)
    with pytest.raises(TypeError, match="sample"):
        GenerationConfig(sample=2)


def test_do_sample_follows_from_the_options():
    assert not GenerationConfig().do_sample
    assert not GenerationConfig(temperature=0).do_sample
    assert not GenerationConfig(num_beams=3, num_return_sequences=3).do_sample
    for options in ({"temperature": 0.3}, {"top_k": 5}, {"top_p": 0.5}, {"min_p": 0.1}, {"num_return_sequences": 2}):
        assert GenerationConfig(**options).do_sample
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerationConfig().seed = 3


def test_every_option_has_a_help_text():
    assert all(field.metadata["help"] for field in dataclasses.fields(GenerationConfig))


def test_only_a_gpt2_with_its_language_model_head_can_generate(with_text):
    tokenizer = with_text[2]
    bert = Bert(BertConfig.named("tiny", vocab_size=9))
    gpt2 = GPT2(GPT2Config.named("tiny", vocab_size=9))
    for wrong, message in [
        (Network(bert, language_model_head(bert)), "Bert with MaskedLMHead"),
        (Network(gpt2), "GPT2 with no head"),
        (Network(gpt2, SequenceHead(gpt2.config, 2)), "GPT2 with SequenceHead"),
    ]:
        with pytest.raises(HeadwayError, match=message):
            generate(wrong.eval(), tokenizer, ["the"])
        with pytest.raises(HeadwayError, match=message):
            list(stream(wrong.eval(), tokenizer, "the"))
    with pytest.raises(ValueError, match="training mode"):
        generate(Network(gpt2, language_model_head(gpt2)).train(), tokenizer, ["the"])


def test_combinations_that_are_not_possible_are_refused(with_text, pairs, wordpiece_folder):
    _, network, tokenizer = with_text
    with pytest.raises(HeadwayError, match="num_beams=2"):
        list(stream(network, tokenizer, "the", GenerationConfig(num_beams=2)))
    with pytest.raises(HeadwayError, match="num_beams=2"):
        list(next_tokens(network, tokenizer, "the", GenerationConfig(num_beams=2)))
    with pytest.raises(HeadwayError, match="num_return_sequences=2"):
        list(next_tokens(network, tokenizer, "the", GenerationConfig(num_return_sequences=2)))
    with pytest.raises(HeadwayError, match="needs a tokenizer"):
        generate_ids(network, [[1]], GenerationConfig(stop=("a",)))
    with pytest.raises(HeadwayError, match="no end-of-text token"):
        generate(network, Tokenizer.load(wordpiece_folder), [""])
    with pytest.raises(HeadwayError, match="belongs to another model"):
        generate(pairs[0][1], tokenizer, ["the quick brown fox"])


def test_a_gpt2_with_a_wordpiece_vocabulary_continues_a_text_without_its_special_tokens(with_text, wordpiece_folder):
    _, network, _ = with_text
    tokenizer = Tokenizer.load(wordpiece_folder)
    ids = tokenizer.encode("the cat").ids
    assert tokenizer.join(ids)[0] != ids
    assert generation.encode_prompt(network, tokenizer, "the cat") == ids


def test_a_long_prompt_does_not_enlarge_the_cache_of_many_short_ones():
    prompts = [[0] * 1000, *([0] * 5 for _ in range(300))]
    batches = generation._batches(prompts, new_tokens=10, cache_tokens=2000)
    assert sorted(i for batch in batches for i in batch) == list(range(301))
    assert all(len(batch) == 1 or len(batch) * (max(len(prompts[i]) for i in batch) + 10) <= 2000 for batch in batches)
    assert len(batches) < 6
