"""Labels are parsed from all their spellings, and the problem type is inferred from a column of them."""

import time

import pytest
from headway.core.errors import HeadwayError
from headway.tasks.data.column_contents import is_number
from headway.tasks.data.labels import (
    MULTI_LABEL,
    REGRESSION,
    SINGLE_LABEL,
    infer_problem_type,
    is_missing,
    label_reader,
    map_valid,
    raw_label,
    sort_labels,
)
from headway.tasks.data.numbers import infer_decimal, number_reader, parse_number
from headway.tasks.data.reading.header import NUMERIC


def assert_error(call, *parts: str) -> None:
    with pytest.raises(HeadwayError) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("values", "problem_type"),
    [
        (["good", "bad", "good"], SINGLE_LABEL),
        (["0", "1", "1", "0"], SINGLE_LABEL),
        ([0, 1, 2, 1], SINGLE_LABEL),
        ([-1, 0, 1], SINGLE_LABEL),  # negative, neutral, positive
        ([True, False], SINGLE_LABEL),
        (["1", "2", "3", "4", "5"], SINGLE_LABEL),  # stars
        (["3.0", "4.0"], SINGLE_LABEL),
        (["3.5", "4.0", "1.2"], REGRESSION),
        ([0.25, 1, 2], REGRESSION),
        ([*map(str, range(0, 200, 3))], REGRESSION),  # many whole numbers with gaps
        ([*range(77)] * 6, SINGLE_LABEL),  # ids of 77 intents
        ([*range(1, 101)] * 6, REGRESSION),  # scores from 1 to 100
        (["3.5", "4.1", "nan"] * 10, REGRESSION),
        (["4,7", "5,3", "4,4", "5,0"], REGRESSION),  # decimal commas
        (["4,5", "4", "5", "3", "3,5", "2,5"], REGRESSION),  # half stars
        (["0,83", "0,05", "0,5", "1", "0"], REGRESSION),
        (["1.234,5", "12,25", "3,5"], REGRESSION),
        ([f"{number},{number}00" for number in range(1, 9)] * 5, SINGLE_LABEL),  # few numbers with thousands
        (["3.5"] * 30 + ["four"], REGRESSION),  # a typing error, reported when the row is read
        ([["a", "b"], []], MULTI_LABEL),
        (['["a", "b"]', '["a"]', "[]"], MULTI_LABEL),
        (["['a', 'b']", "['a']"], MULTI_LABEL),  # as exported by pandas
        (["a;b", "a", "b", "b;a"], MULTI_LABEL),
        (["3,27", "3", "27", "27,3"], MULTI_LABEL),
        (["0,1", "1", "0", ""], MULTI_LABEL),
        (["Sports; outdoor", "Music", "Sports; outdoor"], SINGLE_LABEL),  # a semicolon inside a name
        (["arts, crafts", "music", "arts, crafts"], SINGLE_LABEL),
        (["good", "", None, float("nan"), "bad"], SINGLE_LABEL),
        ([], SINGLE_LABEL),
    ],
)
def test_the_problem_type_is_inferred_from_the_values(values: list, problem_type: str):
    assert infer_problem_type(values)[0] == problem_type


def test_the_reason_for_a_problem_type_is_given():
    assert "2 different values" in infer_problem_type(["x", "y"])[1]
    assert 'joined by ";"' in infer_problem_type(["a;b", "a", "b"])[1]


def test_the_reason_shows_the_other_reading_of_a_comma_and_the_option_for_it():
    problem_type, why = infer_problem_type(["4,7", "5,3", "4,4"])
    assert problem_type == REGRESSION
    assert "decimal comma: 4,7" in why
    assert "--multi-label" in why
    problem_type, why = infer_problem_type(["3,27", "3", "27", "27,3"])
    assert problem_type == MULTI_LABEL
    assert "--decimal , reads numbers: 3,27" in why
    assert infer_problem_type(["3,27", "3", "27", "27,3"], ",") == (REGRESSION, "the labels are numbers with decimals")
    assert infer_problem_type(["4,7", "5,3", "4,4", "7,5"], ".")[0] == SINGLE_LABEL
    many = [f"{number},{number:03}" for number in range(1, 99)]
    assert "a comma between thousands: 1,001" in infer_problem_type(many)[1]


@pytest.mark.parametrize(
    ("cell", "decimal", "number"),
    [
        *[
            ("4,7", ",", 4.7),
            ("1.234,5", ",", 1234.5),
            ("1.234", ",", 1234.0),
            ("-0,05", ",", -0.05),
            ("4.7", ",", 4.7),
        ],
        *[("1,234.5", ".", 1234.5), ("1,234", ".", 1234.0), ("4.7", ".", 4.7), ("12,345,678", ".", 12345678.0)],
    ],
)
def test_a_number_is_parsed_with_the_decimal_mark_of_its_column(cell: str, decimal: str, number: float):
    assert parse_number(cell, decimal) == number
    assert number_reader([cell, "0.5" if decimal == "." else "0,5"], decimal)(cell) == number


def test_the_decimal_mark_is_inferred_from_the_whole_column():
    assert infer_decimal(["1,234", "2,5"]) == ","
    assert infer_decimal(["1,234", "12,500", "7"]) == "."
    assert infer_decimal(["a,b", "1,5"]) is None
    assert infer_decimal(["1.5", 2, None]) is None


