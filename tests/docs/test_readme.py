"""The README is short, starts with the two commands of a newcomer, and its figures are those of the benchmarks."""

import re

from guide_blocks import CHECKOUT, DOCS, blocks

README = CHECKOUT / "README.md"


def test_the_first_two_blocks_install_headway_and_run_the_tests():
    first, second = [block.content for block in blocks(README) if block.language == "sh"][:2]
    assert first == 'pip install ".[ui]" && headway quickstart\n'
    assert second == 'pip install ".[test]" && pytest\n'


def test_it_is_one_screen_and_a_half():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 110


def test_its_pictures_are_small():
    pictures = re.findall(r'(?:srcset|src)="([^"]+)"', README.read_text(encoding="utf-8"))
    assert len(pictures) == 2
    assert all((CHECKOUT / picture).stat().st_size < 200_000 for picture in pictures)


def test_its_six_ratios_are_in_the_tables_of_the_benchmarks():
    ratios = re.findall(r"\| (\d+\.\d\d) \|$", README.read_text(encoding="utf-8"), re.M)
    cells = set(re.findall(r"(?<=\| )\d+\.\d\d(?= \|)", (DOCS / "benchmarks.md").read_text(encoding="utf-8")))
    assert len(ratios) == 6
    assert cells >= set(ratios)
