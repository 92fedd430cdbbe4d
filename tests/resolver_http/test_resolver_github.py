"""The API's client: every page, nothing half-uploaded, and a plain error for each oddity of an upstream."""

from __future__ import annotations

import time
from typing import Any

import pytest

from matrix.errors import NetworkError, UsageError
from wheel_resolver.upstream.github import Api, api_from, list_releases

REPOSITORY = "Dao-AILab/flash-attention"
WHEEL = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"


def asset(name: str = WHEEL, **change: Any) -> dict[str, Any]:
    row = {
        "name": name,
        "state": "uploaded",
        "size": 7,
        "digest": "sha256:" + "a" * 64,
        "updated_at": "2026-01-01T00:00:00Z",
        "browser_download_url": f"https://github.com/{REPOSITORY}/releases/download/v2.8.3/{name.replace('+', '%2B')}",
    }
    return {**row, **change}


def release(tag: str = "v2.8.3", *assets: dict[str, Any], **change: Any) -> dict[str, Any]:
    return {"tag_name": tag, "draft": False, "prerelease": False, "assets": list(assets), **change}


def tags(upstream: Any, token: str | None = None, timeout_s: float = 5.0) -> list[str]:
    return [each.tag for each in list_releases(Api(upstream.url, token), REPOSITORY, timeout_s=timeout_s)]


def test_every_page_is_read(upstream: Any) -> None:
    upstream.releases(1, [release("v3")], following=upstream.page_url(2))
    upstream.releases(2, [release("v2")], following=upstream.page_url(3))
    upstream.releases(3, [release("v1")])
    assert tags(upstream) == ["v3", "v2", "v1"]


def test_drafts_prereleases_and_fa4_are_left_out(upstream: Any) -> None:
    rows = [
        release("v1", draft=True),
        release("v2", prerelease=True),
        release("fa4-v4.0.0"),
        release("v3"),
        {"tag_name": None},
        "no release",
        release("v4", assets=None),
    ]
    upstream.releases(1, rows)
    assert tags(upstream) == ["v3"]


def test_half_uploaded_and_odd_assets_are_left_out(upstream: Any) -> None:
    odd = [asset("a.whl", state="starter"), asset("b.whl", state=None), {"state": "uploaded"}, 7]
    strange = asset("c.whl", digest="md5:1", size=-1, updated_at="soon", browser_download_url="http://example.org/x")
    upstream.releases(1, [release("v1", *odd, strange, asset())])
    (found,) = list_releases(Api(upstream.url, None), REPOSITORY, timeout_s=5)
    assert [each.name for each in found.assets] == ["c.whl", WHEEL]
    assert (found.assets[0].sha256, found.assets[0].size, found.assets[0].updated_at, found.assets[0].url) == (
        None,
    ) * 4
    assert (found.assets[1].sha256, found.assets[1].size) == ("a" * 64, 7)


def test_a_token_is_sent_and_never_shown(upstream: Any) -> None:
    upstream.releases(1, [], status=500)
    api = Api(upstream.url, "secret-token")
    with pytest.raises(NetworkError) as caught:
        list_releases(api, REPOSITORY, timeout_s=5)
    assert upstream.asked[0][1]["Authorization"] == "Bearer secret-token"
    assert "secret" not in str(caught.value) + repr(api)


def test_without_a_token_none_is_sent(upstream: Any) -> None:
    upstream.releases(1, [])
    tags(upstream)
    assert "Authorization" not in upstream.asked[0][1]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (b"<html>Welcome to the airport</html>", "not JSON"),
        (b'[{"tag_name": "v1"', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        ({"message": "hello"}, "not a list of releases"),
    ],
)
def test_an_answer_that_is_no_list(upstream: Any, rows: Any, words: str) -> None:
    upstream.releases(1, rows)
    with pytest.raises(NetworkError, match=words):
        tags(upstream)


def test_the_rate_limit_is_named(upstream: Any) -> None:
    upstream.releases(1, {}, status=403, X_RateLimit_Remaining="0")
    with pytest.raises(NetworkError, match="rate limit is used up") as caught:
        tags(upstream)
    assert "GH_TOKEN" in str(caught.value)


