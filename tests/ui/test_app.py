"""The browser app without a browser: its events, the server and the command."""

import asyncio
import json
import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from fastapi.testclient import TestClient
from gradio.utils import get_upload_folder
from headway.core.errors import HeadwayError
from headway.tasks import load
from headway.ui.browser import middleware
from headway.ui.browser.app import build_app, has_display, serve_app
from headway.ui.browser.events import bind, message_of, with_errors
from headway.ui.browser.middleware import CLOSE_SECONDS, CONTENT_SECURITY_POLICY, StreamOrdering
from headway.ui.http.access import LOOPBACK_NAMES
from headway.ui.runs.jobs import Jobs
from page_elements import Page

# Events.


def test_a_headway_error_is_shown_as_its_message():
    def fails(text: str) -> tuple[str, str]:
        raise HeadwayError(f"<b>{text}</b> is wrong. Fix it.")

    *skipped, shown = with_errors(fails, 2)("it")
    assert skipped == [gr.skip(), gr.skip()]
    assert Page(shown).text == "<b>it</b> is wrong. Fix it."
    assert with_errors(lambda text: text.upper(), 1)("fine") == ("FINE", "")
    assert with_errors(lambda: None, 0)() == ("",)

    def breaks() -> Iterator[str]:
        yield "one"
        raise HeadwayError("Then it broke.")

    first, second = with_errors(breaks, 1)()
    assert first == ("one", "")
    assert "Then it broke." in second[-1]


def test_an_internal_error_is_not_caught():
    def broken() -> str:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        with_errors(broken, 1)()


def test_a_repeated_press_is_ignored_and_no_change_is_dropped():
    async def draw() -> gr.Blocks:
        with gr.Blocks() as page:
            error_box, box, button = gr.HTML(), gr.Textbox(), gr.Button()
            pressed = bind([button.click, box.submit], lambda: None, [], [], error_box)
            bind(pressed.success, lambda: None, [], [], error_box)
            bind([box.change], lambda: None, [], [], error_box)
            bind(box.blur, lambda: None, [], [], error_box)
        return page

    assert [one.trigger_mode for one in asyncio.run(draw()).fns.values()] == ["once", *["always_last"] * 3]


def test_an_uploaded_file_is_named_without_its_folder():
    path = Path(get_upload_folder()) / "0123456789abcdef" / "my file.csv"
    assert message_of(HeadwayError(f"{path}, line 3: wrong.")) == "my file.csv, line 3: wrong."


# The server.


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def client(registry, runs) -> Iterator[TestClient]:
    app = serve_app(registry, Jobs(runs), max_upload=1)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_the_page_and_the_api_are_served_side_by_side(client):
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "Headway" in page.text
    assert "fonts.googleapis" not in page.text + client.get("/theme.css").text
    health = client.get("/api/health")
    assert health.status_code == 200
    assert "content-security-policy" not in health.headers or "unsafe-eval" not in str(health.headers)
    answer = client.post("/api/predict", json={"model": "model", "inputs": ["a good film"]})
    assert answer.json()["predictions"][0]["label"] in ("good", "bad")
    assert client.get("/docs").status_code == 404


def test_an_event_that_runs_again_has_a_single_function(registry, tmp_path):
    with Jobs(tmp_path) as jobs:
        page = build_app(registry, jobs)
    bound = defaultdict(list)
    for fn in page.fns.values():
        for component, event in fn.targets:
            if event not in ("then", "success") and fn.fn is not None:  # of a component, with a function of the server
                bound[component, event].append(fn.trigger_mode)
    assert len(bound) > 50
    assert [who for who, modes in bound.items() if len(modes) > 1 and "always_last" in modes] == []


def test_every_computing_event_has_a_queue_of_its_kind(registry, tmp_path):
    with Jobs(tmp_path) as jobs:
        page = build_app(registry, jobs)
    computing = [fn for fn in page.fns.values() if fn.concurrency_id in ("predictions", "files")]
    assert len(computing) > 15
    assert {(fn.concurrency_id, fn.concurrency_limit) for fn in computing} == {("predictions", 1), ("files", 16)}
    assert all(fn.api_visibility == "private" for fn in page.fns.values() if fn.fn is not None)


def test_only_uploads_and_results_are_served(client, runs, tmp_path, registry):
    secret = runs / "secret.txt"
    secret.write_text("a secret", encoding="utf-8")
    folder = registry.find("model").folder
    for path in (secret, "/etc/passwd", folder / "config.json", Path.cwd() / "config.json", f"{tmp_path}/../x"):
        answer = client.get(f"/gradio_api/file={path}")
        assert answer.status_code in (403, 404)
        assert "a secret" not in answer.text
    for address in ("http://example.com/", "https://example.com/x"):
        assert client.get(f"/gradio_api/file={address}").status_code == 404
    assert client.get("/gradio_api/proxy=https://x.hf.space/").status_code == 404


