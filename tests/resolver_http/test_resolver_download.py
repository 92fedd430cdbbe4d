"""Downloads that go wrong in the middle: cuts, servers without ranges, lies, other processes, kill -9, a full disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from matrix.cli import run
from matrix.errors import DataError, NetworkError
from matrix.seal import sealed
from wheel_resolver import cli, lock
from wheel_resolver.fetching.download import MAX_BYTES, download
from wheel_resolver.fetching.fetch import fetch, fetch_unpinned
from wheel_resolver.fetching.part import Part

DATA = bytes(range(256)) * 4096  # a mebibyte
SHA = hashlib.sha256(DATA).hexdigest()
NAME = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Server:
    """``cuts``: after how many bytes each next answer ends; ``statuses``: what to answer before anything good."""

    url: str = ""
    data: bytes = DATA
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    cuts: list[int] = field(default_factory=list)
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    length: int | None = None
    offset: int = 0
    drip_s: float = 0.0
    redirect: bool = False
    asked: list[dict[str, str]] = field(default_factory=list)

    @property
    def wanted(self) -> list[str | None]:
        """The Range of each request."""
        return [headers.get("Range") for headers in self.asked]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as ``self.server.state`` says."""

    @property
    def state(self) -> Server:
        return self.server.state  # type: ignore[attr-defined, no-any-return]

    def do_GET(self) -> None:
        state = self.state
        if state.redirect and "signed" not in self.path:
            self.answer(302, {"Location": "/signed?signature=secret"}, 0)
            return
        state.asked.append(dict(self.headers))
        if state.statuses:
            self.answer(*state.statuses.pop(0), 0)
            return
        start = self.start()
        if start >= len(state.data):
            self.answer(416, {}, 0)
            return
        where = f"bytes {start + state.offset}-{len(state.data) - 1}/{len(state.data)}"
        length = len(state.data) - start if state.length is None else state.length
        self.answer(206 if start else 200, state.headers | ({"Content-Range": where} if start else {}), length)
        self.send(state.data[start:][: state.cuts.pop(0) if state.cuts else None])

    def start(self) -> int:
        """Where to begin: what Range says, if If-Range names this file."""
        wants, validator = self.headers.get("Range"), self.headers.get("If-Range")
        known = {self.state.headers.get("ETag"), self.state.headers.get("Last-Modified")}
        if not self.state.ranges or not wants or validator not in known:
            return 0
        return int(wants.removeprefix("bytes=").removesuffix("-"))

    def answer(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(length)}).items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, body: bytes) -> None:
        step = 1 << 14 if self.state.drip_s else len(body) or 1
        with contextlib.suppress(OSError):
            for place in range(0, len(body), step):
                self.wfile.write(body[place : place + step])
                time.sleep(self.state.drip_s)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("wheel_resolver.fetching.download.WAIT_S", 0.01)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.state = state = Server(f"http://127.0.0.1:{httpd.server_address[1]}/wheel")  # type: ignore[attr-defined]
    monkeypatch.setenv("WHEELWRIGHT_TRUST_ORIGINS", f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "files" / SHA).iterdir())


def test_a_cut_is_resumed_where_it_was(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 200_000]
    seen: list[tuple[int, int | None]] = []
    path = fetch(server.url, SHA, NAME, tmp_path, progress=lambda have, total: seen.append((have, total)))
    assert path.read_bytes() == DATA
    first, second = (int(str(wanted).removeprefix("bytes=")[:-1]) for wanted in server.wanted[1:])
    assert server.wanted[0] is None
    assert 200_000 < first < 300_001 < second <= 500_000
    assert [headers.get("If-Range") for headers in server.asked] == [None, '"one"', '"one"']
    assert seen[-1] == (len(DATA), len(DATA))
    assert kept(tmp_path) == [NAME]


