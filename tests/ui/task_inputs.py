"""For each task the data of one training step, and inputs to predict."""

from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parents[2] / "tasks/samples"
TEXTS = ["a lovely film", "such a dull walk 🙂", "", "it was a fine meal " * 20, "\x00\x01 null", "\ud83d half a pair"]
CONTEXT = "Ada Lovelace lived in London"
# Task -> training data, inputs.
TRAINING: dict[str, tuple[str, list[Any]]] = {
    "token-classification": ("entities.conll", [CONTEXT, CONTEXT.split(), {"text": "🙂 in London"}, ""]),
    "question-answering": (
        "questions.json",
        [{"question": "who?", "context": CONTEXT}, {"question": "", "context": "\ud83d"}],
    ),
    "multiple-choice": (
        "endings.csv",
        [{"context": CONTEXT, "choices": ["a film", "🙂", "\ud83d"]}, {"context": "", "choices": "a walk | a meal"}],
    ),
    "sentence-similarity": ("scores.csv", [{"text": "a film", "pair": "a song"}, {"text": "", "pair": "🙂"}]),
    "next-sentence-prediction": ("sentences.csv", [{"text": "a film", "pair": "a song"}, {"text": "", "pair": "🙂"}]),
    "fill-mask": ("corpus.txt", ["a [MASK] film", "nothing is masked"]),
    "text-generation": ("corpus.txt", ["a lovely", "🙂"]),
    "text-to-text": ("requests.csv", ["Open the door.", {"input": "🙂"}, "\ud83d"]),
}
FEW_STEPS = ("--max-steps", 1, "--eval-fraction", 0, "--precision", "fp32", "--device", "cpu")
