"""A question about a context of twenty thousand words: the answer is found at any position, in bounded memory."""

from pathlib import Path

import pytest
import torch
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.heads import Network, SpanHead
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks.base.inference import predict_examples
from headway.tasks.data.features import Features, group_windows
from headway.tasks.data.read import read_table
from headway.tasks.question_answering.question_answering import QuestionAnswering

WORDS = 20_000
LIMIT = 512
TASK = QuestionAnswering(says_none=True)
PEAK = Path("/proc/self/clear_refs")  # Linux: writing 5 here resets the peak of the memory


@pytest.fixture(scope="module")
def tokenizer(wordpiece_folder: Path) -> Tokenizer:
    return Tokenizer.load(wordpiece_folder)


@pytest.fixture(scope="module")
def finder(tokenizer: Tokenizer) -> Network:
    """A BERT without attention, whose head scores the token "London" as the answer."""
    torch.manual_seed(0)
    config = BertConfig(
        tokenizer.vocab_size, max_positions=LIMIT, hidden_size=64, num_layers=2, num_heads=2, intermediate_size=128
    )
    backbone, head = Bert(config).eval(), SpanHead(config)
    first, *_, last = [*tokenizer.encode("London").ids] * 2
    with torch.no_grad():
        backbone.position_embedding.weight.zero_()
        backbone.segment_embedding.weight.zero_()
        for block in backbone.blocks:
            block.attn.out.weight.zero_()
            block.mlp.down.weight.zero_()
        seen = backbone.embedding_norm(backbone.token_embedding.weight)
        for row, token in enumerate((first, last)):
            head.classifier.weight[row] = 16 * seen[token] / seen[token].square().sum()
    return Network(backbone, head).eval()


def context_with(position: int) -> str:
    words = ["cat"] * WORDS
    words[position] = "London"
    return " ".join(words)


def windows_of(context: str, tokenizer: Tokenizer) -> list[Features]:
    table = read_table([{"question": "where?", "context": context}])
    columns = TASK.columns(table, {}, need_label=False)
    features = TASK.encode(TASK.examples(table, columns, labelled=False), tokenizer, LIMIT)
    (windows,) = group_windows(features)
    return windows


def positions(tokenizer: Tokenizer) -> list[int]:
    """Words at both ends of the text, at the edges of windows, and next to them."""
    parts = windows_of(context_with(0), tokenizer)[0].metadata.passage.windows
    assert len(parts) > 40
    assert parts[-1].stop == WORDS  # each word is a token
    return [0, parts[1].start - 1, parts[1].start, parts[0].stop - 1, parts[0].stop, parts[20].start, WORDS - 1]


def read_peak(name: str) -> float:
    """The memory of this process in MB: VmRSS is the present, VmHWM the peak since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def test_an_answer_is_found_at_both_ends_and_at_the_edges_of_windows(tokenizer, finder):
    for position in positions(tokenizer):
        context = context_with(position)
        (prediction,) = predict_examples(TASK, finder, [windows_of(context, tokenizer)])
        assert prediction.answer == "London"
        assert prediction.start == 4 * position
        assert context[prediction.start : prediction.end] == "London"
        assert prediction.unread_tokens == 0


@pytest.mark.linux
def test_twenty_thousand_words_take_little_memory(tokenizer, finder):
    def growth(words: int) -> float:
        context = context_with(0)[: 4 * words]
        PEAK.write_text("5")
        before = read_peak("VmRSS")
        (prediction,) = predict_examples(TASK, finder, [windows_of(context, tokenizer)])
        assert prediction.answer == "London"
        return read_peak("VmHWM") - before

    growth(2_000)  # caches
    assert growth(WORDS) < 60