@pytest.mark.parametrize(
    ("ranges", "headers"),
    [
        (False, {"ETag": '"one"'}),  # asked for the rest, it sends all
        (True, {}),  # nothing to tell one file from another by
        (True, {"ETag": 'W/"weak"'}),
    ],
)
def test_without_ranges_it_starts_anew(server: Server, tmp_path: Path, ranges: bool, headers: dict[str, str]) -> None:
    server.ranges, server.headers, server.cuts = ranges, headers, [300_000]
    assert fetch(server.url, SHA, NAME, tmp_path).read_bytes() == DATA
    assert len(server.asked) == 2
    assert kept(tmp_path) == [NAME]


def test_last_modified_serves_where_there_is_no_etag(server: Server, tmp_path: Path) -> None:
    server.headers, server.cuts = {"Last-Modified": "Wed, 21 Oct 2026 07:28:00 GMT"}, [300_000]
    assert fetch(server.url, SHA, NAME, tmp_path).read_bytes() == DATA
    assert server.asked[1]["If-Range"] == "Wed, 21 Oct 2026 07:28:00 GMT"
    assert str(server.wanted[1]).startswith("bytes=")


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 0, 0, 0, 0]
    with pytest.raises(NetworkError, match=r"tried 4 times.*the next fetch goes on from there"):
        fetch(server.url, SHA, NAME, tmp_path)
    assert kept(tmp_path) == [f".{NAME}.part", f".{NAME}.part.validator"]
    server.cuts.clear()
    assert fetch(server.url, SHA, NAME, tmp_path).read_bytes() == DATA
    assert server.wanted[-1] == "bytes=65536-"  # whole blocks are kept


def test_a_file_that_changed_in_between_is_fetched_whole(server: Server, tmp_path: Path) -> None:
    part = Part(tmp_path / "files" / SHA / f".{NAME}.part")
    part.path.parent.mkdir(parents=True)
    part.path.write_bytes(b"of another file")
    part.validator_path.write_text('"zero"')
    assert fetch(server.url, SHA, NAME, tmp_path).read_bytes() == DATA
    assert server.asked[0]["If-Range"] == '"zero"'


def test_a_damaged_part_costs_one_more_download_and_no_error(server: Server, tmp_path: Path) -> None:
    part = Part(tmp_path / "files" / SHA / f".{NAME}.part")
    part.path.parent.mkdir(parents=True)
    part.path.write_bytes(b"damaged" * 1000)
    part.validator_path.write_text('"one"')
    assert fetch(server.url, SHA, NAME, tmp_path).read_bytes() == DATA
    assert server.wanted == ["bytes=7000-", None]
    assert kept(tmp_path) == [NAME]


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_a_part_that_is_whole_is_only_checked(server: Server, tmp_path: Path, size: int | None) -> None:
    part = Part(tmp_path / "files" / SHA / f".{NAME}.part")
    part.path.parent.mkdir(parents=True)
    part.path.write_bytes(DATA)
    part.validator_path.write_text('"one"')
    assert fetch(server.url, SHA, NAME, tmp_path, size=size).read_bytes() == DATA
    assert len(server.asked) == (0 if size else 2)  # without the size it asks for the rest: 416, then the whole


def test_an_answer_for_another_range_is_not_taken(server: Server, tmp_path: Path) -> None:
    server.cuts, server.offset = [300_000], 5
    assert fetch(server.url, SHA, NAME, tmp_path).read_bytes() == DATA
    assert len(server.asked) == 3


def test_a_length_that_is_too_large_is_a_cut(server: Server, tmp_path: Path) -> None:
    server.length, server.headers = len(DATA) + 1000, {}
    with pytest.raises(NetworkError, match="the connection was cut"):
        fetch(server.url, SHA, NAME, tmp_path)
    assert kept(tmp_path) == []


