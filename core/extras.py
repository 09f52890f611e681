"""Packages that only an extra of the installation brings: `pip install "headway[ui]"` installs gradio and others."""

from importlib.util import find_spec

from .errors import HeadwayError

# Extra of pyproject.toml -> the modules that its features cannot do without.
EXTRAS = {
    "ui": ("gradio", "fastapi", "uvicorn", "orjson", "prometheus_client", "matplotlib"),
    "serve": ("fastapi", "uvicorn", "orjson", "prometheus_client"),
    "datasets": ("datasets", "pyarrow"),
    "plots": ("matplotlib",),
    "onnx": ("onnx", "onnxscript"),
    "text": ("sacrebleu", "rouge_score"),
    "music": ("mido",),
    "spacy": ("spacy",),
}


def require(extra: str, purpose: str) -> None:
    """Refuses what an installation without an extra cannot do; to be called before any work begins.

    Args:
        extra: its name.
        purpose: what needs it, as the beginning of a sentence.

    Raises:
        HeadwayError: a package of the extra is not installed.
    """
    missing = next((module for module in EXTRAS[extra] if not is_installed(module)), None)
    if missing is not None:
        raise HeadwayError(f"{purpose} needs the package {missing}, which is not installed: {install_command(extra)}")


def is_installed(module: str) -> bool:
    """Whether a module can be imported; it is not imported."""
    return find_spec(module) is not None


def install_command(extra: str) -> str:
    """The command that installs an extra, with quotation marks that every shell understands."""
    return f'pip install "headway[{extra}]"'
