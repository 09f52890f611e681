"""The map of the packages in the guide names each package once."""

import re
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ROOM = re.compile(r"^\| `((?:core|tasks|ui)[\w/]*)` \| (.+) \|$", re.M)


def test_the_map_of_the_guide_has_every_package_once():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = [name for name in project["tool"]["setuptools"]["packages"] if name != "headway"]
    folders = [name.removeprefix("headway.").replace(".", "/") for name in packages]
    rooms = ROOM.findall((CHECKOUT / "docs/how-it-works.md").read_text(encoding="utf-8"))
    assert sorted(room for room, _ in rooms) == sorted(folders), "docs/how-it-works.md, section Rooms"
    assert all(what for _, what in rooms)
