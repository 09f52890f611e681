"""headway serve: models answer over HTTP."""

import errno
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ..onednn_cache import keep_few_kernels
from ..options import PRECISION, chosen_options, with_options

if TYPE_CHECKING:
    from ..model_registry import ModelRegistry
    from .middleware import Limits

FIRST_PORT = 8000
PORTS = 100  # that are tried where none is named
BACKLOG = 2048  # connections that wait to be accepted
KEY_VARIABLE = "HEADWAY_KEY"
USES = 3  # that one model may be opened in
SWITCH_SECONDS = 5e-4  # after which a thread may have Python's lock; 5e-3 keeps a batch waiting for each of its layers

MODELS = typer.Argument(
    metavar="MODEL", help="Folders of models, or their names on the Hub; the built-in models if there is none."
)
HOST = typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 is all of the machine's addresses.")
PORT = typer.Option(metavar="N", help=f"Left out: the first from {FIRST_PORT} that is free.")
KEY = typer.Option(
    metavar="TEXT",
    envvar=KEY_VARIABLE,
    help="Ask everybody for it, as `Authorization: Bearer TEXT`. Others on this machine see what is typed here; they "
    "do not see HEADWAY_KEY.",
)
ROOT_PATH = typer.Option(metavar="PATH", help="Path under which a proxy shows the server, such as /models.")


def serve(
    models: Annotated[list[str] | None, MODELS] = None,
    host: Annotated[str, HOST] = "127.0.0.1",
    port: Annotated[int | None, PORT] = None,
    key: Annotated[str | None, KEY] = None,
    precision: Annotated[str, PRECISION] = "auto",
    root_path: Annotated[str, ROOT_PATH] = "",
    *,
    limits: dict[str, Any],
) -> None:
    """Answer over HTTP with your models: headway serve runs/reviews --port 8000

    What it can do is told at /docs. Requests that arrive together are computed together, whatever their lengths.
    SIGTERM or Ctrl+C lets it finish what it has taken.
    """
    keep_few_kernels()
    from ..model_registry import KEPT, ModelRegistry
    from .middleware import Limits

    chosen = Limits(**chosen_options(limits))
    key = chosen_key(key)
    registry = ModelRegistry(
        models or (), built_in=not models, precision=precision, kept=max(KEPT, USES * len(models or ()))
    )
    with listen(host, port) as listener:
        if key is None and not is_loopback(listener):
            print(
                f"headway: everybody who can reach {host} can use these models. Set HEADWAY_KEY to ask for a key.",
                file=sys.stderr,
            )
        open_all(registry)
        run(registry, listener, key, chosen, root_path)


def chosen_key(given: str | None) -> str | None:
    """The key that is asked for, without the white space around it that a file leaves; None where there is none.

    Args:
        given: by --key or HEADWAY_KEY.

    Raises:
        HeadwayError: it is empty.
    """
    if given is None:
        given = os.environ.get(KEY_VARIABLE)  # an empty one is left out by Typer, and everybody would be let in
    if given is not None and not given.strip():
        raise HeadwayError("--key (or HEADWAY_KEY) is empty. Give one with letters, or leave it out.")
    return given and given.strip()


def listen(host: str, port: int | None, first: int = FIRST_PORT) -> socket.socket:
    """A socket bound to a port: the one named, or the first that is free, from `first` on.

    Raises:
        HeadwayError: there is no such address here, or the port is taken or not allowed.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise HeadwayError(
            f"--host {host}: {error.strerror}. Say 127.0.0.1, or an address of this machine."
        ) from error
    ports = range(first, first + PORTS) if port is None else [port]
    for candidate in ports:
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as soon as a server before has ended
        try:
            listener.bind((address[0], candidate, *address[2:]))
            listener.listen(BACKLOG)  # another may be bound as well until one listens
        except (OSError, OverflowError) as error:
            listener.close()
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if taken and port is None:
                continue
            if taken:
                raise HeadwayError(
                    f"--port {port} is taken. Name another, or leave it out for the next free."
                ) from error
            why = error.strerror if isinstance(error, OSError) else "a port is 0 to 65535"
            raise HeadwayError(f"--host {host} --port {candidate}: {why}. Say others.") from error
        return listener
    raise HeadwayError(f"The ports {ports[0]} to {ports[-1]} are all taken. Name one with --port.")


def is_loopback(listener: socket.socket) -> bool:
    """Whether this machine alone can reach it."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """A server in the block is ended by SIGTERM or SIGINT, and that is no error."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda *_: None)  # uvicorn raises the signal again when all is finished
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def open_all(registry: "ModelRegistry") -> None:
    """Opens what will be asked for, so that a model that cannot be read is told before anything is served.

    Raises:
        HeadwayError: one cannot be opened.
    """
    for entry in registry.entries():
        if entry.task is not None:
            registry.task_model(entry.name)
        elif entry.model == "bert":
            registry.embedder(entry.name)
        else:
            registry.language_model(entry.name)


def run(registry: "ModelRegistry", listener: socket.socket, key: str | None, limits: "Limits", root_path: str) -> None:
    """Serves until SIGTERM or SIGINT, and then finishes what was taken."""
    import uvicorn

    from .api import create_api

    api = create_api(registry, key=key, limits=limits)

    class Server(uvicorn.Server):
        """Says that it is ready when the models are warm."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await api.state.serving.warm_up()
            await super().startup(sockets)
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            names = ", ".join(entry.name for entry in registry.entries())
            docs = "/docs" if key is None else ""  # a browser that opens a link sends no key
            print(f"{names}: http://{shown}:{port}{root_path}{docs} (Ctrl+C ends it)", flush=True)

    config = uvicorn.Config(
        api,
        root_path=root_path,
        log_level="warning",
        access_log=False,  # /metrics counts
        server_header=False,
        ws="none",
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(limits.timeout) + 1,
    )
    sys.setswitchinterval(SWITCH_SECONDS)
    with ended_by_signals():
        Server(config).run([listener])


def serve_command() -> Callable[..., None]:
    """The command with all its options."""
    from ...core.options import options_of
    from .middleware import Limits

    return with_options(serve, limits=options_of(Limits))
