"""A hostile upstream, and a machine that fails in the middle: nothing wrong is used, nothing good is lost."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matrix import DATA_DIR, load_project
from matrix.cli import run
from matrix.errors import DataError, NetworkError, WheelwrightError
from wheel_resolver import cli
from wheel_resolver.core.facts import Facts, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.wheel import Asset, Release
from wheel_resolver.upstream import github, snapshot
from wheel_resolver.upstream.catalogue import build_catalogue
from wheel_resolver.upstream.github import Api, list_releases
from wheel_resolver.upstream.simple_index import list_index, read_index
from wheel_resolver.upstream.source import Mode, cache_path, load_catalogue

COMPAT = load_project().compat
REPOSITORY = COMPAT.flash_attn.repository
GOOD = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
QUESTION = ["--torch", "2.9", "--python", "3.12", "--cuda", "12.8", "--gpu", "A10G"]
NAMES = [
    "../../" + GOOD,
    "/etc/" + GOOD,
    GOOD.replace("linux_x86_64", "linux_x86_64/../x"),
    GOOD.replace("2.8.3", "2.8.3\x1b[2J"),
    GOOD.replace("2.8.3", "2.8.3\n2.8.4"),
    GOOD.replace("+", "\ud800"),
    GOOD.replace("cp312-cp312", "cp312-" + "x" * 10_000),
    "\u202e" + GOOD,
    ".whl",
]


def row(name: str, **change: Any) -> dict[str, Any]:
    return {"name": name, "state": "uploaded", "size": 7, "digest": "sha256:" + "b" * 64, **change}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path))
    return tmp_path


def test_odd_names_are_counted_and_listed_and_never_used(
    upstream: Any, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.releases(1, [{"tag_name": "v2.8.3", "assets": [row(name) for name in [*NAMES, GOOD]]}])
    assert run(lambda: cli.main([*QUESTION, "--json"])) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["catalogue"]["wheels"], data["catalogue"]["unparsed"]) == (1, len(NAMES))
    assert data["resolutions"][0]["wheel"]["name"] == GOOD
    assert run(lambda: cli.main(QUESTION)) == 0
    assert f"{len(NAMES)} names not read (--explain lists them)" in capsys.readouterr().err
    for options in (["--explain"], ["--explain", "--json"]):
        assert run(lambda options=options: cli.main([*QUESTION, *options])) == 0
        out = capsys.readouterr().out
        assert out.isascii()
        assert all(char.isprintable() or char == "\n" for char in out)
        assert f"... ({max(map(len, NAMES)):,} characters)" in out
        assert max(map(len, out.splitlines())) < 500


def test_odd_tags_are_escaped(upstream: Any, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tag in ("v\x1b[2J", "\ud800", "x" * 10_000, "../../..", ""):
        upstream.releases(1, [{"tag_name": tag, "assets": [row(GOOD)]}])
        assert run(lambda: cli.main([*QUESTION, "--json", "--refresh"])) == 0
        wheel = json.loads(capsys.readouterr().out)["resolutions"][0]["wheel"]
        assert wheel["tag"].isprintable()
        assert len(wheel["tag"]) <= 250
        assert "/../" not in wheel["url"]


def test_more_assets_than_the_catalogue_will_have(upstream: Any, cache: Path) -> None:
    names = [GOOD.replace("2.8.3", f"2.{number // 1000}.{number % 1000}") for number in range(30_000)]
    upstream.releases(1, [{"tag_name": "v1", "assets": [row(name) for name in names]}])
    loaded = load_catalogue(COMPAT, Mode.REFRESH, environment=os.environ, now=datetime.now(UTC), folder=cache)
    assert loaded.catalogue.listed == 30_000


def test_more_assets_than_any_repository_has_are_refused(
    upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(github, "MAX_LISTED", 3)
    upstream.releases(1, [{"tag_name": "v1", "assets": [row(GOOD)] * 2}])
    assert len(list_releases(Api(upstream.url, None), REPOSITORY, timeout_s=9, folder=tmp_path)) == 1
    upstream.releases(1, [{"tag_name": "v1", "assets": [row(GOOD)] * 3}])
    with pytest.raises(NetworkError, match="lists more than 3 releases and files"):
        list_releases(Api(upstream.url, None), REPOSITORY, timeout_s=9, folder=tmp_path)


def test_many_small_values_are_not_unpacked(upstream: Any, tmp_path: Path) -> None:
    """Three bytes each in the page, seventy in memory."""
    upstream.releases(1, b"[" + b"{}," * 2_000_000 + b"{}]")
    with pytest.raises(NetworkError, match="more than 2,000,000 values"):
        list_releases(Api(upstream.url, None), REPOSITORY, timeout_s=9, folder=tmp_path)


def test_an_index_of_wheels_grows_with_their_number_not_its_square() -> None:
    """Each wheel of a version of its own: bits kept for each version would be as many as wheels, squared."""
    names = [GOOD.replace("2.8.3", f"2.{number // 1000}.{number % 1000}") for number in range(20_000)]
    releases = [Release("v1", tuple(Asset(name, "b" * 64, 7, None) for name in names))]
    known = build_catalogue(
        releases, repository=REPOSITORY, origin="https://x", source="network", as_of="", stale=False
    )
    tracemalloc.start()
    index = WheelIndex(known.wheels, Facts(COMPAT), default_policy(COMPAT))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index.wheels) == 20_000
    assert grown < 40_000_000


@pytest.mark.parametrize(
    "body", [b"[" * 1_000_000, b'{"a":' * 100_000, b"[" + b"9" * 100_000 + b"]", b'["\\ud800"]', b"\xff\xfe[", b"[NaN]"]
)
def test_a_json_bomb_leaves_the_snapshot(
    upstream: Any, cache: Path, body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.releases(1, body)
    assert run(lambda: cli.main([*QUESTION, "--json"])) == 0
    assert json.loads(capsys.readouterr().out)["catalogue"]["source"] == "snapshot"
    assert run(lambda: cli.main([*QUESTION, "--refresh"])) == 3


@pytest.fixture
def endless() -> Iterator[tuple[str, list[int]]]:
    """A server of a gigabyte a page, with or without its length said, and what it has sent."""
    sent = [0]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if "said" in self.path:
                self.send_header("Content-Length", str(1 << 30))
            self.end_headers()
            block = b" " * (1 << 20)
            for _ in range(1 << 10):
                try:
                    self.wfile.write(block)
                except OSError:
                    return
                sent[0] += len(block)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", sent
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("repository", ["said/length", "no/length"])
def test_a_gigabyte_is_not_read(endless: tuple[str, list[int]], repository: str, tmp_path: Path) -> None:
    url, sent = endless
    with pytest.raises(NetworkError, match="larger than 64,000,000 bytes"):
        list_releases(Api(url, None), repository, timeout_s=9, folder=tmp_path)
    assert sent[0] < 100_000_000
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_compressed_bomb_is_not_unpacked(upstream: Any, tmp_path: Path) -> None:
    upstream.releases(1, gzip.compress(bytes(100_000_000), 1), Content_Encoding="gzip")
    with pytest.raises(NetworkError, match="larger than 64,000,000 bytes"):
        list_releases(Api(upstream.url, None), REPOSITORY, timeout_s=9, folder=tmp_path)
    upstream.releases(1, b"not gzip", Content_Encoding="gzip")
    with pytest.raises(NetworkError, match="DecodeError"):
        list_releases(Api(upstream.url, None), REPOSITORY, timeout_s=9, folder=tmp_path)


SHORT = [name for name in NAMES if len(name) < 200]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([GOOD, *SHORT]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["tag_name", "assets", "name", "state", "size", "digest", "updated_at", "browser_download_url"]
            ),
            inner,
            max_size=8,
        )
    ),
    max_leaves=12,
)
RELEASE = st.fixed_dictionaries({"tag_name": st.text(max_size=5) | st.just("v1"), "assets": st.lists(JSON, max_size=3)})
ASSET = st.fixed_dictionaries({"name": st.sampled_from([GOOD, *SHORT]), "state": st.just("uploaded"), "digest": JSON})
PAGES = st.one_of(
    st.binary(max_size=40),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.lists(RELEASE, max_size=3).map(lambda value: json.dumps(value).encode()),
    st.lists(ASSET, max_size=3).map(lambda value: json.dumps([{"tag_name": "v1", "assets": value}]).encode()),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=PAGES)
def test_no_page_makes_a_traceback(upstream: Any, cache: Path, body: bytes) -> None:
    upstream.releases(1, body)
    for mode in (Mode.REFRESH, Mode.OFFLINE):  # what a refresh has kept is read again
        try:
            loaded = load_catalogue(COMPAT, mode, environment=os.environ, now=datetime.now(UTC), folder=cache)
        except (DataError, NetworkError):  # exit codes 2 and 3
            continue
        assert not loaded.notes or "using the" in loaded.notes[-1]


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=60) | st.text(alphabet="<a href='\"x.whl#sha25=/:[%>&;\ud800\x00", max_size=60).map(
    lambda text: ("<a href='" + text).encode("utf-8", "surrogatepass")
))  # fmt: skip
def test_no_index_page_makes_a_traceback(body: bytes) -> None:
    try:
        assets = read_index(body, "https://wheels.example/simple/")
    except NetworkError:
        return
    assert all(asset.url and github.is_safe(asset.url) for asset in assets)


def test_an_index_of_a_gigabyte_is_not_read(endless: tuple[str, list[int]]) -> None:
    with pytest.raises(NetworkError, match="larger than"):
        list_index(f"{endless[0]}/simple/", timeout_s=9)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cache_edited_by_hand_makes_no_traceback(cache: Path, data: st.DataObject) -> None:
    """Whatever stands in it is read, or refused and said; a URL of another kind than https is never given on."""
    text = snapshot.dumps(snapshot.read())[:2500] + "\n ]}]}\n"
    start = data.draw(st.integers(0, len(text)))
    scribble = data.draw(st.sampled_from(['"', "[", "null", "\ud800", '"\\ud800"', "9" * 5000, "]", "{}", '"ftp://x"']))
    path = cache_path(Api("https://api.github.com", None), REPOSITORY, cache)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((text[:start] + scribble + text[start + 3 :]).encode("utf-8", "surrogatepass"))
    try:
        loaded = load_catalogue(COMPAT, Mode.OFFLINE, environment={}, now=datetime.now(UTC), folder=cache)
    except WheelwrightError:
        return
    assert loaded.catalogue.source in {"cache", "snapshot"}
    assert all(wheel.url.startswith("https://") for wheel in loaded.catalogue.wheels)


# What follows runs in processes of their own, as people run it.


RUN = """
import sys
from matrix.cli import run
from wheel_resolver.cli import main
sys.exit(run(lambda: main(sys.argv[1:])))
"""


def start(cache: Path, upstream: Any, code: str = "", *options: str) -> subprocess.Popen[str]:
    program = f"{textwrap.dedent(code)}\n{RUN}"
    environment = {**os.environ, "WHEELWRIGHT_CACHE": str(cache), "GITHUB_API_URL": upstream.url}
    return subprocess.Popen(
        [sys.executable, "-c", program, *QUESTION, "--json", *options],
        env=environment, cwd=DATA_DIR.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return json.loads(out), err


def serve(upstream: Any, version: str, *, after_s: float = 0.0) -> None:
    body = json.dumps([{"tag_name": f"v{version}", "assets": [row(GOOD.replace("2.8.3", version))]}]).encode()

    def answer() -> tuple[int, dict[str, str], bytes]:
        time.sleep(after_s)
        return 200, {"ETag": f'"{version}"'}, body

    upstream.pages[f"/repos/{REPOSITORY}/releases?per_page=100"] = answer


def test_many_runs_at_once_ask_once(upstream: Any, cache: Path) -> None:
    serve(upstream, "2.8.4", after_s=0.3)
    answers = [finished(process)[0] for process in [start(cache, upstream) for _ in range(6)]]
    assert {answer["resolutions"][0]["wheel"]["version"] for answer in answers} == {"2.8.4"}
    assert sorted(answer["catalogue"]["source"] for answer in answers) == ["cache"] * 5 + ["network"]
    assert len(upstream.asked) == 1
    assert [path.suffix for path in (cache / "catalogue").iterdir()] == [".json"]


@pytest.mark.parametrize("moment", ["fsync", "rename"])
def test_killed_in_the_middle_of_a_write(upstream: Any, cache: Path, moment: str) -> None:
    """The catalogue that was there stays whole; the next run cleans up, and is not kept out by the dead one's lock."""
    serve(upstream, "2.8.4")
    finished(start(cache, upstream))
    (path,) = (cache / "catalogue").iterdir()
    before = path.read_bytes()
    serve(upstream, "2.8.5")
    stop = f"""
    import os, time
    def stop(*args, **kwargs):
        print("here", flush=True)
        time.sleep(60)
    if {moment!r} == "fsync":
        os.fsync = stop
    else:
        os.rename = stop
    """
    process = start(cache, upstream, stop, "--refresh")
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 2  # and what was half-written
    data, _ = finished(start(cache, upstream))
    assert (data["catalogue"]["source"], data["resolutions"][0]["wheel"]["version"]) == ("cache", "2.8.4")
    data, _ = finished(start(cache, upstream, "", "--refresh"))
    assert data["resolutions"][0]["wheel"]["version"] == "2.8.5"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_costs_the_cache_not_the_answer(upstream: Any, cache: Path) -> None:
    """A limit on the size of files is what fails a write in the middle here, as a full disk does."""
    serve(upstream, "2.8.4")
    finished(start(cache, upstream))
    (path,) = (cache / "catalogue").iterdir()
    before = path.read_bytes()
    serve(upstream, "2.8.5")
    full = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100  # of the child only
    data, said = finished(start(cache, upstream, full, "--refresh"))
    assert data["resolutions"][0]["wheel"]["version"] == "2.8.5"
    assert "could not be cached in" in said
    assert path.read_bytes() == before
    data, _ = finished(start(cache, upstream, "", "--refresh"))  # no half page confirms itself
    assert data["resolutions"][0]["wheel"]["version"] == "2.8.5"


def test_no_space_left_is_said(upstream: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    serve(upstream, "2.8.4")
    monkeypatch.setattr("os.fsync", full)
    loaded = load_catalogue(COMPAT, Mode.AUTO, environment=os.environ, now=datetime.now(UTC), folder=cache)
    assert loaded.catalogue.source == "network"
    assert "No space left on device" in loaded.notes[0]
    assert not [path for path in (cache / "catalogue").iterdir() if path.is_file()]
