"""A server on the loopback that speaks GitHub's releases API as each test wishes, and bars every other address."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.extension import compile_extension
from tests.packing import members, pack
from wheel_resolver.upstream import snapshot

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Upstream:
    """What the server answers (path -> status, headers, body), and what it was asked."""

    url: str
    pages: dict[str, Answer | Callable[[], Answer]] = field(default_factory=dict)
    drip_s: float = 0.0
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def releases(
        self, page: int, rows: Any, *, following: str | None = None, status: int = 200, **headers: str
    ) -> None:
        """Answer a page of the releases of Dao-AILab/flash-attention."""
        path = "/repos/Dao-AILab/flash-attention/releases?per_page=100" + (f"&page={page}" if page > 1 else "")
        if following is not None:
            headers["Link"] = f'<{following}>; rel="next"'
        body = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
        self.pages[path] = (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)

    def page_url(self, page: int) -> str:
        return f"{self.url}/repos/Dao-AILab/flash-attention/releases?per_page=100&page={page}"


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.asked.append((self.path, dict(self.headers)))
            found = known.pages.get(self.path, (404, {}, b"{}"))
            status, headers, body = found() if callable(found) else found
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", headers.get("X-Length", str(len(body))))
            self.end_headers()
            with contextlib.suppress(OSError):  # the client gave up, as some tests want
                for start in range(0, len(body), 1) if known.drip_s else ():
                    self.wfile.write(body[start : start + 1])
                    time.sleep(known.drip_s)
                if not known.drip_s:
                    self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    known = Upstream(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    for name in (
        "GH_TOKEN",
        "GITHUB_TOKEN",
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GITHUB_API_URL", known.url)
    yield known
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def known() -> list[dict[str, Any]]:
    """The releases of the shipped snapshot, as GitHub lists them."""
    return [
        {
            "tag_name": release.tag,
            "assets": [
                {
                    "name": asset.name,
                    "state": "uploaded",
                    "size": asset.size,
                    "digest": asset.sha256 and f"sha256:{asset.sha256}",
                    "updated_at": asset.updated_at,
                }
                for asset in release.assets
            ],
        }
        for release in snapshot.read().releases
    ]


@pytest.fixture(scope="session")
def whole_wheel(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """The bytes of a wheel for Python 3.12 that is what its name says: locking looks into it."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("wheel")
    extension = {"flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so": compile_extension(folder)}

    def packed(name: str) -> bytes:
        version = name.split("-")[1].partition("+")[0]
        return pack(folder / name, members(extension, version=version, tag="cp312-cp312-linux_x86_64")).read_bytes()

    return packed


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        assert address[0] in {"127.0.0.1", "::1"}, f"a test reached for {address}"
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
