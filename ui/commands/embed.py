"""headway embed, headway search, headway words: texts and words as vectors, and what is near to what."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ...core.options import Option
from ..options import HEADER, JSON, chosen_options, read_value, with_options

if TYPE_CHECKING:
    from ...tasks import Embedder

MODEL = typer.Argument(metavar="MODEL", help="Any BERT or GPT-2: its folder, its name on the Hub, or a built-in one.")
COLUMN = typer.Option(metavar="COLUMN", help="Column of the texts. Left out: it is told.")
TOP = typer.Option(metavar="N", parser=read_value("top", int), help="How many are shown.")


def embed(
    model: Annotated[str, MODEL],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts, which are compared with one another.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="A file of any length.")] = None,
    text: Annotated[str | None, COLUMN] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the vectors go: .npy; with their rows .parquet or .jsonl."),
    ] = None,
    header: Annotated[bool | None, HEADER] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file.")] = False,
    json: Annotated[bool, JSON] = False,
    *,
    embedding: dict[str, Any],
) -> None:
    """Turn texts into vectors: a column of a file, or a few texts that are compared.

    A sentence-transformers folder is read with its own pooling. Of any other model the mean of all tokens is taken,
    unless you say something else.
    """
    if bool(texts) == (data is not None):
        raise HeadwayError('Give either texts (headway embed MODEL "a text" "another") or a file (--data FILE).')
    if (data is None) != (output is None):
        raise HeadwayError("--data and --output go together: texts are read from one file, vectors go to another.")
    embedder = _open(model, embedding)
    if data is not None and output is not None:
        _embed_file(embedder, data, text, output, header, overwrite, json)
    else:
        _compare(embedder, texts or [], json)


def _open(model: str, embedding: dict[str, Any]) -> "Embedder":
    from ...tasks import Embedder

    return Embedder(model, **chosen_options(embedding))


def _embed_file(
    embedder: "Embedder",
    data: str,
    column: str | None,
    output: Path,
    header: bool | None,
    overwrite: bool,
    json: bool,
) -> None:
    from ...tasks.data.read import stream_rows
    from ...tasks.embedding.vectors_file import VectorsWriter
    from ..terminal import counting, print_json, screen, speaks

    stream = stream_rows(data, header=header)
    if not speaks():
        return  # one of several processes does it
    began = time.monotonic()
    with VectorsWriter(output, embedder.size, overwrite) as writer, counting("vectors") as told:
        for rows, vectors in embedder.embed_rows(stream, column):
            writer.write(rows, vectors)
            told(len(rows))
    seconds = time.monotonic() - began
    if json:
        print_json(
            {
                "output": str(output),
                "examples": writer.written,
                "size": embedder.size,
                "cut": embedder.num_cut,
                "seconds": seconds,
            }
        )
        return
    console = screen()
    rate = writer.written / max(seconds, 1e-9)
    console.print(f"{output}: {writer.written:,} vectors of {embedder.size:,} numbers ({rate:,.0f} a second)")
    if embedder.num_cut:
        console.print(
            f"{embedder.num_cut:,} texts were cut at {embedder.limit:,} tokens; --long-texts windows reads them whole"
        )


def _compare(embedder: "Embedder", texts: list[str], json: bool) -> None:
    from ...tasks.embedding.embedder import cosines
    from ..terminal import print_json, screen, show_similarities, show_vector

    vectors = embedder.embed(texts)
    similarities = cosines(vectors, vectors)
    if json:
        for text, vector, row in zip(texts, vectors.tolist(), similarities.tolist(), strict=True):
            print_json({"text": text, "vector": vector, "similarities": row})
    elif len(texts) == 1:
        show_vector(screen(), vectors[0].tolist())
    else:
        show_similarities(screen(), texts, similarities.tolist())


def search(
    model: Annotated[str, MODEL],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What is looked for.")],
    data: Annotated[str, typer.Option(metavar="FILE", help="The rows that are searched.")],
    text: Annotated[str | None, COLUMN] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Their vectors, if they are there already: a .npy of headway embed."),
    ] = None,
    top: Annotated[int, TOP] = 10,
    header: Annotated[bool | None, HEADER] = None,
    json: Annotated[bool, JSON] = False,
    *,
    embedding: dict[str, Any],
) -> None:
    """Find the rows of a file that mean most nearly what you say.

    Vectors that headway embed has written spare the time of making them: --vectors vectors.npy.
    """
    from ...tasks.data.read import stream_rows
    from ...tasks.data.write import with_prediction
    from ...tasks.embedding.search import search
    from ...tasks.embedding.vectors_file import read_vectors
    from ..terminal import print_json, screen, show_hits

    made = None if vectors is None else read_vectors(vectors)
    embedder = _open(model, embedding)
    stream = stream_rows(data, header=header)
    column = embedder.text_column(stream, text)
    hits = search(embedder, query, stream, column=column, vectors=made, top=top)
    if json:
        for hit in hits:
            print_json(with_prediction(hit.row, {"row": hit.position, "score": hit.score}))
    else:
        show_hits(screen(), [(hit.score, str(hit.row.get(column) or "")) for hit in hits])


def words(
    model: Annotated[str, MODEL],
    expressions: Annotated[
        list[str], typer.Argument(metavar="WORD", help='Words, or sums of them: "king - man + woman".')
    ],
    sentence: Annotated[
        list[str] | None,
        typer.Option("--in", metavar="SENTENCE", help="Compare the word in such sentences; say it for each."),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(metavar="N", parser=read_value("layer", int), help="With --in: which layer. Left out: the last."),
    ] = None,
    top: Annotated[int, TOP] = 10,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Look at words: which are near, what comes of adding them, what one is in different sentences.

    headway words MODEL bank --in "We sat on the river bank." --in "The savings bank is closed."
    """
    from ...tasks import Embedder
    from ...tasks.embedding.word_vectors import WordTable, in_context
    from ..terminal import print_json, screen, show_in_context, show_neighbours

    if sentence and len(expressions) > 1:
        raise HeadwayError("--in looks at one word at a time: leave the others out.")
    if layer is not None and not sentence:
        raise HeadwayError("--layer is for a word in sentences: add --in SENTENCE, or leave it out.")
    embedder = Embedder(model, pooling="mean", layer=layer)
    if sentence:
        found = in_context(embedder, expressions[0], sentence)
        if json:
            places = [
                {"sentence": place.sentence, "start": place.start, "end": place.end, "static": static, "cosines": row}
                for place, static, row in zip(
                    found.places, found.to_static.tolist(), found.cosines.tolist(), strict=True
                )
            ]
            print_json({"word": expressions[0], "places": places})
        else:
            show_in_context(screen(), found)
        return
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
    """The command with all its options."""
    return with_options(embed, embedding=_embedding_options())


def search_command() -> Callable[..., None]:
    """The command with all its options."""
    return with_options(search, embedding=_embedding_options())


def words_command() -> Callable[..., None]:
    """The command with all its options."""
    return with_options(words)
