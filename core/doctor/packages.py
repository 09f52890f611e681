"""The versions of Python and of the packages that Headway uses, and which extras are installed."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from ..extras import EXTRAS, install_command, is_installed
from .problems import Problem

SHOWN = ("torch", "tokenizers", "safetensors", "accelerate", "huggingface_hub", "numpy", "scikit-learn")
NOT_NEEDED = ("transformers", "datasets", "gradio", "onnxruntime")  # shown too; reports of errors need them


def installed_version(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """The versions of Headway, Python and the main packages; None for one that is not installed."""
    packages = {name: installed_version(name) for name in ("headway", *SHOWN, *NOT_NEEDED)}
    return {"headway": packages.pop("headway"), "python": platform.python_version(), **packages}


def missing_of_extras() -> dict[str, list[str]]:
    """The modules of each extra that are not installed."""
    return {extra: [one for one in modules if not is_installed(one)] for extra, modules in EXTRAS.items()}


def package_problems() -> Iterator[Problem]:
    """Packages that are missing, of another version than Headway needs, or installed in part."""
    for requirement in map(Requirement, requires("headway") or []):
        extra = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        found = installed_version(requirement.name)
        if found is None and not extra:
            yield Problem("error", f"The package {requirement.name} is not installed.", _install(requirement))
        elif found is not None and not requirement.specifier.contains(found, prereleases=True):
            needs = f"{requirement.name} {found} is installed, and Headway needs {requirement.specifier}."
            yield Problem("warning" if extra else "error", needs, _install(requirement))
    for extra, missing in missing_of_extras().items():
        if 0 < len(missing) < len(EXTRAS[extra]) and extra != "ui":
            message = f"The extra {extra} is installed in part: {', '.join(missing)} is missing."
            yield Problem("warning", message, install_command(extra))


def _install(requirement: Requirement) -> str:
    return f'pip install "{requirement.name}{requirement.specifier}"'
