"""headway ui: the browser app, for users who do not program, with the HTTP API under /api.

The page is built with Gradio from the tabs in tabs/. It makes no request to the internet: it uses system fonts and no
analytics, and its content security policy makes the browser block requests to other machines.
"""

import asyncio
import hmac
import os
import sys
import webbrowser
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...core.atomic_files import user_path
from ...core.errors import HeadwayError
from ...core.extras import require
from ..http.serve import KEY, ROOT_PATH, accepted_hosts, chosen_key, is_loopback, listen
from ..onednn_cache import limit_kernel_cache
from ..options import DEVICE, LONG_TEXTS, PRECISION, with_options

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI

    from ..model_registry import ModelRegistry
    from ..runs.jobs import Jobs

LOOPBACK = "127.0.0.1"
FIRST_PORT = 7860  # Gradio's default
RUNS = Path("runs")
MAX_UPLOAD = 200  # MB per file
MAX_QUEUE = 200  # events
HOUR = 3600  # seconds
SHUTDOWN_SECONDS = 0.5  # for requests in progress; an open page listens for events and never ends
PAGES = Path(__file__).parents[1] / "pages"
# Screen readers read the answers aloud when they appear.
LIVE_JS = """
() => ['prediction', 'rows', 'scores', 'comparison', 'similar', 'prompt-output', 'metrics', 'report'].forEach(
  (id) => document.getElementById(id)?.setAttribute('aria-live', 'polite')
)
"""


def build_app(registry: "ModelRegistry", jobs: "Jobs") -> "gr.Blocks":
    """Builds the page with its tabs.

    Args:
        registry: the models.
        jobs: the training runs.
    """
    return _call_in_event_loop(partial(_draw_page, registry, jobs))


def _call_in_event_loop(function: Callable[[], Any]) -> Any:
    """Calls a function of Gradio in an event loop; outside one, Gradio creates many and closes none."""

    async def call() -> Any:
        return function()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(call())
    return function()


def _draw_page(registry: "ModelRegistry", jobs: "Jobs") -> "gr.Blocks":
    import gradio as gr

    from .kept_form import QUIET, TAB_JS
    from .tab_context import TabContext
    from .tabs import evaluate, generate, inspection, predict, prompt, train

    tabs = {
        "predict": predict, "train": train, "evaluate": evaluate, "prompt": prompt, "generate": generate,
        "inspect": inspection,
    }  # fmt: skip
    with gr.Blocks(title="Headway", analytics_enabled=False, delete_cache=(HOUR, 24 * HOUR)) as page:
        gr.HTML('<header class="hw-head"><h1>Headway</h1><p>BERT and GPT-2 for your texts</p></header>')
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tab_bar:
            model = gr.Dropdown(label="Model", allow_custom_value=True, render=False, elem_id="model")
            context = TabContext(registry, jobs, tab_bar, model, page)
            for name, tab in tabs.items():
                with gr.Tab(tab.TITLE, id=name):
                    tab.draw(context)
        page.load(None, None, None, js=TAB_JS, **QUIET)
        page.load(None, None, None, js=LIVE_JS, **QUIET)
    return page.queue(max_size=MAX_QUEUE, default_concurrency_limit=8)


def serve_app(
    registry: "ModelRegistry",
    jobs: "Jobs",
    *,
    key: str | None = None,
    hosts: Collection[str] = (),
    root_path: str = "",
    max_upload: int = MAX_UPLOAD,
    ready: Callable[[], None] = lambda: None,
) -> "FastAPI":
    """Creates the ASGI application with the page at `/` and the HTTP API at `/api`.

    Args:
        registry: the models.
        jobs: the training runs, closed at the end of the application.
        key: password of the page and API key; None for open access.
        hosts: accepted Host headers; all if empty.
        root_path: path under which a reverse proxy serves the application.
        max_upload: maximum size of an uploaded file in MB.
        ready: called at the start of the application.
    """
    from fastapi import FastAPI

    from ..http.api import create_api
    from .middleware import SecurityMiddleware, StreamOrdering

    api = create_api(registry, key=key)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with api.router.lifespan_context(api):  # FastAPI does not run the lifespan of a mounted application
            ready()
            yield
        jobs.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/api", api)
    app.add_middleware(SecurityMiddleware, hosts=hosts)
    app.add_middleware(StreamOrdering)
    return _mount_page(app, build_app(registry, jobs), key=key, root_path=root_path, max_upload=max_upload)


