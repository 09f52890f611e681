"""The text of a sentence-similarity model's card."""

from ...core.models.gpt2 import GPT2Config
from ...core.models.heads import Config
from ..base.card_text import CardText, shell_word, string
from .pooling import Pooling

POOLING_TEXTS = {
    "mean": "the mean of all tokens",
    "cls": "the first token",
    "last": "the last token",
    "max": "the maximum of all tokens in each dimension",
    "mean_sqrt": "the sum of all tokens divided by the square root of their number",
    "weighted_mean": "a mean of all tokens, weighted by their positions",
}


def similarity_card(
    name: str,
    config: Config,
    pooling: Pooling,
    *,
    limit: int,
    long_texts: str,
    training: str,
) -> CardText:
    """The card of a sentence-similarity model.

    Args:
        name: of the model.
        config: of its backbone.
        pooling: of its vectors.
        limit: tokens per window.
        long_texts: "windows" or "cut".
        training: what the model was trained on, as a sentence; empty if unknown.
    """
    tokens = " and ".join(POOLING_TEXTS[mode] for mode in pooling.modes)
    length = ", normalized to length 1" * pooling.normalize
    vectors = f"The vector of a text has {pooling.size(config.hidden_size):,} numbers: {tokens}{length}."
    pad_token = ["model.tokenizer.pad_token = model.tokenizer.eos_token"] if isinstance(config, GPT2Config) else []
    return CardText(
        summary="It turns texts into vectors that are close if the texts mean the same.",
        answers=f"{vectors} The similarity of two texts is the cosine of their vectors. {training}".strip(),
        shell="\n".join(
            [
                f'headway predict {shell_word(name)} "A text." --pair "Another text."',
                f"headway embed {shell_word(name)} --data FILE --output vectors.npy",
                f'headway search {shell_word(name)} "What I look for" --data FILE',
            ]
        ),
        python='print(model.predict(("A text.", "Another text.")).similarity)',
        transformers="\n".join(
            [
                "from sentence_transformers import SentenceTransformer",
                "",
                f"model = SentenceTransformer({string(name)})",
                *pad_token,
                'result = model.similarity(model.encode("A text."), model.encode("Another text."))',
                "print(result)",
            ]
        ),
        limits=(
            f"A text of more than {limit:,} tokens is cut: only its beginning is read."
            if long_texts == "cut"
            else f"A text of more than {limit:,} tokens is read in overlapping windows, whose vectors are averaged; "
            "sentence-transformers cuts it.",
            "Similarity means what it means in the training data; for other data, evaluate the model on pairs of it.",
        ),
    )
