"""Baselines of text to text."""

import pytest
from headway.tasks.text_to_text import baselines
from headway.tasks.text_to_text.baselines import best_baseline, compare_with_baselines, lead, nearest, random_sentences
from headway.tasks.text_to_text.output_findings import describe_outputs

STORY = "One came. Two left! Did three stay? Four did. Five slept."


def test_lead_takes_the_first_sentences() -> None:
    assert lead([STORY, "Only one", ""]) == ["One came. Two left! Did three stay?", "Only one", ""]


def test_random_sentences_keep_their_order_and_depend_on_the_seed() -> None:
    found = {random_sentences([STORY], seed=seed)[0] for seed in range(20)}
    assert len(found) > 3
    for text in found:
        parts = baselines.sentences(text)
        assert len(parts) == 3
        assert sorted(parts, key=STORY.index) == parts
    assert random_sentences([STORY, ""], seed=1) == random_sentences([STORY, ""], seed=1)


@pytest.mark.parametrize("at_once", [1, 4_000_000])
def test_nearest_gives_the_output_of_the_most_similar_input(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MAX_SIMILARITIES", at_once)
    training = ["the red car stopped", "the old house burned", "我们去学校", "..."]
    found = nearest(["a house burned down", "他们去学校了", "RED cars, a red car", "..."], training, list("abcd"))
    assert found == ["b", "c", "a", "d"]
    assert nearest(["unknown words only"], training, list("abcd")) == ["a"]


def test_nearest_searches_a_bounded_number_of_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MAX_TRAINING_ROWS", 5)
    training = [f"word{i}" for i in range(100)]
    found = nearest(training, training, training)
    assert sum(one == other for one, other in zip(found, training, strict=True)) == 5


def test_nearest_works_when_no_training_text_has_a_word() -> None:
    assert nearest(["a"], ["", ""], ["x", "y"]) == ["x"]


def test_the_table_has_the_model_beside_the_baselines_best_first() -> None:
    references = [["rouge car arrêté"], ["vieille maison"]]
    rows = compare_with_baselines(
        ["rouge car arrêté", "vieille"], ["red car", "old house"], references, [("red car", "rouge car"), ("x", "y")]
    )
    assert [row["outputs"] for row in rows][:2] == ["model", "nearest"]
    assert {row["outputs"] for row in rows} == {"model", "nearest", "copy"}
    assert list(rows[0])[:2] == ["outputs", "chrf"]
    scores = [row["chrf"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert {row["outputs"] for row in compare_with_baselines(["a"], [STORY], [["c"]])} == {
        "model", "copy", "lead_3", "random_3",
    }  # fmt: skip


INPUTS = ["le chat noir", "une vieille maison du"]


def test_a_model_that_a_baseline_equals_is_no_better() -> None:
    golds = [["le chat noir dort"], ["une vieille maison"]] * 5

    def said(outputs: list[str]) -> str | None:
        return best_baseline(compare_with_baselines(outputs * 5, INPUTS * 5, golds), outputs * 5, golds).complaint

    assert said(["le chat noir dort", "vieille maison"]) is None
    assert str(said(["le chat noir", "maison"])).endswith("). The outputs do follow their inputs.")
    assert "no better than copying the input (" in str(said(["le chat noir", "maison"]))
    assert str(said(["", ""])).startswith("Nothing was learnt: chrf 0.000 on 10 outputs is no better than copying")


def test_outputs_that_fit_every_input_alike_show_no_learning_even_if_no_baseline_is_better() -> None:
    golds = [[f"the answer is {one}"] for one in "abcdefghij"]
    inputs = [f"{one}?" for one in "abcdefghij"]
    for outputs, learnt in ((["the answer is k"] * 10, False), ([one for (one,) in golds], True)):
        complaint = best_baseline(compare_with_baselines(outputs, inputs, golds), outputs, golds).complaint
        assert (complaint is None) is learnt
        assert learnt or "the outputs fit other inputs as well (chrf" in str(complaint)


def test_outputs_that_are_all_the_same_or_empty_are_said() -> None:
    assert list(describe_outputs(["a", "a", "a"])) == ["all 3 outputs are the same text: 'a'"]
    assert list(describe_outputs(["a", " ", ""])) == ["2 of 3 outputs are empty"]
    assert list(describe_outputs(["a"])) == list(describe_outputs(["a", "b"])) == []


def test_the_table_is_sorted_by_another_score_where_its_own_is_missing() -> None:
    rows = compare_with_baselines(["a"], ["b"], [["b"]], score=lambda texts, _: {"exact_match": float(texts == ["b"])})
    assert rows[-1]["outputs"] == "model"
