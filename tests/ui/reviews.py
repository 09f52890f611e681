"""64 reviews in two classes that a tiny model learns in seconds."""

from pathlib import Path

ADJECTIVES = {"good": ["good", "great", "lovely", "fine"], "bad": ["bad", "awful", "poor", "dull"]}
THINGS = ["film", "book", "meal", "room", "play", "song", "walk", "game"]
REVIEWS = [
    (f"{start} {adjective} {thing}", label)
    for thing in THINGS
    for label, adjectives in ADJECTIVES.items()
    for adjective, start in zip(adjectives, ["what a", "a really", "it was a", "such a"], strict=True)
]


def write_reviews(path: Path, header: str = "text,label") -> Path:
    """Writes the reviews to a CSV file."""
    path.write_text("\n".join([header, *(f"{text},{label}" for text, label in REVIEWS)]) + "\n", encoding="utf-8")
    return path
