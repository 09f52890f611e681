"""Published models to start from: what each is good for, and its size."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedModel:
    """A model on the Hub.

    Args:
        name: on the Hub.
        family: its published model type.
        language: of its training texts.
        good_for: what to choose it for.
        layers: of its backbone.
        hidden_size: of its backbone.
        vocabulary: number of tokens.
        positions: rows of the position embedding.
        segments: rows of the segment embedding.
        task_types: rows of the embedding of the task.
        embedding_size: of the embeddings, if a linear layer follows them.
        shared_layers: whether one layer is applied several times.
    """

    name: str
    family: str
    language: str
    good_for: str
    layers: int
    hidden_size: int
    vocabulary: int
    positions: int = 512
    segments: int = 2
    task_types: int = 0
    embedding_size: int | None = None
    shared_layers: bool = False

    @property
    def parameters(self) -> int:
        """Number of parameters of the backbone."""
        size, width = self.hidden_size, self.embedding_size or self.hidden_size
        embeddings = (self.vocabulary + self.positions + self.segments + self.task_types + 2) * width  # 2: the norm
        projection = (width + 1) * size if self.embedding_size else 0
        return embeddings + projection + (1 if self.shared_layers else self.layers) * (12 * size + 13) * size


MODELS = (
    PublishedModel(
        "distilbert-base-uncased", "distilbert", "English", "a first model: half the time of BERT", 6, 768, 30522,
        segments=0,
    ),
    PublishedModel(
        "bert-base-uncased", "bert", "English", "text in which capital letters do not matter", 12, 768, 30522
    ),
    PublishedModel("bert-base-cased", "bert", "English", "named entities", 12, 768, 28996),
    PublishedModel(
        "google/electra-small-discriminator", "electra", "English", "small machines: a small file, and fast",
        12, 256, 30522, embedding_size=128,
    ),
    PublishedModel(
        "albert-base-v2", "albert", "English", "the smallest file of this width; takes the time of BERT", 12, 768,
        30000, embedding_size=128, shared_layers=True,
    ),
    PublishedModel(
        "nghuyong/ernie-2.0-base-en", "ernie", "English", "as BERT, with more tasks in its pretraining", 12, 768,
        30522, segments=4,
    ),
    PublishedModel(
        "google/electra-base-discriminator", "electra", "English", "high scores, answers in texts", 12, 768, 30522
    ),
    PublishedModel(
        "distilroberta-base", "roberta", "English", "cased text in half the time of RoBERTa", 6, 768, 50265, 514, 1
    ),
    PublishedModel("roberta-base", "roberta", "English", "high scores, texts of the web", 12, 768, 50265, 514, 1),
    PublishedModel(
        "roberta-large", "roberta", "English", "the highest scores, on a GPU", 24, 1024, 50265, 514, 1
    ),
    PublishedModel(
        "distilbert-base-multilingual-cased", "distilbert", "104 languages", "several languages in half the time", 6,
        768, 119547, segments=0,
    ),
    PublishedModel(
        "bert-base-multilingual-cased", "bert", "104 languages", "languages that have no separate model", 12, 768,
        119547,
    ),
    PublishedModel(
        "xlm-roberta-base", "xlm-roberta", "100 languages", "training in one language, predicting in others", 12, 768,
        250002, 514, 1,
    ),
    PublishedModel("camembert-base", "camembert", "French", "French", 12, 768, 32005, 514, 1),
    PublishedModel("bert-base-german-cased", "bert", "German", "German", 12, 768, 30000),
    PublishedModel("bert-base-chinese", "bert", "Chinese", "Chinese", 12, 768, 21128),
    PublishedModel(
        "nghuyong/ernie-3.0-base-zh", "ernie", "Chinese", "Chinese, texts of up to 2,048 tokens", 12, 768, 40000,
        2048, 4, 3,
    ),
    PublishedModel("dmis-lab/biobert-v1.1", "bert", "English", "biomedical texts", 12, 768, 28996),
    PublishedModel("allenai/scibert_scivocab_uncased", "bert", "English", "scientific texts", 12, 768, 31090),
    PublishedModel(
        "sentence-transformers/all-MiniLM-L6-v2", "bert", "English", "embeddings, search, --frozen", 6, 384, 30522
    ),
    PublishedModel(
        "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", "bert", "50 languages",
        "embeddings and search across languages", 12, 384, 250037,
    ),
    PublishedModel("distilgpt2", "gpt2", "English", "generation in half the time", 6, 768, 50257, 1024, 0),
    PublishedModel("gpt2", "gpt2", "English", "generation, prompts without training", 12, 768, 50257, 1024, 0),
    PublishedModel("gpt2-medium", "gpt2", "English", "better text and prompts", 24, 1024, 50257, 1024, 0),
)  # fmt: skip
