"""Text to text: columns, chats, templates, sequences and their loss, generation and what transformers makes of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from data_files import assert_error
from headway.core.errors import HeadwayError
from headway.core.models.heads import Network
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextToText, load, read_table
from headway.tasks.base.check import check_data
from headway.tasks.base.results import Prepared
from headway.tasks.infer_task import infer_task
from headway.tasks.language_modeling.targets import prompt_budget
from headway.tasks.prompting.templates import find_template
from headway.tasks.text_to_text.instructions import INSTRUCTIONS
from headway.tasks.text_to_text.template import PairTemplate

WORDS = ["cat", "dog", "fox", "mat", "card", "program", "parcel", "money"]
ROWS = [{"input": f"the quick {word}", "output": f"send the {word} back"} for word in WORDS]
QUICK = {"eval_fraction": 0, "precision": "fp32", "device": "cpu", "progress": False}


def examples(rows, task=None, **columns):
    """The examples of rows, and what was inferred."""
    task, table = task or TextToText(), read_table(rows)
    mapping = task.columns(table, columns, need_label=True)
    task, notes = task.infer_labels(table, mapping)
    return task, task.examples(table, mapping), [*mapping.notes, *notes]


def pairs(rows, **columns):
    """(input, outputs) of rows."""
    return [(one.text, one.outputs) for one in examples(rows, **columns)[1]]


@pytest.mark.parametrize(
    ("names", "inferred"),
    [
        (("input", "output"), True),
        (("source", "target"), True),
        (("document", "summary"), True),
        (("article", "highlights"), True),
        (("text", "summary"), True),
        (("prompt", "completion"), True),
        (("instruction", "output"), True),
        (("en", "fr"), True),
        (("English", "French"), True),
        (("title", "story"), False),
        (("question", "answer"), False),
    ],
)
def test_the_columns_of_known_data_sets_are_found_in_any_order(names, inferred):
    first, second = names
    rows = [{"id": i, second: f"{one['output']}", first: one["input"]} for i, one in enumerate(ROWS)]
    if first in ("en", "English"):
        rows = [{"id": i, first: one["input"], second: one["output"]} for i, one in enumerate(ROWS)]
    task, found, notes = examples(rows)
    assert (found[0].text, found[0].outputs) == ("the quick cat", ("send the cat back",))
    assert f'input: column "{first}" (--input names another one)' in notes
    assert f'output: column "{second}" (--label names another one)' in notes
    assert [field.name for field in task.fields] == ["input"]
    assert (infer_task(read_table(rows)).task == "text-to-text") is inferred


def test_an_instruction_is_read_with_its_input_which_may_be_empty():
    rows = [
        {"instruction": "Name it.", "input": "a cat", "output": "Tom"},
        {"instruction": "Say hello.", "input": "", "output": "Hello!"},
    ]
    task, found, _ = examples(rows)
    assert [(one.text, one.outputs) for one in found] == [("Name it.\n\na cat", ("Tom",)), ("Say hello.", ("Hello!",))]
    assert [field.name for field in task.fields] == ["input", "context"]
    assert check_data(TextToText(), rows).examples == 2


def test_two_columns_of_texts_without_a_header_are_input_and_output(tmp_path):
    path = tmp_path / "pairs.tsv"
    lines = [f"go {word}.\tva {word} !\tCC-BY 2.0 Attribution: {i}" for i, word in enumerate(WORDS * 2)]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert pairs(path)[0] == ("go cat.", ("va cat !",))


def test_chats_become_pairs_with_the_history_before_the_last_turn_of_the_assistant(tmp_path):
    path = tmp_path / "chats.jsonl"
    turns = [("user", "who?"), ("assistant", "a cat"), ("user", "where?"), ("assistant", "on the mat"), ("user", "ok")]
    long = [{"role": who, "content": text} for who, text in turns]
    short = [{"role": "system", "content": "be brief"}, *long[:2]]
    shared = [{"from": "human", "value": "what?"}, {"from": "gpt", "value": "a fox"}]
    path.write_text("".join(json.dumps({"messages": one}) + "\n" for one in (long, short, shared)))
    assert pairs(path) == [
        ("user: who?\nassistant: a cat\nuser: where?", ("on the mat",)),
        ("be brief\nwho?", ("a cat",)),
        ("what?", ("a fox",)),
    ]
    assert infer_task(read_table(path)).task == "text-to-text"
    assert any("the last turn of the assistant is the output" in note for note in examples(path)[2])


def test_chats_without_an_answer_or_a_question_are_left_out_and_counted():
    good = {"messages": [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "me"}]}
    unanswered = {"messages": good["messages"][:1]}
    report = check_data(TextToText(), [good, unanswered, {"messages": good["messages"][1:]}])
    assert report.examples == 1
    assert any("1 row without a label is left out" in one.message for one in report.findings)
    assert any("1 row without a text is left out" in one.message for one in report.findings)
    assert report.errors == ()


def test_messages_may_have_parts_of_which_each_is_a_text():
    parts = [{"type": "text", "text": "who"}, {"type": "text", "text": "is it?"}]
    rows = [{"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": parts[:1]}]}]
    assert pairs(rows) == [("who\nis it?", ("who",))]
    image = [{"type": "image_url", "image_url": {"url": "a.png"}}]
    rows.append({"messages": [{"role": "user", "content": image}, {"role": "assistant", "content": "a cat"}]})
    (error,) = check_data(TextToText(), rows).errors
    assert "row 2: a message has a part that is not a text" in error.message


def test_an_empty_list_of_references_is_left_out_like_an_empty_cell():
    rows = [
        {"input": f"the {i}", "output": output} for i, output in enumerate([["a"], [], ["", None], ["b", None], ""])
    ]
    report = check_data(TextToText(), rows)
    assert (report.examples, report.errors) == (2, ())
    assert any("3 rows without a label are left out" in one.message for one in report.findings)


def test_the_encoder_reads_no_white_space_between_input_and_output():
    assert PairTemplate.parse(r"{input}\n{output}").for_encoder().prompt("a cat") == "a cat"
    assert PairTemplate.parse(r"sum: {input}\nTL;DR:\n{output}").for_encoder().prompt("a") == "sum: a\nTL;DR:"


def test_references_are_a_list_in_a_cell_or_several_columns():
    rows = [{"input": "the cat", "output": ["a", "b"]}, {"input": "the dog", "output": "c"}]
    assert pairs(rows) == [("the cat", ("a", "b")), ("the dog", ("c",))]
    rows = [{"input": "the cat", "r1": "a", "r2": "b"}, {"input": "the dog", "r1": "c", "r2": ""}]
    assert pairs(rows, label=["r1", "r2"]) == [("the cat", ("a", "b")), ("the dog", ("c",))]


def test_rows_with_the_same_input_and_other_outputs_are_no_conflict():
    rows = [*ROWS, {"input": ROWS[0]["input"], "output": "thank you"}]
    assert not [one for one in check_data(TextToText(), rows).findings if one.kind == "conflict"]


@pytest.mark.parametrize(
    ("template", "before", "between", "space"),
    [
        (r"{input}\n{output}", "", "\n", ""),
        (r"{input}\nTL;DR: {output}", "", "\nTL;DR:", " "),
        ("Translate: {input} =", "Translate: ", " =", ""),
        ("{input}  ", "", "", "  "),
    ],
)
def test_the_spaces_before_the_output_belong_to_it(template, before, between, space):
    assert PairTemplate.parse(template) == PairTemplate(before, between, space)


@pytest.mark.parametrize(
    "template", ["", "{output}", "{output} {input}", "{input} {input}", "{input} {text}", "{input}{output}."]
)
def test_a_template_that_cannot_be_is_refused(template):
    with pytest.raises(HeadwayError, match="--template"):
        TextToText(template=template)


@pytest.mark.parametrize("template", [r"{input}\n{output}", r"Read: {input}\nTL;DR: {output}"])
def test_the_loss_and_its_gradients_are_those_of_transformers_with_the_input_ignored(gpt2_folder, template):
    task, found, _ = examples(ROWS, TextToText(template=template))
    model = task.on(gpt2_folder)
    tokenizer, network = model.tokenizer, Network(model.network.backbone, task.head(model.network.backbone)).eval()
    features = task.encode(found, tokenizer, model.limit)
    batch = task.pack(features)
    assert batch.selected is not None
    assert len(batch.selected) < batch.num_tokens
    loss, number = task.loss(network(batch), task.targets(features))
    (loss / number).backward()
    theirs = transformers.GPT2LMHeadModel.from_pretrained(gpt2_folder).eval()
    end, rows, labels = tokenizer.end_of_text_id, [], []
    for one in ROWS:
        prompt = tokenizer.encode(task.pair_template.prompt(one["input"])).ids
        output = [*tokenizer.encode(task.pair_template.continuation(one["output"])).ids, end]
        rows.append([*prompt, *output])
        labels.append([-100] * len(prompt) + output)
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    padded = torch.tensor([row + [-100] * (longest - len(row)) for row in labels])
    expected = theirs(ids, attention_mask=mask, labels=padded).loss
    expected.backward()
    assert (loss / number).item() == pytest.approx(expected.item(), abs=1e-5)
    ours = network.backbone.token_embedding.weight.grad
    torch.testing.assert_close(ours, theirs.transformer.wte.weight.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("side", ["end", "start"])
def test_a_long_input_is_cut_at_the_stated_side_and_its_output_is_kept(gpt2_folder, side):
    words = [f"{a}{b}" for a in "abcdefgh" for b in "qrstuv"]
    rows = [{"input": " ".join(words), "output": "send it back"}] * 2
    task = TextToText(template="Read: {input} = {output}", cut_side=side)
    task, found, _ = examples(rows, task)
    model = task.on(gpt2_folder)
    tokenizer = model.tokenizer
    (pair, *_) = task.encode(found, tokenizer, model.limit)
    text, output = tokenizer.decode(pair.input_ids), tokenizer.decode(pair.target.ids)
    assert len(pair.input_ids) == model.limit
    assert pair.length > model.limit
    assert text.startswith("Read: ")
    assert text.endswith(" = send it back")
    assert (words[0] in text, words[-1] in text) == ((True, False) if side == "end" else (False, True))
    assert (output, pair.target.ids[-1]) == (" send it back", tokenizer.end_of_text_id)
    (prompt, *_) = task.encode([one.without_outputs() for one in found], tokenizer, model.limit)
    assert tokenizer.decode(prompt.input_ids).endswith(" =")
    (finding,) = [one for one in check_data(task, rows, model=gpt2_folder).findings if one.kind == "cut"]
    assert f"(--cut-side {side})" in finding.message


def test_a_lower_limit_of_training_does_not_cut_prompts_that_it_read_whole(gpt2_folder):
    model = TextToText(max_length=32, max_new_tokens=16).on(gpt2_folder)
    text = "a b c d e f g h i j k l"
    (example, *_) = examples([{"input": text, "output": "send it"}], model.task)[1]
    ((pair,),) = model.encoder.encode(model.task, [example])
    ((prompt,),) = model.encoder.encode(model.task, [example.without_outputs()])
    length = pair.target.positions[0] + 1
    assert (pair.length, length) == (len(pair.input_ids), prompt.length)
    assert len(prompt.input_ids) == length > 16 == prompt_budget(32, model.task.max_new_tokens)
    ((long,),) = model.encoder.encode(model.task, [replace(example, text=text * 9, outputs=())])
    assert len(long.input_ids) == 28  # the rest is left to the output, as in training


def test_an_evaluation_counts_inputs_of_which_outputs_are_generated_that_are_cut(trained):
    rows = [{"input": "the cat " * 40, "output": "the mat"}, {"input": "the cat", "output": "the mat"}]
    (note,) = [one for one in load(trained).evaluate(rows).notes if "--eval-outputs" in one]
    assert note.endswith("for 2 of 2 inputs (--eval-outputs); 1 of these inputs is cut (--cut-side end)")


def test_an_output_that_does_not_fit_is_counted_and_its_end_is_not_learned(gpt2_folder):
    task, found, _ = examples([{"input": "the cat " * 30, "output": "the mat " * 60}])
    model = task.on(gpt2_folder)
    (pair,) = task.encode(found, model.tokenizer, model.limit)
    assert len(pair.input_ids) <= model.limit
    assert model.tokenizer.end_of_text_id not in pair.target.ids
    (warning,) = task.warnings(found[0], [pair])
    assert "only its beginning is learned" in warning.message


@pytest.fixture(scope="module")
def trained(gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pairs") / "model"
    task = TextToText(template=r"{input}\nTL;DR: {output}", max_new_tokens=16)
    task.on(gpt2_folder).fit(ROWS, output=output, max_steps=250, learning_rate=5e-3, weight_decay=0.0, **QUICK)
    return output


def test_outputs_are_learned_with_their_ends(trained):
    found = load(trained).predict([one["input"] for one in ROWS])
    assert [one.text for one in found] == [one["output"] for one in ROWS]
    assert all(one.stopped for one in found)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"no_repeat_ngram_size": 2}])
def test_transformers_generates_the_same_text_with_the_saved_folder(trained, tmp_path, options):
    model = load(trained, **options)
    model.save(tmp_path / "again")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "again").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    for text in ["the quick cat", "the quick brown fox", "where is my card", "please"]:
        inputs = tokenizer(f"{text}\nTL;DR:", return_tensors="pt")
        ids = theirs.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
        found = model.predict(text)
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == found.text
        assert found.stopped == (ids[-1].item() == tokenizer.eos_token_id)


def test_config_json_names_the_end_of_texts_so_that_transformers_stops_without_a_generation_config(trained, tmp_path):
    load(trained).save(tmp_path / "again")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    end = load(trained).tokenizer.end_of_text_id
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (end, end, end)
    (tmp_path / "again" / "generation_config.json").unlink()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "again").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    for row in ROWS:
        inputs = tokenizer(row["input"] + "\nTL;DR:", return_tensors="pt")
        found = theirs.generate(**inputs, max_new_tokens=16)[0, inputs["input_ids"].shape[1] :]
        assert found[-1] == end
        assert tokenizer.decode(found, skip_special_tokens=True).strip() == row["output"]


def test_an_evaluation_scores_generated_outputs_against_all_references_of_an_input(trained):
    rows = [{"input": ROWS[0]["input"], "output": "thank you"}, *ROWS, {"input": "the lazy dog", "output": "no"}]
    found = load(trained).evaluate(rows)
    assert next(iter(found.metrics)) == "loss"
    assert found.metrics["exact_match"] == pytest.approx(8 / 9)
    assert 0 < found.metrics["stopped"] <= 1
    assert "outputs were generated for 9 of 9 inputs (--eval-outputs)" in found.notes
    few = load(trained, eval_outputs=2).evaluate(rows)
    assert "outputs were generated for 2 of 9 inputs (--eval-outputs)" in few.notes
    assert "exact_match" not in load(trained, eval_outputs=0).evaluate(rows).metrics
    assert {"chrf", "bleu", "rougeL", "exact_match", "stopped"} <= few.intervals.keys()
    assert few.intervals["exact_match"].low < 0.5  # two outputs say little
    assert few.metrics["loss"] == found.metrics["loss"]


def test_an_evaluation_says_that_the_outputs_are_no_better_than_a_baseline(trained):
    assert load(trained).evaluate(ROWS).nothing_learnt is None
    odd = [
        {"input": row["input"], "output": other["output"]} for row, other in zip(ROWS, ROWS[3:] + ROWS, strict=False)
    ]
    assert str(load(trained).evaluate(odd).nothing_learnt).startswith("Nothing was learnt")


def test_check_and_training_say_that_all_outputs_are_the_same_or_those_of_the_inputs(gpt2_folder):
    def said(rows):
        checked = [one.message for one in check_data(TextToText(), rows).findings]
        model = TextToText(eval_outputs=0).on(gpt2_folder)
        events = model.train(rows, eval_fraction=0, config=TrainConfig(max_steps=1, precision="fp32", device="cpu"))
        (prepared,) = [one for one in events if isinstance(one, Prepared)]
        assert checked == [one.message for one in prepared.report.findings]
        return " ".join(checked)

    same = [{"input": f"the {i}", "output": "a cat"} for i in range(9)]
    assert "all 9 outputs are the same text, 'a cat'" in said(same)
    assert "8 of 9 outputs are the same text" in said([*same[1:], {"input": "it", "output": "dogs"}])
    copied = [{"input": f"the {i}", "output": f"the {i} "} for i in range(9)]
    assert "in 9 of 9 rows the output is the input" in said(copied)
    assert said(ROWS) == ""


@pytest.mark.parametrize(("max_length", "advice"), [(None, "divide the row"), (20, "raise --max-length")])
def test_what_is_advised_for_an_output_that_does_not_fit_can_be_done(gpt2_folder, max_length, advice):
    rows = [{"input": "a", "output": "long " * 200}, *ROWS]
    found = [one.message for one in check_data(TextToText(max_length=max_length), rows, model=gpt2_folder).findings]
    (cut,) = [one for one in found if "does not fit" in one]
    assert advice in cut


def test_an_evaluation_compares_the_outputs_with_baselines(trained):
    found = load(trained).evaluate(ROWS)
    rows = {row["outputs"]: row for row in found.comparison}
    assert rows.keys() == {"model", "copy"}  # the training rows are not at hand, and inputs have one sentence
    assert {name: found.metrics[name] for name in ("rougeL", "bleu", "chrf")}.items() <= rows["model"].items()
    assert any("signatures of the scores: bleu: nrefs:" in note for note in found.notes)
    assert found.to_json()["comparison"] == found.comparison


def test_after_training_the_nearest_training_example_is_a_baseline_too(gpt2_folder, tmp_path):
    rows = [{"input": f"say {word} twice", "output": f"{word} {word}"} for word in ("cat", "dog", "cow", "fox")]
    model = TextToText(max_new_tokens=4).on(gpt2_folder)
    done = model.fit(rows, rows, output=tmp_path / "model", max_steps=1, device="cpu", progress=False)
    scores = {row["outputs"]: row["exact_match"] for row in done.comparison}
    assert (scores["nearest"], scores["copy"]) == (1, 0)
    assert "no better than the output of the most similar example (" in str(done.nothing_learnt)
    assert "Few steps (1): increase --epochs" in str(done.nothing_learnt)
    assert done.comparison[0]["outputs"] == "nearest"
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "| nearest |" in card
    assert json.loads((tmp_path / "model" / "headway.json").read_text())["comparison"] == list(done.comparison)


@pytest.mark.parametrize("name", [*INSTRUCTIONS, "translate Dutch to Latin"])
def test_a_named_instruction_is_the_same_in_a_prompt(name):
    template = PairTemplate.parse(name)
    assert template.prompt("IN") == find_template(name).query("IN").rstrip(" ")
    assert template.prompt("IN") + template.continuation("OUT") == find_template(name).demonstration("IN", None, "OUT")


def test_a_generation_option_that_cannot_be_is_refused(trained):
    assert_error(lambda: load(trained, num_beams=0), "num_beams=0", "an integer above 0")
    assert_error(lambda: TextToText(long_texts="cut"), "--long-texts", "--cut-side")


@pytest.mark.slow
def test_a_model_trained_on_two_hundred_pairs_stops_by_itself():
    from headway.tasks.samples import FOLDER

    model = TextToText().on("mini-gpt2")
    model.fit(FOLDER / "requests.csv", max_steps=40, seed=1, device="cpu", progress=False)
    objects = ["map", "soup", "horse", "garden", "paper", "train", "bottle", "song", "bird", "house"]
    found = model.predict([f"{verb} the {one}." for verb in ("Open", "Bring", "Paint", "Find") for one in objects])
    assert sum(one.stopped for one in found) >= 0.95 * len(found)
    assert sum("please" in one.text for one in found) >= 0.9 * len(found)
