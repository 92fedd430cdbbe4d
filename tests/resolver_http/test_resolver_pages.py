"""Pages: an unchanged one costs a conditional request, a busy server is asked again, nothing wrong is kept."""

from __future__ import annotations

import email.utils
import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from matrix import DATA_DIR, load_project
from matrix.errors import NetworkError
from wheel_resolver.upstream import pages
from wheel_resolver.upstream.github import Api, list_releases
from wheel_resolver.upstream.source import Loaded, Mode, load_catalogue

COMPAT = load_project().compat
REPOSITORY = COMPAT.flash_attn.repository
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NAME = "flash_attn-2.8.{}+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
PATH = f"/repos/{REPOSITORY}/releases?per_page=100"
TOKEN = "ghp_" + "S3cret" * 6

Answer = tuple[int, dict[str, str], bytes]


def rows(number: int) -> list[dict[str, Any]]:
    asset = {"name": NAME.format(number), "state": "uploaded", "size": 7, "digest": "sha256:" + f"{number:064}"}
    return [{"tag_name": f"v2.8.{number}", "assets": [asset]}]


def serve(upstream: Any, path: str, body: bytes, etag: str, **more: str) -> None:
    """Answer as GitHub does: an ETag, a Vary that names Authorization, and a 304 without Link to who has the page."""
    headers = {"ETag": etag, "Vary": "Accept, Authorization, Cookie", "Cache-Control": "private, max-age=60", **more}

    def answer() -> Answer:
        has = upstream.asked[-1][1].get("If-None-Match") == etag
        return (304, {"ETag": etag, "Vary": headers["Vary"]}, b"") if has else (200, headers, body)

    upstream.pages[path] = answer


def serve_pages(upstream: Any, count: int) -> None:
    for number in range(1, count + 1):
        following = {"Link": f'<{upstream.page_url(number + 1)}>; rel="next"'} if number < count else {}
        path = PATH + (f"&page={number}" if number > 1 else "")
        serve(upstream, path, json.dumps(rows(number)).encode(), f'"etag-{number}"', **following)


def load(folder: Path, mode: Mode = Mode.REFRESH, now: datetime = NOW) -> Loaded:
    return load_catalogue(COMPAT, mode, environment=os.environ, now=now, folder=folder)


def conditional(upstream: Any) -> int:
    return sum("If-None-Match" in headers for _, headers in upstream.asked)


def test_an_unchanged_refresh_costs_one_conditional_request_a_page(upstream: Any, tmp_path: Path) -> None:
    serve_pages(upstream, 3)
    first = load(tmp_path).catalogue.wheels
    assert (len(upstream.asked), conditional(upstream)) == (3, 0)
    again = load(tmp_path, Mode.AUTO, NOW + timedelta(hours=25))
    assert (len(upstream.asked), conditional(upstream)) == (6, 3)
    assert again.catalogue.source == "network"
    assert again.catalogue.wheels == first
    assert len(first) == 3


def test_a_hundred_unchanged_releases_cost_one_conditional_request(upstream: Any, tmp_path: Path) -> None:
    releases = [release | {"tag_name": f"v2.8.{number}"} for number in range(100) for release in rows(number)]
    serve(upstream, PATH, json.dumps(releases).encode(), '"etag"')
    assert [load(tmp_path).catalogue.listed for _ in range(2)] == [100, 100]
    assert (len(upstream.asked), conditional(upstream)) == (2, 1)


def test_an_unchanged_that_nobody_asked_for_is_asked_once(upstream: Any, tmp_path: Path) -> None:
    upstream.pages[PATH] = (304, {"ETag": '"etag"'}, b"")
    with pytest.raises(NetworkError, match="status 304"):
        load(tmp_path)
    assert len(upstream.asked) == 1


