"""headway ui: all of it in a browser, for people who do not program; and the HTTP API beside it, under /api.

The page is Gradio's, drawn by tabs/, one file a tab. It asks nothing of the internet: system fonts, no analytics,
and a policy by which the browser refuses every request to another machine.
"""

import asyncio
import hmac
import os
import webbrowser
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.atomic_files import user_path
from ...core.errors import HeadwayError
from ..http.serve import KEY, ROOT_PATH, chosen_key, is_loopback, listen, stopped_by_signals
from ..onednn_cache import limit_kernel_cache
from ..options import PRECISION, with_options

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI

    from ..model_registry import ModelRegistry
    from ..runs.jobs import Jobs

LOOPBACK = "127.0.0.1"
LOOPBACK_NAMES = ("localhost", LOOPBACK, "[::1]")  # by which a browser on this machine asks for it
FIRST_PORT = 7860  # Gradio's own
RUNS = Path("runs")
MOST_UPLOADED = 200  # MB of a file
MOST_WAITING = 200  # events in the queue
HOUR = 3600  # seconds
SECONDS_TO_END = 3  # for what is under way when the server ends
PAGES = Path(__file__).parents[1] / "pages"


def build_app(registry: "ModelRegistry", jobs: "Jobs") -> "gr.Blocks":
    """The page with its tabs.

    Args:
        registry: the models.
        jobs: the training runs.
    """
    return _in_loop(partial(_drawn, registry, jobs))


def _in_loop(function: Callable[[], Any]) -> Any:
    """Calls a function of Gradio's while an event loop runs: without one it makes many, and closes none."""

    async def called() -> Any:
        return function()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(called())
    return function()


def _drawn(registry: "ModelRegistry", jobs: "Jobs") -> "gr.Blocks":
    import gradio as gr

    from .tab_context import TabContext
    from .tabs import look_inside, prompt, train, try_it, write

    tabs = {"try": try_it, "train": train, "prompt": prompt, "write": write, "inside": look_inside}
    with gr.Blocks(title="Headway", analytics_enabled=False, delete_cache=(HOUR, 24 * HOUR)) as app:
        gr.HTML('<header class="hw-head"><h1>Headway</h1><p>BERT and GPT-2 on your texts</p></header>')
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as drawn:
            model = gr.Dropdown(label="Model", allow_custom_value=True, render=False, elem_id="model")
            context = TabContext(registry, jobs, drawn, model, app)
            for name, tab in tabs.items():
                with gr.Tab(tab.TITLE, id=name):
                    tab.draw(context)
    return app.queue(max_size=MOST_WAITING, default_concurrency_limit=8)


def serve_app(
    registry: "ModelRegistry",
    jobs: "Jobs",
    *,
    key: str | None = None,
    hosts: Collection[str] = (),
    root_path: str = "",
    most_uploaded: int = MOST_UPLOADED,
    ready: Callable[[], None] = lambda: None,
) -> "FastAPI":
    """The page at `/` and the HTTP API at `/api`, for a server to run.

    Args:
        registry: the models.
        jobs: the training runs.
        key: what people must say to use either; None: nothing.
        hosts: the only names under which it may be asked for; none: any.
        root_path: where a proxy has put the whole.
        most_uploaded: MB of a file.
        ready: called when all is about to be served.
    """
    import gradio as gr
    from fastapi import FastAPI

    from ..http.api import create_api
    from .middleware import AfterTheLast, StayHome
    from .theme import FRAME, app_theme

    api = create_api(registry, key=key)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with api.router.lifespan_context(api):  # those of mounted apps are not run by themselves
            ready()
            yield
        jobs.close()

    whole = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    whole.mount("/api", api)
    whole.add_middleware(StayHome, hosts=hosts)
    whole.add_middleware(AfterTheLast)
    page = build_app(registry, jobs)

    def is_key(_: str, said: str) -> bool:
        return key is not None and hmac.compare_digest(said.encode(), key.encode())

    mount = partial(
        gr.mount_gradio_app,
        whole,
        page,
        path="/",
        auth=None if key is None else is_key,
        auth_message="Any user name will do; the password is the key that was set when the program was started.",
        root_path=root_path or None,
        show_error=False,
        max_file_size=f"{most_uploaded}mb",
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        pwa=False,
        theme=app_theme(),
        head=FRAME,
        css_paths=[PAGES / "app.css"],
        favicon_path=str(PAGES / "icon.svg"),
    )
    page.has_launched = (
        True  # from when on Gradio refuses paths of files that were not uploaded; a mount leaves it out
    )
    return _in_loop(mount)


# The command.


def ui(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL", help="Models to begin with: folders, or names on the Hub.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help=f"Where it is served. Left out: {LOOPBACK}, this machine only."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=65535, help=f"Left out: the first free one from {FIRST_PORT}."),
    ] = None,
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Where what is trained in the browser goes.")] = RUNS,
    root_path: Annotated[str, ROOT_PATH] = "",
    key: Annotated[str | None, KEY] = None,
    hub: Annotated[bool, typer.Option("--hub", help="Let people use models of the Hub by their names.")] = False,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    most_uploaded: Annotated[
        int, typer.Option("--max-upload", metavar="MB", min=1, help="The largest file that people may upload.")
    ] = MOST_UPLOADED,
    precision: Annotated[str, PRECISION] = "auto",
) -> None:
    """Open all this in your browser: use models, train them, ask with a prompt, write, look inside.

    It is served to this machine alone unless --host says otherwise, and needs no internet.
    """
    limit_kernel_cache()
    import uvicorn

    from ..model_registry import ModelRegistry
    from ..runs.jobs import Jobs
    from ..terminal import screen

    key = chosen_key(key)
    console = screen()
    host = host or LOOPBACK  # whatever GRADIO_SERVER_NAME says: nobody is to be let in by chance
    port = port or _port_of(os.environ.get("GRADIO_SERVER_PORT"))
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    runs = user_path(runs)
    registry = ModelRegistry(models or (), runs=runs, hub=hub, precision=precision)
    with listen(host, port, FIRST_PORT) as listener:
        alone = is_loopback(listener)
        address = f"http://{'localhost' if alone else host}:{listener.getsockname()[1]}"

        def ready() -> None:
            console.print(f"Headway is at {address}{root_path}   (Ctrl+C ends it)")
            if not no_open and has_screen():
                webbrowser.open(address)

        if not alone and key is None:
            console.print(f"Whoever can reach {host} can use it, upload files and train. Say --key to ask for a key.")
        app = serve_app(
            registry,
            Jobs(runs),
            key=key,
            # A page on the internet can have its own name lead here, but it cannot know the key.
            hosts=(*LOOPBACK_NAMES, host) if alone and key is None else (),
            root_path=root_path,
            most_uploaded=most_uploaded,
            ready=ready,
        )
        config = uvicorn.Config(
            app, log_level="warning", root_path=root_path, timeout_graceful_shutdown=SECONDS_TO_END
        )
        with stopped_by_signals():
            uvicorn.Server(config).run(sockets=[listener])


def _port_of(said: str | None) -> int | None:
    if said is None:
        return None
    if not said.isdecimal() or not 0 < int(said) < 65536:
        raise HeadwayError(f"GRADIO_SERVER_PORT is {said!r}; it must be a number from 1 to 65535.")
    return int(said)


def has_screen() -> bool:
    """Whether a browser could be seen here: not on a server without a display."""
    return (
        os.name == "nt" or os.uname().sysname == "Darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
    )


def ui_command() -> Callable[..., None]:
    """The command with all its options."""
    return with_options(ui)