def _mount_page(app: "FastAPI", page: "gr.Blocks", *, key: str | None, root_path: str, max_upload: int) -> "FastAPI":
    import gradio as gr

    from .theme import PAGE_STYLE, app_theme

    def is_key(_: str, password: str) -> bool:
        return key is not None and hmac.compare_digest(password.encode(), key.encode())

    mount = partial(
        gr.mount_gradio_app,
        app,
        page,
        path="/",
        auth=None if key is None else is_key,
        auth_message="Enter any user name, and as password the key with which the server was started.",
        root_path=root_path or None,
        show_error=False,
        i18n=gr.I18n(en={"common.complete": "Ready", "common.error": "Error"}),
        max_file_size=f"{max_upload}mb",
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        pwa=False,
        theme=app_theme(),
        head=PAGE_STYLE,
        css_paths=[PAGES / "app.css", PAGES / "train.css", PAGES / "evaluate.css"],
        favicon_path=str(PAGES / "icon.svg"),
    )
    page.has_launched = True  # makes Gradio refuse paths of files that were not uploaded; a mount does not set it
    return _call_in_event_loop(mount)


def ui(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL", help="Model folders or names on the Hub to list first.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help=f"Address to listen on. Default: {LOOPBACK}, this machine only."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=65535, help=f"Port to listen on. Default: the first free one from {FIRST_PORT}."
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the models trained in the browser.")] = RUNS,
    root_path: Annotated[str, ROOT_PATH] = "",
    key: Annotated[str | None, KEY] = None,
    hub: Annotated[bool, typer.Option("--hub", help="Allow users to open any model on the Hub by name.")] = False,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    max_upload: Annotated[
        int, typer.Option("--max-upload", metavar="MB", min=1, help="Maximum size of an uploaded file in MB.")
    ] = MAX_UPLOAD,
    precision: Annotated[str, PRECISION] = "auto",
    device: Annotated[str, DEVICE] = "auto",
    long_texts: Annotated[str | None, LONG_TEXTS] = None,
) -> None:
    """Open the browser app: predict, train, evaluate, prompt, generate and inspect.

    The app is served to this machine only, unless --host is set, and needs no internet.
    """
    require("ui", "The browser app")
    limit_kernel_cache()
    import uvicorn

    from ..http.stopping import QuietServer, stopped_by_signals
    from ..model_registry import ModelRegistry
    from ..runs.jobs import Jobs
    from ..terminal import screen

    key = chosen_key(key)
    console = screen()
    host = host or LOOPBACK  # not GRADIO_SERVER_NAME: only --host may open the app to other machines
    port = port or _parse_port(os.environ.get("GRADIO_SERVER_PORT"))
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("MPLBACKEND", "agg")  # Gradio asks for the backend; matplotlib would search for a GUI
    runs = user_path(runs)
    given = {"precision": precision, "device": device, "long_texts": long_texts}
    registry = ModelRegistry(models or (), runs=runs, hub=hub, **given)
    with listen(host, port, FIRST_PORT) as listener:
        local = is_loopback(listener)
        address = f"http://{'localhost' if local else host}:{listener.getsockname()[1]}"

        def ready() -> None:
            console.print(f"Headway is running at {address}{root_path} (press Ctrl+C to stop)")
            if not no_open and has_display():
                webbrowser.open(address)

        if not local and key is None:
            console.print(f"Anyone who can reach {host} can use the app, upload files and train. Set --key.")
        app = serve_app(
            registry,
            Jobs(runs),
            key=key,
            hosts=accepted_hosts(listener, host, key),
            root_path=root_path,
            max_upload=max_upload,
            ready=ready,
        )
        config = uvicorn.Config(app, log_level="warning", root_path=root_path)
        with stopped_by_signals():
            QuietServer(config, grace=SHUTDOWN_SECONDS).run(sockets=[listener])


def _parse_port(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise HeadwayError(f"GRADIO_SERVER_PORT is {text!r}; it must be a number from 1 to 65535.")
    return int(text)


def has_display() -> bool:
    """Whether this machine can show a browser, unlike a server without a display."""
    return sys.platform in ("win32", "darwin") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())


def ui_command() -> Callable[..., None]:
    """The command with all its options."""
    return with_options(ui)
