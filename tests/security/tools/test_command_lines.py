"""A password is on no command line: the process list is everybody's."""

from __future__ import annotations

import contextlib
import threading
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.running import tool
from tests.security.tools.test_nothing_is_built import make_wheel, only_cpu

USER, PASSWORD, TOKEN = "canaryuser", "canary-pass!word", "canarytoken0123456789"


@dataclass
class Index:
    """A package index that reads the process list when it is asked, as any other user could."""

    url: str
    folder: Path
    asked: list[str] = field(default_factory=list)
    authorized: int = 0
    seen: list[str] = field(default_factory=list)
    private: tuple[str, ...] = ()  # packages that are shown under the secret path only


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    folder = tmp_path / "index"
    folder.mkdir()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.asked.append(self.path)
            known.authorized += "Authorization" in self.headers
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if "canary" in line:
                        known.seen.append(line)
            name = self.path.rstrip("/").rsplit("/", 1)[-1]
            shown = f"{name}-*" if name not in known.private or TOKEN in self.path else "none"
            file = folder / name.partition("#")[0].replace("%2B", "+")
            if file.is_file():
                body = file.read_bytes()
            else:
                links = "".join(f'<a href="/files/{each.name}">{each.name}</a>' for each in folder.glob(shown))
                body = f"<html><body>{links}</body></html>".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if not file.is_file() else "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    known = Index(f"http://{USER}:{PASSWORD}@127.0.0.1:{server.server_address[1]}/t/{TOKEN}", folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield known
    server.shutdown()
    server.server_close()
    thread.join()


def settings_of(index: Index, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, f"{index.url}/simple")


@pytest.mark.parametrize(
    "names",
    [
        ("WHEELWRIGHT_PYTORCH_WHEELS",),
        ("UV_INDEX", "WHEELWRIGHT_PYTORCH_WHEELS"),
        ("UV_DEFAULT_INDEX",),
        ("PIP_INDEX_URL",),
        ("PIP_EXTRA_INDEX_URL",),
    ],
)
def test_locking_shows_no_password_in_the_process_list_or_in_what_it_says(
    checkout: Path, index: Index, names: tuple[str, ...]
) -> None:
    make_wheel(index.folder, "torch", "2.13.0+cpu")
    make_wheel(index.folder, "good", "1.0")
    (checkout / "serve" / "requirements.in").write_text("good\n")
    only_cpu(checkout)
    set_ = settings_of(index, *names)
    index.private = ("torch",)
    if "UV_DEFAULT_INDEX" not in set_ and "PIP_INDEX_URL" not in set_:
        set_["UV_DEFAULT_INDEX"] = index.url.replace(f"{USER}:{PASSWORD}@", "").replace(TOKEN, "open")
    done = tool(checkout, "images", "lock", **set_)
    assert done.status == 0, done.said
    assert index.asked
    assert index.authorized or any(TOKEN in path for path in index.asked)
    assert index.seen == []
    for secret in (USER, PASSWORD, TOKEN, "pass!"):
        assert secret not in done.said
    written = "".join(path.read_text() for path in (checkout / "dockerfiles/locks").rglob("*.txt"))
    assert "canary" not in written
    assert "127.0.0.1" not in written


def test_a_failure_shows_no_password_either(checkout: Path, index: Index) -> None:
    only_cpu(checkout)  # the index has none of what is asked for
    (checkout / "serve" / "requirements.in").write_text("good\n")
    for verb in (["lock"],):
        done = tool(
            checkout,
            "images",
            *verb,
            **settings_of(index, "UV_DEFAULT_INDEX", "UV_INDEX", "WHEELWRIGHT_PYTORCH_WHEELS"),
        )
        assert done.status == 3, done.said
        assert "uv could not resolve" in done.err
        assert "canary" not in done.said
    assert index.asked
    assert index.seen == []


def test_the_tests_environment_shows_no_password(checkout: Path, index: Index, tmp_path: Path) -> None:
    """``images environment`` installs; here it fails, for the index has nothing, and says so without the password."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = str(tmp_path / "venv" / "bin" / "python")
    everywhere = settings_of(index, "UV_DEFAULT_INDEX", "UV_INDEX", "WHEELWRIGHT_PYTORCH_WHEELS")
    done = tool(checkout, "images", "environment", "--python", python, **everywhere)
    assert done.status == 3, done.said
    assert index.asked
    assert index.seen == []
    assert "canary" not in done.said


def test_a_lock_keeps_its_indexes_out_of_a_folder_that_others_can_read(checkout: Path, index: Index) -> None:
    make_wheel(index.folder, "torch", "2.13.0+cpu")
    make_wheel(index.folder, "good", "1.0")
    (checkout / "serve" / "requirements.in").write_text("good\n")
    only_cpu(checkout)
    scratch = checkout.parent / "tmp"
    scratch.mkdir()
    done = tool(checkout, "images", "lock", **settings_of(index, "UV_DEFAULT_INDEX"), TMPDIR=str(scratch))
    assert done.status == 0, done.said
    assert list(scratch.iterdir()) == []
    for path in checkout.rglob("*"):
        if path.is_file():
            assert b"canary" not in path.read_bytes(), path
