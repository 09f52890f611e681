"""HTML entities that were left in texts are reported, and replaced by their characters on request."""

import pytest
from data_files import assert_error, reading, write
from headway.tasks.base.check import check_data
from headway.tasks.classification.classification import TextClassification
from headway.tasks.data.html_entities import decode_text
from headway.tasks.data.read import read_table


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("AT&amp;T &lt;b&gt;", "AT&T <b>"),
        ("it&#39;s &#x27;so&#x27;", "it's 'so'"),
        ("Oracle #39;s bid", "Oracle 's bid"),
        ("#36;5 &nbsp;", "$5 \xa0"),
        ("R&D; AT&T; &unknown; &amp no", "R&D; AT&T; &unknown; &amp no"),
        ("issue #39 and a#39;", "issue #39 and a#39;"),
        ("&#0; &#xD800; &#1114112;", "&#0; &#xD800; &#1114112;"),
    ],
)
def test_only_entities_become_characters(text, decoded):
    assert decode_text(text) == decoded


def test_entities_are_a_note_of_the_check_and_are_decoded_on_request(tmp_path):
    lines = ["text,label", "it&#39;s good,a", "R&amp;D is good,a", "no entity here,b", "nor in this,b"]
    path = write(tmp_path, "a.csv", "\n".join(lines))
    (finding,) = [one for one in check_data(TextClassification(), path).findings if one.kind == "html"]
    assert finding.message.startswith('2 of 4 texts have HTML entities: "&#39;" (1), "&amp;" (1)')
    assert finding.places == (f"{path}, line 2", f"{path}, line 3")
    assert "--decode-html" in finding.message
    report = check_data(TextClassification(), path, decode_html=True)
    assert not [one for one in report.findings if one.kind == "html"]
    assert report.first[0].texts == ("it's good",)


def test_words_are_decoded_and_texts_with_offsets_are_refused(tmp_path):
    path = write(tmp_path, "a.conll", "R&amp;D\tB-ORG\nhired\tO\n")
    assert read_table(path, decode_html=True).rows[0]["tokens"] == ["R&D", "hired"]
    for row in (
        '{"text": "R&amp;D", "label": [[0, 7, "ORG"]]}',
        '{"text": "R&amp;D", "spans": [{"start": 0, "end": 7, "label": "ORG"}]}',
        '{"text": "R&amp;D", "label": {"ORG": {"R&amp;D": [[0, 6]]}}}',
        '{"context": "R&amp;D", "answers": {"text": ["D"], "answer_start": [6]}}',
    ):
        path = write(tmp_path, "a.jsonl", row)
        assert_error(reading(path, decode_html=True), f"{path}, line 1", "would move the offsets")