def test_long_cells_are_parsed_in_linear_time():
    start = time.process_time()
    for cell in (
        "1" * 200_000,
        "1," * 100_000,
        "1" * 200_000 + "x",
        "[" * 200_000,
        "1." * 100_000,
        "0," + "1" * 200_000,
    ):
        infer_problem_type([cell, "4,7", cell])
        is_number(cell)
        looks_numeric = NUMERIC.fullmatch(cell)
        assert looks_numeric is None or cell[-1] != "x"
        sort_labels([cell, "2"])
        label_reader(MULTI_LABEL, [cell])(cell)
        label_reader(SINGLE_LABEL, [cell], ["a", "b"], numbered=True)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("value", [None, "", "  ", float("nan"), "nan", "NaN"])
def test_an_empty_cell_has_no_label(value: object):
    assert is_missing(value)
    assert_error(lambda: label_reader(SINGLE_LABEL, [])(value), "no label", "delete the row")
    assert label_reader(MULTI_LABEL, [])(value) == ()


@pytest.mark.parametrize("value", [0, False, "0", "none", [], ()])
def test_a_cell_with_a_value_has_a_label(value: object):
    assert not is_missing(value)


@pytest.mark.parametrize(("value", "number"), [("3.5", 3.5), (" 4 ", 4.0), (7, 7.0), ("-1e2", -100.0)])
def test_numbers_are_parsed(value: object, number: float):
    assert parse_number(value) == number


@pytest.mark.parametrize("value", [None, "", "four", "nan", float("inf"), True, [1], 10**400, 1e300, "1" * 400])
def test_a_target_that_is_not_a_finite_number_is_an_error(value: object):
    assert_error(lambda: parse_number(value), "label")


def test_a_label_is_the_text_of_its_cell():
    read = label_reader(SINGLE_LABEL, [])
    assert [read(value) for value in (" good ", 3, 3.0, True, "3.0")] == ["good", "3", "3", "True", "3.0"]


def test_a_label_name_takes_precedence_over_a_number_and_unknown_ones_are_errors():
    read = label_reader(SINGLE_LABEL, [], ("b", "a", "0"), numbered=True)
    assert [read(value) for value in ("a", "0", "1", 2.0, 0)] == ["a", "0", "a", "0", "0"]
    assert_error(lambda: read("3"), "'3'", "0 to 2")
    assert_error(lambda: read("c"), "'c'", "b, a, 0")
    assert_error(
        lambda: label_reader(SINGLE_LABEL, [], ("b", "a"))("1"), "'1'"
    )  # numbers are valid only with numbered=True


def test_the_error_of_the_label_minus_one_says_that_it_means_unlabelled():
    assert_error(lambda: label_reader(SINGLE_LABEL, [], ("0", "1"))("-1"), "unlabelled")


def test_joined_labels_are_split_at_the_separator_of_the_column():
    assert label_reader(MULTI_LABEL, ["a;b"])("a; b ;;a") == ("a", "b")
    assert label_reader(MULTI_LABEL, ["3,27"], ("x", "y", "z"), numbered=True)("2, 0") == ("z", "x")
    assert label_reader(MULTI_LABEL, [["a"]])(["a", "b", "a"]) == ("a", "b")
    assert label_reader(MULTI_LABEL, [])('["a", "b"]') == ("a", "b")
    assert label_reader(MULTI_LABEL, [])("['a', 'b']") == ("a", "b")
    assert label_reader(MULTI_LABEL, ["arts, crafts"], ("arts, crafts", "music"))("arts, crafts") == ("arts, crafts",)


def test_a_list_is_not_a_single_label():
    assert_error(lambda: label_reader(SINGLE_LABEL, [])(["a", "b"]), "list", "--multi-label")


def test_columns_of_0_and_1_become_the_names_of_those_with_1():
    cells = {"toxic": "1", "rude": "0", "threat": True}
    assert raw_label(cells, ("toxic", "rude", "threat")) == ["toxic", "threat"]
    assert_error(lambda: raw_label({"toxic": "2"}, ("toxic",)), '"toxic"', "'2'", "0 or 1")
    assert_error(lambda: raw_label({"toxic": None}, ("toxic",)), '"toxic"', "nothing")
    assert raw_label(cells, "rude") == "0"
    assert raw_label(cells, None) is None


def test_labels_are_sorted_as_numbers_or_alphabetically():
    assert sort_labels(["10", "9", "1", "9"]) == ("1", "9", "10")
    assert sort_labels(["b", "a", "10"]) == ("10", "a", "b")
    assert sort_labels(["1", "-1", "0"]) == ("-1", "0", "1")


def test_map_valid_skips_values_that_cannot_be_read():
    assert list(map_valid(parse_number, ["1", "x", "2"])) == [1.0, 2.0]


def test_a_second_reading_of_labels_with_semicolons_is_shown():
    kind, reason = infer_problem_type(["cat;pet", "dog;pet", "cow;pet"] * 5)
    assert kind == SINGLE_LABEL
    assert '--multi-label reads several in each: "cat;pet"' in reason
    assert "--multi-label" not in infer_problem_type(["cat", "dog;pet"] * 5)[1]