@pytest.mark.parametrize("status", [301, 401, 403, 404, 429, 500, 503])
def test_other_statuses_are_said(upstream: Any, status: int) -> None:
    upstream.releases(1, {}, status=status, Location="http://127.0.0.1:1/")
    with pytest.raises(NetworkError, match=f"status {status}"):
        tags(upstream)


def test_a_page_that_links_to_itself_is_refused(upstream: Any) -> None:
    upstream.releases(1, [release()], following=upstream.page_url(2))
    upstream.releases(2, [release()], following=upstream.page_url(2))
    with pytest.raises(NetworkError, match="does not end"):
        tags(upstream)
    assert len(upstream.asked) == 2


def test_endless_pages_are_bounded(upstream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wheel_resolver.upstream.github.MAX_PAGES", 3)
    upstream.releases(1, [], following=upstream.page_url(2))
    for page in range(2, 9):
        upstream.releases(page, [], following=upstream.page_url(page + 1))
    with pytest.raises(NetworkError, match="does not end"):
        tags(upstream)
    assert len(upstream.asked) == 3


@pytest.mark.parametrize(
    "host", ["http://example.org", "https://127.0.0.1", "http://127.0.0.1:1", "http://[", "http://127.0.0.1:x", "//x"]
)
def test_another_host_is_never_asked(upstream: Any, host: str) -> None:
    upstream.releases(1, [release()], following=f"{host}/page/2")
    with pytest.raises(NetworkError, match="on another host"):
        tags(upstream, token="secret")
    assert len(upstream.asked) == 1


def test_a_page_too_large_is_not_read_on(upstream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wheel_resolver.upstream.pages.MAX_PAGE_BYTES", 1000)
    upstream.releases(1, [release("v" * 5000)])
    with pytest.raises(NetworkError, match="larger than 1,000 bytes"):
        tags(upstream)


def test_a_truncated_body_is_an_error(upstream: Any) -> None:
    upstream.releases(1, b"[]", X_Length="100")
    with pytest.raises(NetworkError):
        tags(upstream, timeout_s=0.5)


def test_a_slow_server_is_given_up_in_time(upstream: Any) -> None:
    def slowly() -> Any:
        time.sleep(1.5)
        return 200, {}, b"[]"

    upstream.releases(1, [], following=upstream.page_url(2))
    upstream.pages["/repos/Dao-AILab/flash-attention/releases?per_page=100&page=2"] = slowly
    start = time.monotonic()
    with pytest.raises(NetworkError):
        tags(upstream, timeout_s=0.3)
    assert time.monotonic() - start < 1.2


def test_a_dripping_server_is_given_up_in_time(upstream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes within the socket's time-out, the page as a whole never."""
    upstream.drip_s = 0.05
    upstream.releases(1, b"[" + b" " * 200 + b"]")
    start = time.monotonic()
    with pytest.raises(NetworkError, match="no full answer in time"):
        tags(upstream, timeout_s=0.4)
    assert time.monotonic() - start < 2


def test_nobody_there(upstream: Any) -> None:
    with pytest.raises(NetworkError, match="ConnectionError"):
        list_releases(Api("http://127.0.0.1:1", None), REPOSITORY, timeout_s=1)


@pytest.mark.parametrize(
    "url",
    ["http://api.github.com", "ftp://x", "nonsense", "https://", "https://[", "https://u:secret@x", "https://x\n"],
)
def test_only_https_or_the_loopback(url: str) -> None:
    with pytest.raises(UsageError, match="GITHUB_API_URL") as caught:
        api_from({"GITHUB_API_URL": url}, "https://api.github.com")
    assert "secret" not in str(caught.value)


def test_the_environment() -> None:
    def read(**environment: str) -> Api:
        return api_from(environment, "https://api.github.com")

    assert read() == Api("https://api.github.com", None)
    assert read(GITHUB_API_URL="https://ghe.example/api/v3/").url == "https://ghe.example/api/v3"
    assert read(GH_TOKEN="a", GITHUB_TOKEN="b").token == "a"
    assert read(GH_TOKEN="", GITHUB_TOKEN="b\n").token == "b"
    with pytest.raises(UsageError) as caught:
        read(GH_TOKEN="sec\nret")
    assert "sec" not in str(caught.value)
