"""A Hugging Face hub of this process: as much of its HTTP interface as huggingface_hub needs to write and read models.

Source: https://huggingface.co/docs/hub/api and the requests of huggingface_hub itself, which is the real client here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_anna"
LARGE = (".safetensors", ".gz", ".onnx", ".npz", ".bin")  # what the hub keeps in its large file storage


@dataclass
class Repository:
    """Branches and tags by name, each a commit; the files of each commit."""

    private: bool = False
    gated: bool = False
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        """Make these files the newest of a branch; return the commit."""
        sha = hashlib.sha1(repr([branch, len(self.commits), sorted(files.items())]).encode()).hexdigest()
        self.refs[branch], self.commits[sha] = sha, files
        return sha

    def edit(self, name: str, content: bytes | None, branch: str = "main") -> str:
        """Change or remove a file, as on the hub's own page."""
        files = {**self.commits[self.refs[branch]]}
        if content is None:
            del files[name]
        else:
            files[name] = content
        return self.commit(branch, files)


class FakeHub:
    """The repositories, what was asked, and how the hub misbehaves."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.down = False  # the server answers 503
        self.harm: dict[str, bytes] = {}  # what is sent in place of a file's bytes
        self.lie: dict[str, Any] = {}  # what is changed in the answer about a model
        self.url = ""

    def new(self, name: str, files: dict[str, bytes], **how: bool) -> Repository:
        """Make a repository with these files."""
        repository = self.repositories[name] = Repository(**how)
        repository.commit("main", files)
        return repository


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """Serve a hub on this machine."""
    hub = FakeHub()

    class Handler(_Handler):
        of = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    of: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.of.asked.append((self.command, path))
        if self.of.down:
            self._send(503, b"down")
            return
        for method, pattern, act in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method:
                act(self, *found.groups(), body)
                return
        self._send(404, b"no such route")

    @property
    def _may(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _send(self, status: int, content: bytes | object, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        if not isinstance(content, bytes):
            self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def _repository(self, name: str, *, write: bool = False) -> Repository | None:
        repository = self.of.repositories.get(name)
        if (write and not self._may) or repository is None or (repository.private and not self._may):
            self._refuse(401, "RepoNotFound")
            return None
        return repository

    def _files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repository = self._repository(name)
        if repository is None:
            return None
        sha = repository.refs.get(revision, revision)
        if sha not in repository.commits:
            self._refuse(404, "RevisionNotFound")
            return None
        return sha, repository.commits[sha]

    def create(self, body: bytes) -> None:
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else f"anna/{wanted['name']}"
        if not self._may:
            self._send(401, {"error": "Invalid username or password."})
        elif name in self.of.repositories:
            self._send(409, {"error": "exists", "url": f"{self.of.url}/{name}"})
        else:
            private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
            self.of.new(name, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
            self._send(200, {"url": f"{self.of.url}/{name}", "id": name, "name": name})

    def validate(self, body: bytes) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def model(self, name: str, revision: str | None, body: bytes) -> None:
        found = self._files(name, revision or "main")
        if found is not None:
            sha, files = found
            siblings = [{"rfilename": path, **_described(data)} for path, data in sorted(files.items())]
            for sibling in siblings:
                if not str(sibling["rfilename"]).endswith(LARGE):
                    del sibling["lfs"]
            self._send(200, {"id": name, "modelId": name, "sha": sha, "siblings": siblings, **self.of.lie})

    def tree(self, name: str, revision: str, body: bytes) -> None:
        found = self._files(name, revision)
        if found is not None:
            entries = [{"type": "file", "path": path, **_described(data)} for path, data in sorted(found[1].items())]
            for entry in entries:
                entry["oid"] = entry.pop("blobId")
                lfs = entry.pop("lfs")
                if str(entry["path"]).endswith(LARGE):
                    entry["lfs"] = {"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": 100}
            self._send(200, entries)

    def branch(self, name: str, branch: str, body: bytes) -> None:
        repository = self._repository(name, write=True)
        if repository is not None:
            exists = branch in repository.refs
            repository.refs.setdefault(branch, repository.refs["main"])
            self._send(409 if exists else 201, {})

    def preupload(self, name: str, revision: str, body: bytes) -> None:
        if self._repository(name, write=True) is not None:
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self._send(200, {"files": modes})

    def batch(self, name: str, body: bytes) -> None:
        if self._repository(name, write=True) is not None:
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.of.url}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self._send(200, {"transfer": "basic", "objects": objects})

    def upload(self, oid: str, body: bytes) -> None:
        self.of.uploads[oid] = body
        self._send(200, b"")

    def commit(self, name: str, branch: str, body: bytes) -> None:
        repository = self._repository(name, write=True)
        if repository is None:
            return
        files = {**repository.commits[repository.refs[branch]]}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.of.uploads[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(branch, files)
        self._send(200, {"success": True, "commitOid": sha, "commitUrl": f"{self.of.url}/{name}/commit/{sha}"})

    def resolve(self, name: str, revision: str, path: str, body: bytes) -> None:
        found = self._files(name, revision)
        if found is None:
            return
        sha, files = found
        if self.of.repositories[name].gated and not self._may:
            self._refuse(403, "GatedRepo")
        elif path not in files:
            self._refuse(404, "EntryNotFound")
        else:
            described = _described(files[path])
            large = path.endswith(LARGE)
            etag = described["lfs"]["sha256"] if large else described["blobId"]
            linked = {"X_Linked_Etag": f'"{etag}"', "X_Linked_Size": str(described["size"])} if large else {}
            self._send(200, self.of.harm.get(path, files[path]), ETag=f'"{etag}"', X_Repo_Commit=sha, **linked)


def _described(data: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    lfs = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 100}
    return {"size": len(data), "blobId": blob, "lfs": lfs}


_REPOSITORY = r"([^/]+/[^/]+)"
_ROUTES: tuple[tuple[tuple[str, ...], str, Any], ...] = (
    (("POST",), "/api/repos/create", _Handler.create),
    (("POST",), "/api/validate-yaml", _Handler.validate),
    (("GET",), rf"/api/models/{_REPOSITORY}(?:/revision/(.+))?", _Handler.model),
    (("GET",), rf"/api/models/{_REPOSITORY}/tree/([^/]+)", _Handler.tree),
    (("POST",), rf"/api/models/{_REPOSITORY}/branch/(.+)", _Handler.branch),
    (("POST",), rf"/api/models/{_REPOSITORY}/preupload/(.+)", _Handler.preupload),
    (("POST",), rf"/api/models/{_REPOSITORY}/commit/(.+)", _Handler.commit),
    (("POST",), rf"/{_REPOSITORY}\.git/info/lfs/objects/batch", _Handler.batch),
    (("PUT",), "/lfs/([0-9a-f]+)", _Handler.upload),
    (("GET", "HEAD"), rf"/{_REPOSITORY}/resolve/([^/]+)/(.+)", _Handler.resolve),
)
