"""The page on serving has every path and every limit of the server."""

import re
from dataclasses import fields

from guide_blocks import DOCS
from headway.ui.http.api import create_api
from headway.ui.http.limits import Limits
from headway.ui.model_registry import ModelRegistry

PAGE = (DOCS / "serving.md").read_text(encoding="utf-8")


def test_the_page_names_every_path_of_the_server():
    api = create_api(ModelRegistry(built_in=True))
    paths = {route.path for route in api.routes if "{" not in route.path}
    assert {"/predict", "/health"} <= paths
    missing = {path for path in paths if not re.search(rf"`(?:POST |GET )?{re.escape(path)}`", PAGE)}
    assert not missing


def test_the_page_has_the_default_of_every_limit():
    for limit in fields(Limits):
        assert f"| `--{limit.name.replace('_', '-')}` | {limit.default:g} |" in PAGE, limit.name
