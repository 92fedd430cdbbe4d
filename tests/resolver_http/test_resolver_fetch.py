"""Fetching into the content-addressed cache, against a local server."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from matrix.errors import DataError, NetworkError
from wheel_resolver.fetching.fetch import cached, fetch

GOOD = b"wheel bytes" * 1000
SHA = hashlib.sha256(GOOD).hexdigest()
NAME = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
#: Where redirects may lead that are no URLs: requests and urllib raise other errors for each.
NO_URLS = {
    "brackets": "https://[::1",
    "port": "https://example.invalid:99999999/",
    "bytes": "https://\xe9.invalid/",
    "label": f"https://{'a' * 70}.invalid/",
}


@dataclass
class Server:
    """Serves ``/good``, ``/bad``, ``/cut``, redirects ``/to/N`` down to ``/good``, and ``/away`` to plain http."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    authorized: list[str | None] = field(default_factory=list)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wheel_resolver.fetching.download.WAIT_S", 0.01)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            state.authorized.append(self.headers.get("Authorization"))
            first, _, rest = self.path[1:].partition("/")
            if first == "to":
                self._redirect("/good" if rest == "0" else f"/to/{int(rest) - 1}")
            elif first == "away":
                self._redirect("http://example.invalid/file")
            elif first in NO_URLS:
                self._redirect(NO_URLS[first])
            elif first == "missing":
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(GOOD)))
                self.end_headers()
                self.wfile.write({"good": GOOD, "bad": GOOD[::-1], "cut": GOOD[:100]}[first])
                self.close_connection = True

        def _redirect(self, place: str) -> None:
            self.send_response(302)
            self.send_header("Location", place)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_a_file_is_fetched_once_and_kept_by_its_digest(server: Server, tmp_path: Path) -> None:
    path = fetch(f"{server.url}/to/3", SHA, NAME, tmp_path)
    assert path.read_bytes() == GOOD
    assert path == tmp_path / "files" / SHA / NAME
    assert fetch(f"{server.url}/good", SHA, NAME, tmp_path) == path
    assert server.asked == ["/to/3", "/to/2", "/to/1", "/to/0", "/good"]
    assert set(server.authorized) == {None}
    assert [entry.name for entry in path.parent.iterdir()] == [NAME]


def test_another_digest_is_refused_and_set_aside(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="refused") as caught:
        fetch(f"{server.url}/bad", SHA, NAME, tmp_path)
    assert hashlib.sha256(GOOD[::-1]).hexdigest() in str(caught.value)
    assert cached(SHA, NAME, tmp_path) is None
    assert [entry.name for entry in (tmp_path / "files" / SHA).iterdir()] == [f"{NAME}.refused"]


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server, tmp_path: Path) -> None:
    path = fetch(f"{server.url}/good", SHA, NAME, tmp_path)
    path.write_bytes(b"damaged")
    assert fetch(f"{server.url}/good", SHA, NAME, tmp_path).read_bytes() == GOOD


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ("cut", NetworkError, "gave no file"),
        ("missing", NetworkError, "404"),
        ("to/9", NetworkError, "more than 5 redirects"),
        ("away", DataError, "only https"),
        *((place, NetworkError, "its URL, or that of a redirect, cannot be read") for place in NO_URLS),
    ],
)
def test_what_cannot_be_had_leaves_nothing_behind(
    server: Server, tmp_path: Path, place: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fetch(f"{server.url}/{place}", SHA, NAME, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


@pytest.mark.parametrize("url", ["http://example.invalid/x", "ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_only_https_and_the_loopback_are_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only https"):
        fetch(url, SHA, NAME, tmp_path)


def test_a_url_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="what should be a URL is none"):
        fetch("https://[x", SHA, NAME, tmp_path)


@pytest.mark.parametrize("name", ["../x.whl", "/etc/x.whl", ".hidden", "a/b.whl"])
def test_a_name_with_a_path_in_it_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a plain file name"):
        fetch("https://example.invalid/x", SHA, name, tmp_path)
