"""headway serve: models over HTTP."""

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.errors import HeadwayError
from ...core.extras import require
from ...core.visible import visible
from ..onednn_cache import limit_kernel_cache
from ..options import DEVICE, LONG_TEXTS, PRECISION, chosen_options, with_options

if TYPE_CHECKING:
    from ..model_registry import ModelRegistry
    from .access import Access
    from .limits import Limits
    from .prompts import NamedPrompt

FIRST_PORT = 8000
NUM_PORTS = 100  # ports to try when none is given
# Windows reserves ranges of ports for itself, and says EACCES.
PORT_IN_USE = (errno.EADDRINUSE, errno.EACCES) if sys.platform == "win32" else (errno.EADDRINUSE,)
BACKLOG = 2048  # connections waiting to be accepted
KEY_VARIABLE = "HEADWAY_KEY"
NUM_USES = 3  # predict, embed, generate
SWITCH_INTERVAL = 5e-4  # seconds; Python's 5e-3 makes a batch wait for the interpreter lock at each of its layers

MODELS = typer.Argument(
    metavar="MODEL",
    help="Model folders, names on the Hub, or prompts that `headway prompt --save` wrote (.yaml, served at /prompt). "
    "Default: the built-in models.",
)
HOST = typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0 stands for all addresses of the machine.")
PORT = typer.Option(metavar="N", help=f"Port to listen on. Default: the first free one from {FIRST_PORT}.")
KEY = typer.Option(
    metavar="TEXT",
    envvar=KEY_VARIABLE,
    help="API key that clients send as `Authorization: Bearer TEXT`. Other users of this machine can see a key given "
    "here, but not one in HEADWAY_KEY.",
)
ROOT_PATH = typer.Option(metavar="PATH", help="Path under which a reverse proxy serves the app, such as /models.")


def serve(
    models: Annotated[list[str] | None, MODELS] = None,
    host: Annotated[str, HOST] = "127.0.0.1",
    port: Annotated[int | None, PORT] = None,
    key: Annotated[str | None, KEY] = None,
    precision: Annotated[str, PRECISION] = "auto",
    device: Annotated[str, DEVICE] = "auto",
    long_texts: Annotated[str | None, LONG_TEXTS] = None,
    root_path: Annotated[str, ROOT_PATH] = "",
    *,
    limits: dict[str, Any],
) -> None:
    """Serve models over HTTP: headway serve runs/reviews --port 8000

    The page /docs describes the API; with a key, a browser asks for it as the password of any user name. Short texts
    that arrive together are computed as one batch; long ones are computed window by window between them.
    A model whose files are replaced is opened again at its next request, and the log says so. SIGTERM or Ctrl+C stops
    the server after it has finished the accepted requests.
    """
    require("serve", "Serving models")
    limit_kernel_cache()
    from ...tasks import is_saved_prompt
    from ..model_registry import MAX_OPEN, ModelRegistry
    from .access import Access
    from .limits import Limits
    from .prompts import open_prompts

    chosen = Limits(**chosen_options(limits))
    key = chosen_key(key)
    prompts = [name for name in models or () if is_saved_prompt(name)]
    registry = ModelRegistry(
        [name for name in models or () if name not in prompts],
        built_in=not models,
        precision=precision,
        device=device,
        long_texts=long_texts,
        max_open=max(MAX_OPEN, NUM_USES * len(models or ())),
    )
    with listen(host, port) as listener:
        if key is None and not is_loopback(listener):
            print(
                f"headway: anyone who can reach {host} can use these models. Set HEADWAY_KEY to require a key.",
                file=sys.stderr,
            )
        open_all(registry)
        opened = open_prompts(prompts, registry)
        access = Access(key, accepted_hosts(listener, host, key))
        run(registry, listener, access, chosen, root_path, prompts=opened)


