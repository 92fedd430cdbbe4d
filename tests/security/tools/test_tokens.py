"""Data of the repository never decides where a token or a request goes, nor from where code is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from matrix.errors import UsageError
from matrix.origins import operator, origin_of
from matrix.seal import sealed
from tests.running import tool
from wheel_resolver.fetching.fetch import fetch
from wheel_resolver.upstream.github import api_from

CANARY = "canarytoken0123456789"
NEW = "flash_attn-2.8.9+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize("variable", ["GH_TOKEN", "GITHUB_TOKEN"])
def test_an_api_that_only_data_names_is_never_asked(checkout: Path, upstream: Any, variable: str) -> None:
    edited(checkout / "matrix" / "compat.yaml", "https://api.github.com", upstream.url)
    # CI sets GITHUB_API_URL to GitHub's own: that is no word for another place.
    for named in ({}, {"GITHUB_API_URL": "https://api.github.com"}):
        for arguments in (["wheel_resolver", "--torch", "2.9", "--refresh"], ["matrix", "check"]):
            done = tool(checkout, *arguments, **{variable: CANARY}, **named)
            assert done.status == 2
            assert "matrix/compat.yaml:10 origins.github_api: " in done.err
            assert "WHEELWRIGHT_TRUST_ORIGINS=" in done.err
            assert CANARY not in done.said
    assert upstream.asked == []


def test_a_trusted_api_is_asked_as_nobody_and_the_named_one_with_the_token(
    checkout: Path, upstream: Any, known: list[dict[str, Any]]
) -> None:
    upstream.releases(1, known)
    edited(checkout / "matrix" / "compat.yaml", "https://api.github.com", upstream.url)
    question = ("--torch", "2.9", "--python", "3.12", "--cuda", "12.8", "--gpu", "A10G", "--refresh", "--json")
    done = tool(checkout, "wheel_resolver", *question, GH_TOKEN=CANARY, WHEELWRIGHT_TRUST_ORIGINS=upstream.url)
    assert done.status == 0, done.err
    assert upstream.asked
    assert not any("Authorization" in headers for _, headers in upstream.asked)
    done = tool(checkout, "wheel_resolver", *question, GH_TOKEN=CANARY, GITHUB_API_URL=upstream.url)
    assert done.status == 0, done.err
    assert upstream.asked[-1][1]["Authorization"] == f"Bearer {CANARY}"
    assert CANARY not in done.said


@pytest.mark.parametrize(
    ("url", "gets_it"),
    [
        ("https://api.github.com", True),
        ("https://API.github.com:443/", True),
        ("http://api.github.com", False),
        ("https://api.github.com:8443", False),
        ("https://api.github.com.evil.example", False),
        ("https://evil.example/api.github.com", False),
        ("https://evil.example#api.github.com", False),
        ("https://github.com", False),
        ("https://api.github.com.", False),
    ],
)
def test_only_githubs_own_api_gets_the_token_by_default(url: str, gets_it: bool) -> None:
    try:
        api = api_from({"GH_TOKEN": CANARY}, url)
    except UsageError:
        assert not gets_it
    else:
        assert (api.token == CANARY) is gets_it


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("github_downloads: https://github.com", "github_downloads: https://evil.example", "origins.github_downloads"),
        ("github_downloads: https://github.com", "github_downloads: http://github.com", "origins.github_downloads"),
        (
            "github_downloads: https://github.com",
            "github_downloads: https://github.com:8443",
            "origins.github_downloads",
        ),
        (
            "github_downloads: https://github.com",
            "github_downloads: https://a@evil.example",
            "origins.github_downloads",
        ),
        ("https://download.pytorch.org/whl", "https://pytorch.example/whl", "origins.pytorch_wheels"),
        ('image: "python:', 'image: "evil.example/python:', "bases.registry[0].image"),
        ('image: "nvidia/', 'image: "127.0.0.1:5000/nvidia/', "bases.cuda_devel."),
    ],
)
def test_another_origin_in_the_facts_needs_the_operators_word(checkout: Path, old: str, new: str, key: str) -> None:
    edited(checkout / "matrix" / "compat.yaml", old, new)
    for arguments in (["matrix", "check"], ["wheel_resolver", "--torch", "2.9", "--offline"]):
        done = tool(checkout, *arguments)
        assert done.status == 2
        assert key in done.err


def test_the_operators_word_is_enough(checkout: Path) -> None:
    edited(checkout / "matrix" / "compat.yaml", "https://download.pytorch.org/whl", "https://pytorch.example/whl")
    assert tool(checkout, "matrix", "check").status == 2
    assert tool(checkout, "matrix", "check", WHEELWRIGHT_TRUST_ORIGINS="https://other.example").status == 2
    assert tool(checkout, "matrix", "check", WHEELWRIGHT_TRUST_ORIGINS="https://pytorch.example").status == 0
    assert tool(checkout, "matrix", "check", WHEELWRIGHT_PYTORCH_WHEELS="https://pytorch.example/x").status == 0


def test_an_index_of_the_matrix_needs_the_operators_word(checkout: Path, upstream: Any) -> None:
    with (checkout / "matrix" / "matrix.yaml").open("a", encoding="utf-8") as file:
        file.write(
            f"providers:\n  - {{name: page, kind: index, url: '{upstream.url}/simple/', because: b, source: s}}\n"
        )
    done = tool(checkout, "wheel_resolver", "--torch", "2.9", GITHUB_API_URL="https://127.0.0.1:9")
    assert done.status == 2
    assert "providers[0].url" in done.err
    assert upstream.asked == []


@pytest.mark.parametrize(
    "url", ["https://evil.example/a.whl", "http://127.0.0.1:9/a.whl", "https://github.com@x.example/"]
)
def test_a_locked_wheel_at_another_place_is_refused_by_every_verb(checkout: Path, url: str) -> None:
    path = checkout / "matrix" / "lock.yaml"
    text = path.read_text(encoding="utf-8")
    locked = text.partition("url: ")[2].partition("\n")[0]
    path.write_text(sealed(text.replace(locked, url)), encoding="utf-8")
    for arguments in (
        ["images", "render"],
        ["images", "build", "a10g"],
        ["wheel_resolver", "fetch", "a10g"],
        ["wheel_resolver", "export", "a10g"],
        ["wheel_resolver", "lock", "--check"],
        ["wheel_resolver", "lock", "--offline"],
    ):
        done = tool(checkout, *arguments)
        assert done.status == 2, (arguments, done.said)
        assert "lock.yaml:" in done.err
        assert "targets.a10g.wheel.url" in done.err
        assert done.out == ""


def test_a_listing_cannot_put_an_official_wheel_elsewhere(checkout: Path, upstream: Any) -> None:
    asset = {"name": NEW, "state": "uploaded", "size": 7, "digest": "sha256:" + "c" * 64}
    question = ("--torch", "2.9", "--python", "3.12", "--cuda", "12.8", "--gpu", "A10G", "--refresh", "--json")

    def found(place: str) -> str:
        upstream.releases(1, [{"tag_name": "v2.8.9", "assets": [asset | {"browser_download_url": place}]}])
        done = tool(checkout, "wheel_resolver", *question, GITHUB_API_URL=upstream.url)
        assert done.status == 0, done.err
        return str(json.loads(done.out)["resolutions"][0]["wheel"]["url"])

    for place in (
        "https://evil.example/" + NEW,
        "https://github.com.evil.example/" + NEW,
        "https://user:pass@github.com/" + NEW,
        "https://github.com:8443/" + NEW,
        f"https://github.com/{NEW}?token=x",
    ):
        assert found(place).startswith(
            "https://github.com/Dao-AILab/flash-attention/releases/download/v2.8.9/flash_attn-"
        )
    assert found(f"{upstream.url}/x.whl") == f"{upstream.url}/x.whl"  # the operator named that place


def test_an_index_page_cannot_put_a_wheel_on_a_host_that_nobody_named(checkout: Path, upstream: Any) -> None:
    page = f'<a href="https://evil.example/{NEW}#sha256={"a" * 64}">x</a>'.encode()
    upstream.pages["/simple/"] = (200, {"Content-Type": "text/html"}, page)
    upstream.releases(1, [{"tag_name": "v1", "assets": [{"name": NEW.replace("12", "11"), "state": "uploaded"}]}])
    with (checkout / "matrix" / "matrix.yaml").open("a", encoding="utf-8") as file:
        file.write(
            f"providers:\n  - {{name: page, kind: index, url: '{upstream.url}/simple/', because: b, source: s}}\n"
        )
    done = tool(checkout, "wheel_resolver", "--torch", "2.9", "--refresh", "--json", GITHUB_API_URL=upstream.url)
    assert "evil.example" not in done.said
    assert "1 wheels lie on hosts that nobody named" in done.err


def test_a_download_takes_no_credentials_from_netrc(
    upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"default login me password {CANARY}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    body = b"a wheel"
    upstream.pages["/a.whl"] = (302, {"Location": f"{upstream.url}/b.whl"}, b"")
    upstream.pages["/b.whl"] = (200, {}, body)
    digest = "f3ecce0ef9a7b0d1e8c7dd0bd4b5d2b0f0dc4b8b2f5ee0b6a3f7a9e2a2a2a2a2"
    with pytest.raises(Exception, match=r"sha256|digest"):
        fetch(f"{upstream.url}/a.whl", digest, "a.whl", tmp_path / "cache")
    assert len(upstream.asked) == 2
    assert not any("Authorization" in headers for _, headers in upstream.asked)


@pytest.mark.parametrize(
    "text",
    [
        "evil.example",
        "ftp://a.example",
        "http://a.example",
        "https://u:canary@a.example",
        "https://a.example/x",
        "https://",
    ],
)
def test_a_word_that_is_no_origin_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        operator({"WHEELWRIGHT_TRUST_ORIGINS": f"https://good.example, {text}"})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [str.upper, lambda url: url.replace("https://", "https://user@"), lambda url: url + ".", lambda url: url + ":80"],
)
def test_what_looks_alike_is_not_the_same_origin(change: Callable[[str], str]) -> None:
    origin, other = origin_of("https://github.com"), origin_of(change("https://github.com"))
    allowed = operator({}).allows_download(change("https://github.com") + "/a.whl")
    assert allowed is (other == origin and "@" not in change("https://github.com"))
