"""Prints the lowest supported version of each dependency and feature package, as constraints of pip.

pip install ".[test]" --constraint <(python .ci/minimum_versions.py)
"""

import re
import tomllib
from pathlib import Path

DEVELOPMENT = {"test", "bench", "docs"}  # their tools are taken as they are


def minimum_versions() -> dict[str, str]:
    """Package -> the version after >=."""
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *(one for name in extras.keys() - DEVELOPMENT for one in extras[name])]
    found = (re.match(r"([\w.-]+)>=([\d.]+)", one) for one in listed)
    return {match[1]: match[2] for match in found if match}


if __name__ == "__main__":
    for package, version in sorted(minimum_versions().items()):
        print(f"{package}=={version}")
