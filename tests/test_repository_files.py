"""The files for contributors and the Hub of the project: they are valid and name commands that exist."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from headway.ui.cli import COMMANDS

CHECKOUT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FORMS = sorted(path for path in (CHECKOUT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def test_the_citation_names_this_version_and_the_maintainers():
    cited = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert (cited["version"], cited["license"]) == (PROJECT["version"], PROJECT["license"])
    assert cited["authors"] == PROJECT["authors"]


def test_the_changelog_has_an_entry_for_this_version():
    text = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{PROJECT['version']}]" in text or f"it becomes version {PROJECT['version']}" in text


@pytest.mark.parametrize("page", [*PAGES, *(str(path.relative_to(CHECKOUT)) for path in FORMS)])
def test_every_command_that_is_named_exists(page):
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"`headway ([a-z][a-z-]+)", text)) <= COMMANDS.keys()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_have_the_fields_that_github_requires(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)
    for field in form["body"]:
        assert field["type"] in {"textarea", "input", "dropdown", "checkboxes", "markdown"}
        assert field["attributes"]["label"]


def test_reports_of_errors_ask_for_the_output_of_doctor_and_check():
    assert len(FORMS) == 3
    for name in ("error", "data"):
        labels = (CHECKOUT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text(encoding="utf-8")
        assert "Output of `headway doctor" in labels
        assert "Output of `headway check" in labels


def test_the_floors_and_pages_that_contributors_are_shown_exist():
    text = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:core|tasks|tests|\.ci)/[\w/.]*\w)`", text))
    assert len(named) > 4
    assert [path for path in named if not (CHECKOUT / path).exists()] == []