def chosen_key(given: str | None) -> str | None:
    """The API key without surrounding white space, such as the newline of a file; None if there is no key.

    Args:
        given: value of --key or HEADWAY_KEY.

    Raises:
        HeadwayError: the key is empty.
    """
    if given is None:
        given = os.environ.get(KEY_VARIABLE)  # Typer ignores an empty variable, which would open the server to anyone
    if given is not None and not given.strip():
        raise HeadwayError("--key (or HEADWAY_KEY) is empty. Give a key, or omit it.")
    return given and given.strip()


def listen(host: str, port: int | None, first: int = FIRST_PORT) -> socket.socket:
    """A listening socket at the given port, or at the first free one from `first`.

    Raises:
        HeadwayError: this machine has no such address, or the port is in use or not allowed.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise HeadwayError(
            f"--host {host}: {error.strerror}. Use 127.0.0.1 or another address of this machine."
        ) from error
    ports = range(first, first + NUM_PORTS) if port is None else [port]
    for candidate in ports:
        listener = socket.socket(family)
        if sys.platform == "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)  # no other server at the same port
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # reuse a stopped server's port
        try:
            listener.bind((address[0], candidate, *address[2:]))
            listener.listen(BACKLOG)  # two sockets may bind the same port until one listens
        except (OSError, OverflowError) as error:
            listener.close()
            in_use = isinstance(error, OSError) and error.errno in PORT_IN_USE
            if in_use and port is None:
                continue
            if in_use:
                message = f"--port {port} is in use. Choose another one, or omit it for the first free one."
                raise HeadwayError(message) from error
            reason = error.strerror if isinstance(error, OSError) else "a port is a number from 0 to 65535"
            raise HeadwayError(f"--host {host} --port {candidate}: {reason}. Choose another one.") from error
        return listener
    raise HeadwayError(f"The ports {ports[0]} to {ports[-1]} are all in use. Choose one with --port.")


def is_loopback(listener: socket.socket) -> bool:
    """Whether a socket can be reached from this machine only."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def accepted_hosts(listener: socket.socket, host: str, key: str | None) -> tuple[str, ...]:
    """The Host headers that a server accepts: those of this machine if only this machine can reach it; else all.

    Without a key, a page of another site could use the server with a name that resolves to this machine.
    """
    from .access import LOOPBACK_NAMES

    return (*LOOPBACK_NAMES, host) if key is None and is_loopback(listener) else ()


def open_all(registry: "ModelRegistry") -> None:
    """Opens every model, so that a model that cannot be read is an error before the server starts.

    Raises:
        HeadwayError: a model cannot be opened.
    """
    for entry in registry.entries():
        if entry.task is not None:
            registry.task_model(entry.name)
        elif entry.model == "bert":
            registry.embedder(entry.name)
        else:
            registry.language_model(entry.name)


def run(
    registry: "ModelRegistry",
    listener: socket.socket,
    access: "Access",
    limits: "Limits",
    root_path: str,
    *,
    prompts: "Sequence[NamedPrompt]" = (),
) -> None:
    """Serves until SIGTERM or SIGINT, then finishes the accepted requests."""
    import uvicorn

    from .api import create_api
    from .stopping import QuietServer, stopped_by_signals

    api = create_api(registry, key=access.key, hosts=access.hosts, limits=limits, prompts=prompts)

    class Server(QuietServer):
        """Reports the address after the models have been warmed up."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await api.state.serving.warm_up()
            await super().startup(sockets)
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            names = ", ".join(one.name for one in (*registry.entries(), *prompts))
            print(f"{visible(names)}: http://{shown}:{port}{root_path}/docs (press Ctrl+C to stop)", flush=True)

    config = uvicorn.Config(
        api,
        root_path=root_path,
        log_level="warning",
        access_log=False,  # /metrics counts the requests
        server_header=False,
        ws="none",
        backlog=BACKLOG,
    )
    sys.setswitchinterval(SWITCH_INTERVAL)
    with stopped_by_signals():
        Server(config, grace=limits.timeout + 1).run([listener])


def serve_command() -> Callable[..., None]:
    """The command with the options of `Limits`."""
    from ...core.options import options_of
    from .limits import Limits

    return with_options(serve, limits=options_of(Limits))
