"""A small server here that answers as the Hugging Face hub does for a data set: look-up, redirect, ranges."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REPO = "amandlek/mimicgen_datasets"
COMMIT = "9bcacb0446b0f895dd352164bd39938710df4a1e"


@dataclass
class Hub:
    """What it serves and how badly. files: {path: content}; requests: (method, path, range) as they came.

    cut: bytes after which the connection breaks; pace: seconds between blocks of 64 kB; damage: one byte is wrong;
    ranges: whether parts of a file can be asked for; status: answer to every look-up, if not 0.
    """

    files: dict[str, bytes]
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    endpoint: str = ""
    storage: str = ""
    cut: int | None = None
    pace: float = 0.0
    damage: bool = False
    ranges: bool = True
    status: int = 0
    sent: int = 0

    @property
    def transfers(self) -> list[str]:
        """Ranges of the requests for content, "" for a whole file."""
        return [asked for method, path, asked in self.requests if method == "GET" and path.startswith("/storage/")]


@contextmanager
def running(files: dict[str, bytes]) -> Iterator[Hub]:
    """The hub, and the storage that it redirects to under another host name, as long as the context lasts."""
    hub = Hub(files)
    servers = []
    for name in ("127.0.0.1", "localhost"):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append((server, f"http://{name}:{server.server_address[1]}"))
    hub.endpoint, hub.storage = servers[0][1], servers[1][1]
    try:
        yield hub
    finally:
        for server, _ in servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: `Hub.requests` is the log."""

    def _answer(self, body: bool) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        hub.requests.append((self.command, path, self.headers.get("Range", "")))
        if stored := re.fullmatch(r"/storage/([0-9a-f]{64})", path):
            self._content(next(c for c in hub.files.values() if hashlib.sha256(c).hexdigest() == stored[1]), body)
        elif hub.status:
            self._empty(hub.status)
        elif path.startswith(f"/api/datasets/{REPO}/tree/"):
            listed = [{"type": "file", "path": p, "size": len(c), "oid": _git(c)} for p, c in hub.files.items()]
            self._json(listed)
        elif found := re.fullmatch(rf"/datasets/{REPO}/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], body)
        else:
            self._empty(404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})

    def _resolve(self, revision: str, path: str, body: bool) -> None:
        if revision not in ("main", COMMIT):
            self._empty(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"})
        elif path not in self.hub.files:
            self._empty(
                404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": COMMIT}
            )
        elif path.endswith(".hdf5"):  # large files are in a storage of their own
            content = self.hub.files[path]
            sha256 = hashlib.sha256(content).hexdigest()
            self._empty(
                302,
                {
                    "Location": f"{self.hub.storage}/storage/{sha256}",
                    "X-Repo-Commit": COMMIT,
                    "X-Linked-Size": str(len(content)),
                    "X-Linked-Etag": f'"{sha256}"',
                },
            )
        else:
            content = self.hub.files[path]
            self._content(content, body, {"X-Repo-Commit": COMMIT, "ETag": f'"{_git(content)}"'})

    def _content(self, content: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
        hub, asked = self.hub, re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(asked[1]) if asked and hub.ranges else 0
        if hub.damage:
            content = content[:-1] + bytes([content[-1] ^ 1])
        part = content[begin:]
        self.send_response(206 if asked and hub.ranges else 200)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(part)))
        if asked and hub.ranges:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        stop = len(part) if hub.cut is None else max(0, min(len(part), hub.cut - begin))
        for at in range(0, stop, 65536):
            block = part[at : min(at + 65536, stop)]
            try:
                self.wfile.write(block)
            except OSError:  # whoever asked is gone
                break
            hub.sent += len(block)
            if hub.pace:
                time.sleep(hub.pace)
        if stop < len(part):
            self.close_connection = True

    def _json(self, tree: Any) -> None:
        text = json.dumps(tree).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _empty(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _git(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
