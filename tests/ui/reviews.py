"""64 reviews in two classes that a tiny model learns in seconds."""

from pathlib import Path

ADJECTIVES = {"good": ["good", "great", "lovely", "fine"], "bad": ["bad", "awful", "poor", "dull"]}
WRONG = (6, 11, 23)  # lines of `write_wrong_reviews`
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


def write_wrong_reviews(path: Path) -> Path:
    """The reviews with markup in every text, and three wrong labels: mini-bert suspects these and that of line 22."""
    other = {"good": "bad", "bad": "good"}
    lines = [
        f"{text} <script>alert(1)</script>,{other[label] if line in WRONG else label}"
        for line, (text, label) in enumerate(REVIEWS, 2)
    ]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return path