def test_a_length_that_is_too_small_is_refused(server: Server, tmp_path: Path) -> None:
    server.length, server.ranges = 1000, False
    with pytest.raises(NetworkError, match=r"it ended after 1,000 of 1,048,576 bytes"):
        fetch(server.url, SHA, NAME, tmp_path, size=len(DATA))
    with pytest.raises(DataError, match="refused, and kept as"):
        fetch(server.url, SHA, NAME, tmp_path)


def test_more_than_the_locked_size_is_never_read(server: Server, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="sends more than 1,000 bytes"):
        fetch(server.url, SHA, NAME, tmp_path, size=1000)
    assert kept(tmp_path) == []
    assert MAX_BYTES < 10**10


def test_patience_is_asked_for_and_given(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("wheel_resolver.fetching.download.time.sleep", slept.append)
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    server.statuses = [(503, {"Retry-After": "7"}), (429, {"Retry-After": date}), (502, {"Retry-After": "²"})]
    assert fetch(server.url, SHA, NAME, tmp_path).read_bytes() == DATA
    assert slept[0] == 7
    assert 25 < slept[1] <= 30
    assert slept[2] == 0.04


def test_too_much_patience_is_refused(server: Server, tmp_path: Path) -> None:
    server.statuses = [(403, {"Retry-After": "3600"})]
    with pytest.raises(NetworkError, match=r"asks to wait 3600 s.*status 403"):
        fetch(server.url, SHA, NAME, tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize(("status", "requests"), [(500, 4), (404, 1), (401, 1), (410, 1)])
def test_only_what_may_pass_is_tried_again(server: Server, tmp_path: Path, status: int, requests: int) -> None:
    server.statuses = [(status, {})] * 9
    with pytest.raises(NetworkError, match=f"status {status}"):
        fetch(server.url, SHA, NAME, tmp_path)
    assert len(server.asked) == requests


def test_the_address_of_a_redirect_is_neither_kept_nor_said(server: Server, tmp_path: Path) -> None:
    server.redirect, server.cuts = True, [100_000, 0, 0, 0, 0]
    with pytest.raises(NetworkError) as caught:
        fetch(server.url, SHA, NAME, tmp_path)
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"signed" in text for text in texts)
    assert "signed" not in str(caught.value)
    server.cuts.clear()
    assert fetch(server.url, SHA, NAME, tmp_path).read_bytes() == DATA


class FullDisk:
    """A file on a disk that is full after some bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, block: bytes) -> None:
        self.room -= len(block)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.file.write(block)


def test_a_full_disk_is_said_and_what_is_there_is_used_later(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def opened(self: Path, mode: str = "r", **how: Any) -> Any:
        return FullDisk(real(self, mode), 300_000) if mode == "ab" else real(self, mode, **how)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(DataError, match=r"No space left on device; .* bytes are kept") as caught:
            fetch(server.url, SHA, NAME, tmp_path)
    assert "WHEELWRIGHT_CACHE" in str(caught.value)
    assert not (tmp_path / "files" / SHA / NAME).exists()
    assert fetch(server.url, SHA, NAME, tmp_path).read_bytes() == DATA
    assert server.wanted[-1] is not None


def test_a_cache_that_cannot_be_written_is_said(server: Server, tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="the cache cannot be used"):
        fetch(server.url, SHA, NAME, tmp_path)
    with pytest.raises(DataError, match="the cache cannot be used: File exists"):
        fetch_unpinned(server.url, NAME, tmp_path / "locks")


def test_a_disk_that_is_full_at_the_last_moment_loses_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems say so at fsync only."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("wheel_resolver.fetching.fetch.os.fsync", full)
        with pytest.raises(DataError, match="No space left on device"):
            fetch(server.url, SHA, NAME, tmp_path)
    assert not (tmp_path / "files" / SHA / NAME).exists()
    assert fetch(server.url, SHA, NAME, tmp_path, size=len(DATA)).read_bytes() == DATA
    assert len(server.asked) == 1


def start(server: Server, cache: Path) -> subprocess.Popen[str]:
    program = "import sys; from wheel_resolver.fetching.fetch import fetch; print(fetch(*sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", program, server.url, SHA, NAME],
        cwd=ROOT,
        env=os.environ | {"WHEELWRIGHT_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_many_processes_make_one_download(server: Server, tmp_path: Path) -> None:
    server.drip_s = 0.01
    processes = [start(server, tmp_path) for _ in range(3)]
    outputs = [process.communicate(timeout=30) for process in processes]
    assert {out for out, _ in outputs} == {f"{tmp_path / 'files' / SHA / NAME}\n"}, outputs
    assert len(server.asked) == 1


def test_killed_in_the_middle_it_goes_on_and_holds_no_lock(server: Server, tmp_path: Path) -> None:
    server.drip_s = 0.02
    part = tmp_path / "files" / SHA / f".{NAME}.part"
    process = start(server, tmp_path)
    until = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size > 200_000) and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    size = part.stat().st_size
    server.drip_s = 0
    assert 200_000 < size < len(DATA)
    assert fetch(server.url, SHA, NAME, tmp_path).read_bytes() == DATA
    assert server.wanted == [None, f"bytes={size}-"]
    assert kept(tmp_path) == [NAME]


def test_an_unpinned_file_is_resumed_too(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000]
    assert fetch_unpinned(server.url, NAME, tmp_path) == SHA
    assert (tmp_path / "files" / SHA / NAME).read_bytes() == DATA
    assert server.wanted[1] is not None


def test_a_part_alone_can_be_downloaded(server: Server, tmp_path: Path) -> None:
    assert download(server.url, Part(tmp_path / "x")) is False
    assert (tmp_path / "x").read_bytes() == DATA


def write_lock(folder: Path, url: str, sha256: str = SHA, size: int | None = len(DATA)) -> Path:
    """The project's lock, its wheel at ``url``."""
    text = lock.dumps(lock.read())
    old = lock.read().targets["a10g"].wheel
    assert old is not None
    text = text.replace(old.url, url).replace(old.sha256, sha256)
    path = folder / "lock.yaml"
    path.write_text(sealed(text.replace("size: null", f"size: {'null' if size is None else size}")))
    return path


def test_the_verb(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    verb = ["fetch", "--lock", str(write_lock(tmp_path, server.url))]
    assert run(lambda: cli.main([*verb, "--offline"])) == 1
    assert "is not in the cache" in capsys.readouterr().err
    assert run(lambda: cli.main(verb)) == 0
    out, err = capsys.readouterr()
    assert Path(out.strip()).read_bytes() == DATA
    assert "a10g, h100: " in err
    assert "\r" not in err  # no terminal, no progress line
    assert run(lambda: cli.main([*verb, "h100", "--offline", "--json"])) == 0
    (row,) = json.loads(capsys.readouterr().out)["files"]
    assert (row["source"], row["targets"], row["size"], row["error"]) == ("cache", ["h100"], len(DATA), None)
    assert len(server.asked) == 1
    assert run(lambda: cli.main([*verb, "t4"])) == 0
    assert "t4: sdpa, no wheel" in capsys.readouterr().err
    assert run(lambda: cli.main([*verb, "devel"])) == 0
    assert "devel: no wheel: flash_attn-2.8.3.post2.tar.gz is compiled; the image's build" in capsys.readouterr().err


def test_the_verb_refuses_another_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    path = write_lock(tmp_path, server.url, "ab" * 32)
    assert run(lambda: cli.main(["fetch", "--lock", str(path)])) == 2
    assert ".refused" in capsys.readouterr().err
    assert run(lambda: cli.main(["fetch", "--lock", str(path), "a10h"])) == 2
    assert "perhaps you meant 'a10g'" in capsys.readouterr().err
    server.statuses = [(404, {})]
    assert run(lambda: cli.main(["fetch", "--lock", str(path)])) == 3
