"""Parts of a stream that several processes compute in turns."""

import pytest
from headway.core.training.turns import in_turns
from launch_worker import launch


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return launch("turns", 3, tmp_path_factory.mktemp("turns"))


def squares(count: int) -> list[list[int]]:
    return [[i, i * i] for i in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_the_main_process_gets_all_results_in_order_and_the_others_none(reports: list[dict], count: int):
    assert [report[str(count)] for report in reports] == [squares(count), [], []]
    assert [list(pair) for pair in in_turns(range(count), lambda part: part * part)] == squares(count)


@pytest.mark.parametrize("place", [0, 1, 2, 4])
def test_an_error_is_raised_at_its_part_and_ends_all_processes(reports: list[dict], place: int):
    for name, message in (("error", "part 99 cannot be computed"), ("unreadable", f"part {place} cannot be read")):
        first, *others = (report[f"{name} {place}"] for report in reports)
        assert first == [*squares(place), ["HeadwayError", message]]
        assert others == [[["SharedError", message]]] * 2


def test_the_main_process_may_stop_early(reports: list[dict]):
    assert [report["stopped"] for report in reports] == [squares(2), [], []]
    assert reports[0]["after"] == squares(6)


def test_each_process_computes_its_own_parts_only(reports: list[dict]):
    assert [report["computed"] for report in reports] == [[0, 3], [1, 4], [2, 5]]