def test_a_path_in_place_of_an_upload_is_refused(client, tmp_path):
    config = client.get("/config").json()
    secret = tmp_path / "secret.csv"
    secret.write_text("text\na secret\n", encoding="utf-8")
    files = {one["id"] for one in config["components"] if one["type"] == "file"}
    (event, *_) = [
        one for one in config["dependencies"] if one["backend_fn"] and len(one["inputs"]) == 2
        and one["inputs"][1] in files
    ]  # fmt: skip
    for path in (str(secret), "/etc/passwd", "http://127.0.0.1:9/x"):
        given = {"path": path, "meta": {"_type": "gradio.FileData"}}
        body = {"data": ["model", given], "fn_index": event["id"], "session_hash": "x"}
        answer = client.post("/gradio_api/run/predict", json=body)
        assert answer.status_code >= 400
        assert "a secret" not in answer.text


def test_a_new_event_is_answered_after_the_page_has_processed_the_end_of_its_stream(monkeypatch):
    clock, slept = [100.0], []

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0)
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(middleware, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(middleware, "asyncio", SimpleNamespace(sleep=sleep))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b'data: {"event_id":null,"msg":"close_stream"}' if scope["method"] == "GET" else b'{"event_id":"e"}'
        if scope["method"] == "POST":
            assert json.loads((await receive())["body"])["session_hash"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    ordering, sent = StreamOrdering(app), []

    async def request(method: str, what: str, session: str) -> None:
        query = f"session_hash={session}".encode()
        scope = {"type": "http", "method": method, "path": f"/gradio_api/queue/{what}", "query_string": query}
        body = {"type": "http.request", "body": json.dumps({"session_hash": session}).encode()}

        async def send(message: Any) -> None:
            if "body" in message:
                sent.append((method, session, clock[0]))

        async def receive() -> Any:
            return body

        await ordering(scope, receive, send)

    async def run() -> None:
        await request("GET", "data", "mine")
        await asyncio.gather(request("POST", "join", "mine"), request("POST", "join", "another's"))
        await request("POST", "join", "mine")

    asyncio.run(run())
    later = 100.0 + CLOSE_SECONDS
    assert sent == [
        ("GET", "mine", 100.0), ("POST", "another's", 100.0), ("POST", "mine", later), ("POST", "mine", later)
    ]  # fmt: skip
    assert slept == [pytest.approx(CLOSE_SECONDS), 0.0]


def test_an_upload_over_the_limit_is_refused(client):
    fine = client.post("/gradio_api/upload", files={"files": ("a.csv", b"text\na film\n")})
    assert fine.status_code == 200
    too_large = client.post("/gradio_api/upload", files={"files": ("a.csv", b"x" * 1_200_000)})
    assert too_large.status_code == 413


def test_the_key_protects_the_page_and_the_api(registry, tmp_path):
    app = serve_app(registry, Jobs(tmp_path / "runs"), key="sesame")
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/config").status_code == 401
        assert client.post("/api/predict", json={"model": "model", "inputs": ["a"]}).status_code == 401
        assert client.post("/login", data={"username": "me", "password": "wrong"}).status_code == 400
        assert client.post("/login", data={"username": "me", "password": "sesame"}).status_code == 200
        assert client.get("/config").status_code == 200


def test_requests_of_other_sites_and_other_host_names_are_refused(registry, tmp_path, client):
    app = serve_app(registry, Jobs(tmp_path / "runs"), hosts=LOOPBACK_NAMES)
    with TestClient(app, raise_server_exceptions=False) as alone:
        for host in ("localhost", "LOCALHOST:7860", "127.0.0.1:7860", "[::1]:7860", "[::1]"):
            assert alone.get("/config", headers={"host": host}).status_code == 200
        for host in ("evil.example", "evil.example:7860", "localhost.evil.example", "", "127.0.0.1.evil.example"):
            for path in ("/", "/config", "/api/info"):
                refused = alone.get(path, headers={"host": host})
                assert refused.status_code == 403
                assert "Use localhost" in refused.text
        assert "Use localhost" in alone.get("/api/info", headers={"host": "x"}).json()["error"]["message"]
    file = {"files": ("a.csv", b"text\na film\n")}
    for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
        headers = {"host": "example.org", "sec-fetch-site": site}
        assert client.post("/gradio_api/upload", files=file, headers=headers).status_code == status
        body = {"model": "model", "inputs": ["a good film"]}
        assert client.post("/api/predict", json=body, headers=headers).status_code == status
        assert client.get("/", headers=headers).status_code == 200  # a link of another site is allowed


def test_the_app_works_behind_a_proxy_with_a_path(registry, tmp_path):
    app = serve_app(registry, Jobs(tmp_path / "runs"), root_path="/headway")
    headers = {"host": "example.org", "x-forwarded-proto": "https", "x-forwarded-host": "example.org"}
    with TestClient(app, raise_server_exceptions=False, root_path="/headway") as client:
        page = client.get("/headway/", headers=headers)  # the proxy removed the prefix and the server added it
        assert page.status_code == 200
        root = json.loads(client.get("/headway/config", headers=headers).text)["root"]
        assert root == "https://example.org/headway"
        assert client.get("/headway/api/health").status_code == 200
        kept = client.get("/headway/headway/config", headers=headers)  # the proxy kept the prefix
        assert kept.status_code == 200
        assert kept.json()["root"] == root


# The command.


@pytest.fixture
def served(monkeypatch) -> list[Any]:
    """The configurations and addresses of servers, which are not started."""
    import uvicorn

    found: list[Any] = []

    def run(self: uvicorn.Server, sockets: list[Any]) -> None:
        found.append((self.config, sockets[0].getsockname()))

    monkeypatch.setattr(uvicorn.Server, "run", run)
    return found


def test_the_command_serves_this_machine_only_at_the_next_free_port(headway, served, trained):
    first = headway("ui", trained, "--no-open")
    assert first.code == 0, first.err
    (_, (host, port)) = served[0]
    assert host == "127.0.0.1"
    assert port >= 7860


def test_only_host_opens_the_app_to_other_machines(headway, served, trained, monkeypatch):
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    assert headway("ui", trained, "--no-open").code == 0
    assert headway("ui", trained, "--no-open", "--key", "x").code == 0
    assert headway("ui", trained, "--no-open", "--host", "0.0.0.0").code == 0
    assert [host for _, (host, _) in served] == ["127.0.0.1", "127.0.0.1", "0.0.0.0"]
    answers = [TestClient(one.app).get("/api/health", headers={"host": "evil.example"}) for one, _ in served]
    assert [answer.status_code for answer in answers] == [403, 200, 200]


@pytest.fixture
def created(monkeypatch, served) -> list[Any]:
    """The registries and training runs of applications, which are not served."""
    found: list[Any] = []
    monkeypatch.setattr("headway.ui.browser.app.serve_app", lambda *given, **options: found.append((*given, options)))
    return found


def test_a_tilde_stands_for_the_home_folder(headway, created, trained, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "options.yaml").write_text("runs: ~/mine\n")
    assert headway("ui", trained, "--no-open", "--runs=~/mine").code == 0
    assert headway("ui", "~/model", "--no-open", "--config=~/options.yaml").code == 0
    for registry, jobs, _ in created:
        assert registry.runs == jobs.runs == folder / "mine"
        assert registry.entries()[0].name == "model"
        jobs.close()


def test_ctrl_c_stops_the_app_without_an_error(headway, created, trained, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    # as uvicorn does after its shutdown
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    ran = headway("ui", trained, "--no-open")
    assert (ran.code, ran.err) == (0, "")
    assert signal.getsignal(signal.SIGINT) == before


def test_the_key_is_stripped_and_must_not_be_empty(headway, created, trained, monkeypatch):
    monkeypatch.setenv("HEADWAY_KEY", " sesame\n")
    assert headway("ui", trained, "--no-open", "--host", "0.0.0.0").code == 0
    assert created[0][2]["key"] == "sesame"
    monkeypatch.setenv("HEADWAY_KEY", "")
    ran = headway("ui", trained, "--no-open", "--host", "0.0.0.0")
    assert (ran.code, "HEADWAY_KEY) is empty" in ran.err) == (2, True)


def test_bad_arguments_are_errors_and_public_access_is_warned_about(headway, served, trained):
    assert "--port" in headway("ui", trained, "--port", 99999).err
    assert "There is no model folder" in headway("ui", "./no/such folder", "--no-open").err
    assert "is empty" in headway("ui", trained, "--key", " ", "--no-open").err
    ran = headway("ui", trained, "--host", "0.0.0.0", "--no-open")
    assert "can use the app" in ran.out
    assert "can use the app" not in headway("ui", trained, "--host", "0.0.0.0", "--key", "x", "--no-open").out


def test_a_browser_is_opened_only_with_a_display(monkeypatch):
    if os.name == "posix" and os.uname().sysname != "Darwin":
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert not has_display()
        monkeypatch.setenv("DISPLAY", ":0")
        assert has_display()


def test_the_registry_opens_models_that_predict_the_same(registry, trained_once):
    texts = ["a good film", "an awful meal"]
    assert [registry.task_model("model").predict(text).label for text in texts] == [
        one.label for one in load(trained_once).predict(texts)
    ]
