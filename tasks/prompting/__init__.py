"""Few-shot prompting: labels chosen and answers written by a language model that is not trained."""

from .prompt import Prompt

__all__ = ["Prompt"]