def test_a_changed_page_is_taken_and_kept(upstream: Any, tmp_path: Path) -> None:
    serve_pages(upstream, 2)
    load(tmp_path)
    serve(upstream, PATH + "&page=2", json.dumps(rows(7)).encode(), '"etag-7"')
    for _ in range(2):
        assert [wheel.name.version for wheel in load(tmp_path).catalogue.wheels] == ["2.8.1", "2.8.7"]
    assert conditional(upstream) == 4


def test_a_compressed_page_is_kept_as_it_came(upstream: Any, tmp_path: Path) -> None:
    body = gzip.compress(json.dumps(rows(1)).encode())
    serve(upstream, PATH, body, '"etag"', **{"Content-Encoding": "gzip"})
    for _ in range(2):
        assert len(load(tmp_path).catalogue.wheels) == 1
    assert conditional(upstream) == 1


def test_each_identity_has_its_own_pages_and_no_file_holds_a_token(
    upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    serve_pages(upstream, 2)
    load(tmp_path)
    monkeypatch.setenv("GH_TOKEN", TOKEN)
    for _ in range(2):
        loaded = load(tmp_path)
    assert conditional(upstream) == 2  # the second time as this identity; ETags differ by identity
    assert upstream.asked[-1][1]["Authorization"] == f"Bearer {TOKEN}"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len([path for path in files if "pages" in path.parts and path.suffix != ".lock"]) == 4
    for path in files:
        assert TOKEN not in str(path)
        assert TOKEN.encode() not in path.read_bytes()
        assert b"uthorization" not in path.read_bytes()
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(loaded)


@pytest.mark.parametrize("damage", [b"", b"cc=4,", b"cc=4,\x81", b"cc=4,\x80", b"junk", b"cc=4,\xc0"])
def test_a_damaged_page_is_asked_for_anew(upstream: Any, tmp_path: Path, damage: bytes) -> None:
    serve_pages(upstream, 1)
    load(tmp_path)
    (page,) = [path for path in (tmp_path / "pages").rglob("*") if path.is_file() and path.suffix != ".lock"]
    page.write_bytes(damage)
    assert len(load(tmp_path).catalogue.wheels) == 1
    page.write_bytes(page.read_bytes().replace(b'"tag_name"', b'"tag_name '))  # a page no more, its ETag still right
    assert len(load(tmp_path).catalogue.wheels) == 1
    assert len(load(tmp_path).catalogue.wheels) == 1


def test_what_is_no_list_is_never_kept_as_one(upstream: Any, tmp_path: Path) -> None:
    serve(upstream, PATH, b"<html>Welcome to the airport</html>", '"etag-1"')
    with pytest.raises(NetworkError, match="captive portal"):
        load(tmp_path)
    serve_pages(upstream, 1)  # the same ETag, for the real page
    assert len(load(tmp_path).catalogue.wheels) == 1
    assert conditional(upstream) == 0


def failing(upstream: Any, times: int, status: int, **headers: str) -> None:
    """Fail some times, then answer."""
    answers = [(status, headers, b"{}")] * times + [(200, {}, json.dumps(rows(1)).encode())] * 9
    upstream.pages[PATH] = lambda: answers.pop(0)


def ask(upstream: Any, timeout_s: float = 5.0) -> int:
    return len(list_releases(Api(upstream.url, None), REPOSITORY, timeout_s=timeout_s))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(upstream: Any, status: int) -> None:
    failing(upstream, 2, status)
    assert ask(upstream) == 1
    assert len(upstream.asked) == 3


def test_the_tries_are_bounded(upstream: Any) -> None:
    failing(upstream, 9, 503)
    with pytest.raises(NetworkError, match="status 503"):
        ask(upstream)
    assert len(upstream.asked) == 1 + pages.RETRIES


def in_a_second() -> str:
    return email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


@pytest.mark.parametrize(("status", "wait"), [(503, lambda: "1"), (403, lambda: "1"), (429, in_a_second)])
def test_retry_after_is_kept_to(upstream: Any, status: int, wait: Callable[[], str]) -> None:
    failing(upstream, 1, status, **{"Retry-After": wait()})
    start = time.monotonic()
    assert ask(upstream) == 1
    assert 0.9 <= time.monotonic() - start < 4


def test_a_wait_past_the_budget_is_not_begun(upstream: Any) -> None:
    failing(upstream, 1, 503, **{"Retry-After": "3600"})
    start = time.monotonic()
    with pytest.raises(NetworkError, match="status 503, and asks to wait 3600 s"):
        ask(upstream)
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("wait", ["soon", "-1", "", "9" * 400])
def test_an_odd_retry_after_is_no_traceback(upstream: Any, wait: str) -> None:
    failing(upstream, 9, 503, **{"Retry-After": wait})
    with pytest.raises(NetworkError, match="status 503"):
        ask(upstream)


def test_the_rate_limit_is_not_asked_twice(upstream: Any) -> None:
    failing(upstream, 9, 403, **{"X-RateLimit-Remaining": "0", "Retry-After": "1"})
    with pytest.raises(NetworkError, match="rate limit"):
        ask(upstream)
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(("status", "remedy"), [(401, "set GH_TOKEN"), (302, "not followed"), (404, "check the URL")])
def test_a_refusal_says_what_to_do(upstream: Any, tmp_path: Path, status: int, remedy: str) -> None:
    failing(upstream, 9, status, Location="http://127.0.0.1:9/")
    assert remedy in load(tmp_path, Mode.AUTO).notes[0]
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(("token", "remedy"), [(None, "set GH_TOKEN"), (TOKEN, "ask again within the hour")])
def test_who_has_a_token_is_not_told_to_set_one(upstream: Any, token: str | None, remedy: str) -> None:
    failing(upstream, 9, 403, **{"X-RateLimit-Remaining": "0"})
    with pytest.raises(NetworkError, match="rate limit") as caught:
        list_releases(Api(upstream.url, token), REPOSITORY, timeout_s=5)
    assert remedy in str(caught.value)


def test_a_server_that_never_ends_its_head_is_given_up_in_time(
    upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of the head comes within the socket's time-out: only the deadline of the whole bounds it."""
    monkeypatch.setattr("wheel_resolver.upstream.ladder.REFRESH_S", 0.5)

    def never(*_: Any, **__: Any) -> Any:
        time.sleep(1.2)
        raise NetworkError("too late to be heard")

    monkeypatch.setattr("wheel_resolver.upstream.source.list_releases", never)
    start = time.monotonic()
    assert "no full answer in time" in load(tmp_path, Mode.AUTO).notes[0]
    assert time.monotonic() - start < 1.5


def test_a_question_that_the_cache_answers_loads_no_client(upstream: Any, tmp_path: Path) -> None:
    serve_pages(upstream, 1)
    load(tmp_path, now=datetime.now(UTC))
    environment = {**os.environ, "WHEELWRIGHT_CACHE": str(tmp_path)}
    command = [sys.executable, "-X", "importtime", "-m", "wheel_resolver", "--torch", "2.9", "--json"]
    done = subprocess.run(
        command, check=True, env=environment, capture_output=True, text=True, cwd=DATA_DIR.parent, timeout=60
    )
    assert json.loads(done.stdout)["catalogue"]["source"] == "cache"
    assert len(upstream.asked) == 1
    for module in ("requests", "urllib3", "cachecontrol", "filelock", "concurrent.futures", "html.parser"):
        assert f"| {module}\n" not in done.stderr.replace(" ", "").replace("|", "| "), module


@pytest.mark.parametrize(
    "link", ["", "<", "<>", ";;", "<x>; rel", ',<x>;rel="next"', '<//[>; rel="next"', "<\xff>; rel=next"]
)
def test_an_odd_link_is_no_traceback(upstream: Any, link: str) -> None:
    body = json.dumps(rows(1)).encode()
    upstream.pages[PATH] = (200, {"Link": link}, body)
    try:
        assert ask(upstream) == 1
    except NetworkError as error:
        told = error.what
    else:
        told = ""
    assert not told or "on another host" in told
