"""The files that `headway predict` writes: tables, workbooks, entities."""

import json
from pathlib import Path

import openpyxl
import pytest
from headway.core.training.training_config import TrainConfig
from headway.tasks import MultipleChoice, TokenClassification
from headway.tasks.data.read import read_table
from headway.ui.cli import main
from ran_commands import Headway

FAST = TrainConfig(max_steps=2, batch_size=8, learning_rate=1e-3, precision="fp32", device="cpu")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text('id,text\n1,a lovely film\n2,"=HYPERLINK(""http://x.y"")"\n')
    return path


def test_a_workbook_has_a_column_for_each_label(trained: Path, data: Path):
    assert main(["predict", str(trained), "--data", str(data), "--output", "out.xlsx"]) == 0
    header, first, second = openpyxl.load_workbook("out.xlsx").active.iter_rows(values_only=True)
    assert header[:4] == ("id", "text", "label", "score")
    assert all(str(name).startswith("score_") for name in header[4:])
    assert sum(float(str(value)) for value in first[4:]) == pytest.approx(1, abs=2e-3)
    assert second[1] == '=HYPERLINK("http://x.y")'


def test_formulas_are_defused_on_request_only(trained: Path, data: Path):
    for name, options in (("plain.csv", []), ("excel.csv", ["--for-excel", "--output-delimiter", ";"])):
        assert main(["predict", str(trained), "--data", str(data), "--output", name, *options]) == 0
    texts = [[row["text"] for row in read_table(name, header=True).rows][1] for name in ("plain.csv", "excel.csv")]
    assert texts == ['=HYPERLINK("http://x.y")', '\'=HYPERLINK("http://x.y")']
    assert ";0," in Path("excel.csv").read_text(encoding="utf-8-sig")


def test_options_of_the_output_need_an_output(trained: Path, data: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["predict", str(trained), "--data", str(data), "--for-excel"]) == 2
    assert "--for-excel applies to an output file" in capsys.readouterr().err
    assert main(["predict", str(trained), "--data", str(data), "--output", "out.conll"]) == 2
    assert "named entities" in capsys.readouterr().err
    assert not Path("out.conll").exists()


def test_entities_are_written_as_conll_and_as_rows(tiny: Path, capsys: pytest.CaptureFixture[str]):
    words = [["a", "film"], ["where", "is", "Ada"]] * 4
    tagger = TokenClassification().on(tiny)
    tagger.fit(words, [["O", "B-X"], ["O", "O", "B-PER"]] * 4, config=FAST, output="tagger")
    Path("in.txt").write_text("a film\nwhere is Ada\n")
    for options in (["--output", "out.conll"], ["--output", "out.csv", "--entity-rows"]):
        assert main(["predict", "tagger", "--data", "in.txt", *options]) == 0
    assert "2 predictions" in capsys.readouterr().out
    assert [line.split("\t")[0] for line in Path("out.conll").read_text().splitlines()] == [
        *("a", "film", "", "where", "is", "Ada", "")
    ]
    assert Path("out.csv").read_text().startswith("text,row,entity,label,start,end,score\n")


def test_a_table_for_excel_has_the_separator_of_the_input_and_rows_without_text_are_counted(
    trained: Path, capsys: pytest.CaptureFixture[str]
):
    Path("german.csv").write_text("text;id\na fine film;1\n ;2\n;3\n")
    for name, options in (("plain.csv", []), ("excel.csv", ["--for-excel"])):
        assert (
            main(["predict", str(trained), "--data", "german.csv", "--text", "text", "--output", name, *options]) == 0
        )
        assert "2 rows have no text; their predictions mean nothing" in capsys.readouterr().err
    assert Path("plain.csv").read_text().startswith("text,id,")
    assert Path("excel.csv").read_text(encoding="utf-8-sig").startswith("text;id;")


@pytest.mark.parametrize("options", [[], ["--long-texts", "cut"]])
def test_rows_say_whether_their_text_was_truncated_if_texts_are_cut(headway, trained: Path, options: list[str]):
    Path("long.csv").write_text("text\n" + "a lovely film " * 40 + "\na film\n")
    given = ["predict", trained, "--data", "long.csv", *options]
    lines = [json.loads(line) for line in headway(*given, "--json").out.splitlines()]
    assert [line.get("truncated") for line in lines] == ([True, False] if options else [None, None])
    ran = headway(*given, "--output", "out.csv")
    assert ("1 of 2 texts are too long for the model and were truncated" in ran.err) == bool(options)
    rows = read_table("out.csv", header=True).rows
    assert [row.get("truncated") for row in rows] == (["true", "false"] if options else [None, None])
    if options:
        assert [int(row["num_tokens"]) for row in rows] == [line["num_tokens"] for line in lines]


def test_the_scores_of_choices_are_shown_with_their_texts(headway: Headway, tiny: Path):
    rows = [{"context": "a film", "choices": ["it was good", "it was bad"], "label": i % 2} for i in range(4)]
    MultipleChoice().on(tiny).fit(rows, output="chooser", config=FAST, eval_fraction=0)
    ran = headway("predict", "chooser", "a film", "--choices", "it was good | it was bad")
    assert (ran.code, ran.err) == (0, "")
    lines = [line.split() for line in ran.out.splitlines()[-2:]]
    assert sorted(" ".join(line[:3]) for line in lines) == ["it was bad", "it was good"]
    assert sum(float(line[3]) for line in lines) == pytest.approx(1, abs=2e-3)
