"""What the card of a sentence-similarity model says about itself."""

from typing import TYPE_CHECKING

from ...core.models.gpt2 import GPT2Config
from ..base.card_text import CardText

if TYPE_CHECKING:
    from ...core.models.heads import Network
    from .similarity import SentenceSimilarity

POOLED = {
    "mean": "the mean of all tokens",
    "first": "the first token",
    "last": "the last token",
    "max": "the largest number of all tokens at each place",
    "mean_sqrt": "the sum of all tokens over the root of their number",
    "weighted_mean": "a mean in which later tokens count for more",
}


def card_text(task: "SentenceSimilarity", network: "Network", name: str) -> CardText:
    """The card's parts: what the vectors are, how to ask for them with Headway and without, and what to mind."""
    pooling = task.pooled
    size = pooling.size(network.config.hidden_size)
    stands = f"{task.lowest:g} stands for a cosine of 0, {task.highest:g} for 1"
    learnt = {
        "scores": f"It learnt from pairs with scores; {stands}.",
        "pairs": "It learnt from pairs of texts that belong together, each held against the others of its batch.",
    }.get(task.objective or "", "")
    how = " and ".join(POOLED[mode] for mode in pooling.modes)
    length = ", with length 1" * pooling.normalize
    answers = f"A text's vector has {size:,} numbers: {how}{length}. Likeness is the cosine of two vectors. {learnt}"
    return CardText(
        summary="It turns texts into vectors that are near one another where the texts mean the same.",
        answers=answers.strip(),
        shell="\n".join(
            [
                f'headway predict {name} "A text." --pair "Another text."',
                f"headway embed {name} --data FILE --output vectors.npy",
                f'headway search {name} "What I look for" --data FILE',
            ]
        ),
        python='print(model.predict(("A text.", "Another text.")).similarity)',
        transformers="\n".join(
            [
                "from sentence_transformers import SentenceTransformer",
                "",
                f'model = SentenceTransformer("{name}")',
                *(
                    ["model.tokenizer.pad_token = model.tokenizer.eos_token"]
                    if isinstance(network.config, GPT2Config)
                    else []
                ),
                'result = model.similarity(model.encode("A text."), model.encode("Another text."))',
                "print(result)",
            ]
        ),
        limits=tuple(_limits(task, network)),
    )


def _limits(task: "SentenceSimilarity", network: "Network") -> list[str]:
    limit = task.limit(network.config.max_positions, "")
    long = (
        f"A text of more than {limit:,} tokens is cut: only its beginning is read."
        if task.long_texts == "cut"
        else f"A text of more than {limit:,} tokens is read in overlapping windows, whose vectors are averaged; "
        "sentence-transformers cuts it."
    )
    return [long, "Likeness is what the training data took for it; elsewhere, measure it on pairs of your own."]
