"""The guide is built without warnings: every link, anchor, name and directive of its pages is right."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from guide_blocks import CHECKOUT, DOCS

pytestmark = pytest.mark.docs
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", "html"]
    built = subprocess.run([*sphinx, "-d", str(folder / "doctrees"), str(DOCS), str(folder)], capture_output=True)
    assert built.returncode == 0, built.stderr.decode()
    return folder


def test_the_guide_is_built_without_warnings(site: Path):
    assert (site / "index.html").exists()
    assert (site / "searchindex.js").exists()


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_of_the_readme_leads_somewhere():
    readme = CHECKOUT / "README.md"
    targets = [link for link in LINK.findall(readme.read_text(encoding="utf-8")) if not re.match(r"\w+:", link)]
    assert len(targets) >= 5
    for target in targets:
        path, _, anchor = target.partition("#")
        page = CHECKOUT / path if path else readme
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), target
