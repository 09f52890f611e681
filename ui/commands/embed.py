"""headway embed, headway search and headway words: vectors of texts and words, and their nearest neighbours."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ...core.options import Option
from ..options import (
    DEVICE,
    JSON_LINES,
    MODEL,
    OVERWRITE,
    chosen_options,
    read_value,
    reading_options,
    refuse_without_file,
    with_options,
)
from .results import show_written

if TYPE_CHECKING:
    from ...tasks import Embedder
    from ...tasks.data.rows import RowStream

COLUMN = typer.Option(metavar="COLUMN", help="Column of the texts. Default: inferred from the data.")
TOP = typer.Option(metavar="N", parser=read_value("top", int), help="Number of results.")


def embed(
    model: Annotated[str, MODEL],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts to compare with one another.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="A file of any length.")] = None,
    text: Annotated[str | None, COLUMN] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the vectors to a .npy, or rows with vectors to a .parquet or .jsonl."
        ),
    ] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
    json: Annotated[bool, JSON_LINES] = False,
    *,
    reading: dict[str, Any],
    embedding: dict[str, Any],
) -> None:
    """Turn a column of texts into vectors, or compare a few texts.

    A sentence-transformers folder is used with its own pooling. For other models the default is the mean of all
    tokens. A text that is longer than the model reads is embedded in windows; with --long-texts cut only its beginning
    is, as by sentence-transformers, and each row says whether its text was truncated, and its number of tokens.
    """
    from ...tasks.data.read import stream_rows
    from ..terminal import show_notes

    if bool(texts) == (data is not None):
        raise HeadwayError('Give either texts (headway embed MODEL "a text" "another") or a file (--data FILE).')
    if (data is None) != (output is None):
        raise HeadwayError("--data and --output must be used together: one file is read, the other is written.")
    refuse_without_file(reading, data)
    embedder = _open(model, embedding)
    if data is not None and output is not None:
        stream = stream_rows(data, **reading)
        show_notes(stream.notes)
        column = embedder.text_column(stream, text)
        note_column(stream, column, text)
        _embed_file(embedder, stream, column, output, overwrite=overwrite, json=json)
    else:
        _compare(embedder, texts or [], json)


def note_column(stream: "RowStream", column: str, chosen: str | None) -> None:
    """Says which column the texts are in, if it was inferred and could be another one."""
    from ..terminal import show_notes

    if chosen is None and len(stream.columns) > 1:
        show_notes([f'text: column "{column}" (--text COLUMN chooses another)'])


def _open(model: str, embedding: dict[str, Any]) -> "Embedder":
    from ...tasks import Embedder

    return Embedder(model, **chosen_options(embedding))


def _embed_file(
    embedder: "Embedder", stream: "RowStream", column: str | None, output: Path, *, overwrite: bool, json: bool
) -> None:
    from ...tasks.data.write import with_prediction
    from ...tasks.embedding.vectors_file import VectorsWriter
    from ..terminal import counting, is_main_process

    if not is_main_process():
        for _ in embedder.embed_rows(stream, column):
            pass  # all processes compute, the main process writes
        return
    start = time.monotonic()
    with VectorsWriter(output, embedder.size, overwrite) as writer, counting("vectors") as add:
        for rows, vectors, lengths in embedder.embed_rows(stream, column):
            if embedder.config.long_texts == "cut":
                pairs = zip(rows, lengths, strict=True)
                rows = [with_prediction(row, length.to_json()) for row, length in pairs]
            writer.write(rows, vectors)
            add(len(rows))
    seconds = time.monotonic() - start
    what = f"{writer.written:,} vectors with {embedder.size:,} dimensions"
    show_written(output, writer.written, what, seconds, json=json, size=embedder.size, cut=embedder.num_cut)
    _note_truncated(embedder)


def _note_truncated(embedder: "Embedder") -> None:
    """Says how many texts were not read completely, after they have been embedded."""
    from ..terminal import show_notes

    if embedder.num_cut:
        truncated = f"{embedder.num_cut:,} of {embedder.num_texts:,} texts were truncated to {embedder.limit:,} tokens"
        show_notes([f"{truncated}; --long-texts windows embeds complete texts"])


def _compare(embedder: "Embedder", texts: list[str], json: bool) -> None:
    from ...tasks.embedding.embedder import cosines
    from ..terminal import print_json, screen, show_similarities, show_vector

    vectors = embedder.embed(texts)
    similarities = cosines(vectors, vectors)
    if json:
        lengths = [one.to_json() if embedder.config.long_texts == "cut" else {} for one in embedder.measure(texts)]
        for text, vector, row, length in zip(texts, vectors.tolist(), similarities.tolist(), lengths, strict=True):
            print_json({"text": text, "vector": vector, "similarities": row, **length})
    elif len(texts) == 1:
        show_vector(screen(), vectors[0].tolist())
    else:
        show_similarities(screen(), texts, similarities.tolist())
    _note_truncated(embedder)


def search(
    model: Annotated[str, MODEL],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="The text to search for.")],
    data: Annotated[str, typer.Option(metavar="FILE", help="The file to search.")],
    text: Annotated[str | None, COLUMN] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Vectors of the file: a .npy written by headway embed with this model."),
    ] = None,
    top: Annotated[int, TOP] = 10,
    json: Annotated[bool, JSON_LINES] = False,
    *,
    reading: dict[str, Any],
    embedding: dict[str, Any],
) -> None:
    """Find the rows of a file that are closest in meaning to a query.

    With --vectors the rows are not embedded again.
    """
    from ...tasks.data.read import stream_rows
    from ...tasks.data.write import with_prediction
    from ...tasks.embedding.search import search
    from ...tasks.embedding.vectors_file import read_vectors
    from ..terminal import print_json, screen, show_hits, show_notes

    stored = None if vectors is None else read_vectors(vectors)
    embedder = _open(model, embedding)
    stream = stream_rows(data, **reading)
    show_notes(stream.notes)
    column = embedder.text_column(stream, text)
    note_column(stream, column, text)
    hits = search(embedder, query, stream, column=column, vectors=stored, top=top)
    _note_truncated(embedder)
    if json:
        for hit in hits:
            print_json(with_prediction(hit.row, hit.to_json(with_length=embedder.config.long_texts == "cut")))
    else:
        show_hits(screen(), [(hit.score, str(hit.row.get(column) or "")) for hit in hits])


def words(
    model: Annotated[str, MODEL],
    expressions: Annotated[
        list[str], typer.Argument(metavar="WORD", help='Words, or sums of words such as "king - man + woman".')
    ],
    sentence: Annotated[
        list[str] | None,
        typer.Option("--in", metavar="SENTENCE", help="A sentence that contains the word; repeat for each sentence."),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(metavar="N", parser=read_value("layer", int), help="With --in: the layer. Default: the last."),
    ] = None,
    top: Annotated[int, TOP] = 10,
    device: Annotated[str, DEVICE] = "auto",
    json: Annotated[bool, JSON_LINES] = False,
) -> None:
    """Find the words nearest to a word or to a sum of words, or compare one word across sentences.

    headway words MODEL bank --in "We sat on the river bank." --in "The savings bank is closed."
    """
    from ...tasks import Embedder

    if sentence and len(expressions) > 1:
        raise HeadwayError("--in compares one word across sentences: omit the other words.")
    if layer is not None and not sentence:
        raise HeadwayError("--layer applies to a word in sentences: add --in SENTENCE or omit --layer.")
    embedder = Embedder(model, pooling="mean", layer=layer, device=device)
    if sentence:
        _compare_in_context(embedder, expressions[0], sentence, json)
    else:
        _show_nearest(embedder, expressions, top, json)


def _compare_in_context(embedder: "Embedder", word: str, sentences: list[str], json: bool) -> None:
    from ...tasks.embedding.word_vectors import compare_contexts
    from ..terminal import print_json, screen, show_in_context

    found = compare_contexts(embedder, word, sentences)
    if not json:
        show_in_context(screen(), found)
        return
    places = [
        {"sentence": place.sentence, "start": place.start, "end": place.end, "static": static, "cosines": row}
        for place, static, row in zip(found.occurrences, found.to_static.tolist(), found.cosines.tolist(), strict=True)
    ]
    print_json({"word": word, "places": places})


def _show_nearest(embedder: "Embedder", expressions: list[str], top: int, json: bool) -> None:
    from ...tasks.embedding.word_vectors import WordTable
    from ..terminal import print_json, screen, show_neighbours

    table = WordTable(embedder)
    for expression in expressions:
        nearest = table.nearest(expression, top)
        if json:
            print_json({"words": expression, "nearest": [{"word": one.word, "score": one.score} for one in nearest]})
        else:
            show_neighbours(screen(), expression, nearest)


def _embedding_options() -> list[Option]:
    from ...core.options import options_of
    from ...tasks.embedding.embedder import EmbeddingConfig

    return options_of(EmbeddingConfig)


def embed_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(embed, reading=reading_options(), embedding=_embedding_options())


def search_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(search, reading=reading_options(), embedding=_embedding_options())


def words_command() -> Callable[..., None]:
    """Builds the command with all its options."""
    return with_options(words)
