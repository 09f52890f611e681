"""A local Hugging Face Hub: the part of its HTTP API that huggingface_hub and `datasets` use.

It lists repositories, answers HEAD and GET requests for files (with Range, to resume a download), takes commits of
users with a token, and reports errors with the Hub's X-Error-Code. Follows https://huggingface.co/docs/hub/api and the
requests of the official client.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)(/(?P<what>[\w-]+)/(?P<rev>[^/]+)(/(?P<path>.*))?)?"
)
FILE = re.compile(r"/((?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")


NO_XET = {"HF_HUB_DISABLE_XET": "1"}  # the protocol of large files that this Hub does not have


@dataclass
class Repository:
    """The files of every commit, and the newest commit of every branch."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)  # of uploaded commits
    gated: bool = False
    private: bool = False

    def add(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Adds a commit to a branch and returns its hash."""
        commit = hashlib.sha1(f"{id(self)} {len(self.commits)}".encode()).hexdigest()
        self.commits[commit] = files
        self.branches[branch] = commit
        return commit


class FakeHub:
    """A Hub at `url` whose contents, failures and running state the tests control."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []  # "GET /someone/tiny-bert/resolve/COMMIT/config.json"
        self.break_after: dict[str, int] = {}  # file name -> number of bytes after which the connection breaks
        self.break_once = False  # whether the connection breaks only once
        self.status = 0  # a status for all requests, for example 503
        self.users: dict[str, str] = {}  # token -> the user it belongs to
        self.large: dict[str, bytes] = {}  # SHA-256 -> a large file that was uploaded
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listens at the same address as before."""
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.hub = self
        self._port = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def publish(
        self, name: str, files: dict[str, bytes] | Path, kind: str = "models", *, gated: bool = False,
        private: bool = False, branch: str = "main",
    ) -> str:  # fmt: skip
        """Adds a commit with these files (of a folder, if it is a path) and returns its hash."""
        if isinstance(files, Path):
            files = {
                path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*") if path.is_file()
            }
        repository = self.repositories.setdefault(f"{kind}/{name}", Repository())
        repository.gated, repository.private = gated, private
        return repository.add(files, branch)

    def downloaded(self) -> list[str]:
        """The names of the downloaded files, sorted."""
        found = (FILE.fullmatch(request.removeprefix("GET ")) for request in self.requests)
        return sorted({match["path"] for match in found if match})

    def environment(self, home: Path) -> dict[str, str]:
        """Environment variables for a process that uses this Hub and stores its files under `home`."""
        others = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
        return others | {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", **NO_XET}

    @contextmanager
    def used_here(self, home: Path) -> Iterator[pytest.MonkeyPatch]:
        """Lets this process use the Hub, without waiting before retries; yields the MonkeyPatch that does it.

        The libraries have read their environment variables already.
        """
        from huggingface_hub import close_session, constants

        no_wait = SimpleNamespace(sleep=lambda _: None)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("HF_HUB_OFFLINE", "HF_TOKEN"):
                patch.delenv(name, raising=False)
            patch.setenv("NO_PROXY", "127.0.0.1")
            patch.setattr(constants, "HF_HUB_OFFLINE", False)
            patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
            patch.setattr(constants, "ENDPOINT", self.url)
            patch.setattr(
                constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.url + "/{repo_id}/resolve/{revision}/{filename}"
            )
            patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
            patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
            patch.setattr("huggingface_hub.file_download.time", no_wait)
            patch.setattr("huggingface_hub.utils._http.time", no_wait)
            close_session()
            yield patch
            close_session()


class _Server(ThreadingHTTPServer):
    hub: FakeHub

    def handle_error(self, *_: object) -> None:
        """Ignores clients that disconnect."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: object) -> None:
        """Logs nothing: tests read `requests`."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.hub.requests.append(f"PUT {self.path}")
        self.server.hub.large[hashlib.sha256(content).hexdigest()] = content
        self._send(200)

    def _answer(self, body: bytes = b"") -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        asked = API.fullmatch(path) or FILE.fullmatch(path)
        repository = hub.repositories.get(f"{asked['kind'] or 'models'}/{asked['name']}") if asked else None
        if hub.status == 0 and path == "/api/whoami-v2":
            self._send_user()
        elif not hub.status and path == "/api/repos/create":
            self._create(json.loads(body))
        elif not hub.status and path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif not hub.status and path.endswith(".git/info/lfs/objects/batch"):
            self._take_large(json.loads(body))
        elif hub.status:
            self._send(hub.status, {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif asked is None:
            self._send(404)
        elif repository is None or (repository.private and self._user() is None):
            self._send(401, {"X-Error-Code": "RepoNotFound"})  # the answer of the Hub without a login
        elif repository.gated and "resolve" in path:
            self._send(401, {"X-Error-Code": "GatedRepo"})
        else:
            self._from_repository(repository, asked, body)

    def _user(self) -> str | None:
        """Whose token the request has."""
        return self.server.hub.users.get((self.headers["Authorization"] or "").removeprefix("Bearer "))

    def _send_user(self) -> None:
        name = self._user()
        if name is None:
            self._send(401, {"X-Error-Message": "Invalid username or password."})
        else:
            self._send(200, content=json.dumps({"type": "user", "name": name, "orgs": []}))

    def _create(self, wanted: dict[str, str]) -> None:
        name = f"models/{wanted['organization']}/{wanted['name']}"
        url = f"{self.server.hub.url}/{wanted['organization']}/{wanted['name']}"
        if self._user() is None:
            self._send(401, {"X-Error-Message": "Invalid username or password."})
        elif self._user() != wanted["organization"]:
            message = "You don't have the rights to create a model under this namespace"
            self._send(403, {"X-Error-Message": message})
        elif name in self.server.hub.repositories:
            message = "You already created this model repo"
            self._send(409, {"X-Error-Message": message}, json.dumps({"error": message, "url": url}))
        else:
            repository = Repository(private=wanted.get("visibility") == "private")
            repository.add({".gitattributes": b""})
            self.server.hub.repositories[name] = repository
            self._send(200, content=json.dumps({"url": url}))

    def _validate(self, card: str) -> None:
        import yaml

        try:
            facts = yaml.safe_load(card.split("---")[1]) if card.startswith("---") else {}
            error = None if isinstance(facts, dict) else "the metadata is no mapping"
        except yaml.YAMLError as problem:
            error = str(problem)
        content = {"errors": [{"message": error}] if error else [], "warnings": []}
        self._send(400 if error else 200, content=json.dumps(content))

    def _take_large(self, wanted: dict[str, list[dict[str, object]]]) -> None:
        url = f"{self.server.hub.url}/large"
        objects = [one | {"actions": {"upload": {"href": f"{url}/{one['oid']}"}}} for one in wanted["objects"]]
        self._send(200, content=json.dumps({"transfer": "basic", "objects": objects}))

    def _upload(self, repository: Repository, asked: re.Match[str], body: bytes) -> None:
        if self._user() != asked["name"].partition("/")[0]:
            self._send(403, {"X-Error-Message": "Forbidden: you need write access to this repository"})
        elif asked["what"] == "branch":
            known = asked["rev"] in repository.branches
            repository.branches.setdefault(asked["rev"], repository.branches["main"])
            self._send(409 if known else 200, content="{}")
        elif asked["what"] == "preupload":
            modes = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["size"] > 10_000 else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            self._send(200, content=json.dumps({"files": modes}))
        else:
            files = dict(repository.commits[repository.branches[asked["rev"]]])
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.server.hub.large[value["oid"]]
                else:
                    repository.messages.append(value["summary"])
            commit = repository.add(files, asked["rev"])
            url = f"{self.server.hub.url}/{asked['name']}/commit/{commit}"
            self._send(200, content=json.dumps({"commitUrl": url, "commitOid": commit}))

    def _from_repository(self, repository: Repository, asked: re.Match[str], body: bytes) -> None:
        if self.command == "POST" and asked["what"] in ("preupload", "commit", "branch"):
            self._upload(repository, asked, body)
            return
        commit = repository.branches.get(asked["rev"] or "main", asked["rev"])
        files = repository.commits.get(commit)
        where = {"X-Repo-Commit": commit}
        if files is None:
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
        elif asked.re is FILE:
            self._send_file(asked["path"], files, where)
        elif asked["what"] == "tree":
            self._send(
                200, where, json.dumps(_tree(files, asked["path"] or "", "recursive=true" in self.path.lower()))
            )
        elif asked["what"] == "paths-info":
            wanted = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
            self._send(200, where, json.dumps([entry for entry in _tree(files, "", True) if entry["path"] in wanted]))
        else:
            siblings = [{"rfilename": name} for name in files]
            self._send(200, where, json.dumps({"id": asked["name"], "sha": commit, "siblings": siblings}))

    def _send_file(self, name: str, files: dict[str, bytes], where: dict[str, str]) -> None:
        if name not in files:
            self._send(404, where | {"X-Error-Code": "EntryNotFound"})
            return
        content = files[name]
        byte_range = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(byte_range[1]) if byte_range else 0
        content_range = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if byte_range else {}
        where |= {"ETag": f'"{_git_id(content)}"'} | content_range
        break_after = self.server.hub.break_after
        end = break_after.get(name, len(content))
        if self.server.hub.break_once and self.command == "GET":
            break_after.pop(name, None)
        self._send(206 if byte_range else 200, where, content[start:], content[start:end])

    def _send(
        self, status: int, headers: dict[str, str] | None = None, content: bytes | str = b"", sent: bytes | None = None
    ) -> None:
        """Sends `content`, or only its part `sent` if the connection breaks."""
        content = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if sent is None else sent)


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _tree(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict[str, object]]:
    below = {name: content for name, content in files.items() if name.startswith(f"{folder}/" if folder else "")}
    folders = {str(parent) for name in below for parent in Path(name).parents} - {".", folder}
    entries = {name: {"type": "directory", "oid": "0" * 40, "size": 0} for name in folders}
    entries |= {name: {"type": "file", "oid": _git_id(one), "size": len(one)} for name, one in below.items()}
    shown = [name for name in entries if recursive or str(Path(name).parent) == (folder or ".")]
    return [{"path": name, **entries[name]} for name in shown]
