"""List a repository's releases through GitHub's REST API: all pages, the same host only.

Source: https://docs.github.com/rest/releases/releases. An asset's ``digest`` exists since June 2025 and is null before;
``state`` is ``uploaded`` once an upload is whole.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matrix.errors import NetworkError, UsageError
from matrix.origins import GITHUB_API
from matrix.shown import shown
from wheel_resolver.core.wheel import Asset, Release
from wheel_resolver.upstream.access import Access
from wheel_resolver.upstream.logins import Login, Logins
from wheel_resolver.upstream.pages import Pages
from wheel_resolver.upstream.urls import is_safe, is_wheel_url, origin_of

#: A page holds 100 releases; flash-attention had 3 pages in 2026. More than this is no list of releases.
MAX_PAGES = 50
#: Releases and their files together; the official ones had some thousands in 2026.
MAX_LISTED = 100_000
#: A page of GitHub's has one value to 40 bytes; two to three bytes a value, in 64 MB, would take gigabytes of memory.
MAX_VALUES = 2_000_000
HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_MAX_TAG = 250
_OTHER_PRODUCTS = ("fa4-",)  # pre-releases of another product in the same repository


@dataclass(frozen=True, slots=True)
class Api:
    """Where and as whom to ask. ``token`` and ``login`` (of ``.netrc``) are never part of any output."""

    url: str
    token: str | None
    login: Login | None = field(default=None, repr=False)

    @property
    def identity(self) -> str:
        """What tells one asker from another: caches are kept apart by its digest."""
        return self.token or (self.login.header if self.login else "")

    @property
    def access(self) -> Access:
        """As whom it is asked, and how a person gives a token."""
        how = "set GH_TOKEN to a token that may read it"
        if self.token is not None:
            return Access(f"Bearer {self.token}", "GH_TOKEN or GITHUB_TOKEN", how)
        if self.login is not None:
            return Access(self.login.header, self.login.source, how)
        return Access(None, "", how)

    def __repr__(self) -> str:
        return f"Api(url={self.url!r}, token={'...' if self.token else None})"


def api_from(environment: Mapping[str, str], default_url: str) -> Api:
    """Read ``GITHUB_API_URL``, and ``GH_TOKEN`` before ``GITHUB_TOKEN`` before the host's own entry in ``.netrc``.

    The token is for GitHub's own API, and for the place that the environment names. ``default_url`` comes from data,
    and a place that only data names is asked as nobody, whatever else it is trusted with.

    Raises:
        UsageError: the URL is not https (http is for the loopback only), or a token holds a control character.
    """
    named = environment.get("GITHUB_API_URL")
    url = (named or default_url).rstrip("/")
    if set(url) & set("@?#"):  # it would be shown in errors
        raise UsageError("GITHUB_API_URL holds a user, a password or a query", remedy="put the token into GH_TOKEN")
    if not is_safe(url):
        raise UsageError(
            f"GITHUB_API_URL={url!r} is not an https URL",
            remedy="write it as https://HOST/api/v3; http is for 127.0.0.1 only",
        )
    token = (environment.get("GH_TOKEN") or environment.get("GITHUB_TOKEN") or "").strip() or None
    if token is not None and not (token.isascii() and token.isprintable()):
        raise UsageError(
            "the GitHub token holds characters that no token has", remedy="check GH_TOKEN and GITHUB_TOKEN"
        )
    origin = origin_of(url)
    if origin is None or not (named or origin == GITHUB_API):
        return Api(url, None)
    return Api(url, token, None if token else Logins(environment).of_netrc(origin))


def list_releases(api: Api, repository: str, *, timeout_s: float, folder: Path | None = None) -> tuple[Release, ...]:
    """List all releases with their uploaded assets, without drafts, pre-releases and ``fa4-`` tags.

    Args:
        timeout_s: seconds that all pages together may take.
        folder: where this identity's pages are kept, so that an unchanged one is not sent again.

    Raises:
        NetworkError: a page could not be had or is not GitHub's; the message never holds the token.
    """
    until = time.monotonic() + timeout_s
    pages = Pages(api.url, HEADERS, access=api.access, until=until, folder=folder)
    url: str | None = f"{api.url}/repos/{repository}/releases?per_page=100"
    seen: set[str] = set()
    releases: list[Release] = []
    while url is not None:
        if url in seen or len(seen) == MAX_PAGES:
            raise NetworkError(f"{api.url}: its list of releases does not end: given up after page {len(seen)}")
        if seen and origin_of(url) != origin_of(api.url):
            raise NetworkError(f"{api.url}: its next page is on another host")
        seen.add(url)
        rows, url = pages.get(url, lambda body: _rows(api, body))
        releases += [release for row in rows if (release := _release(row)) is not None]
        if sum(1 + len(release.assets) for release in releases) > MAX_LISTED:
            raise NetworkError(f"{api.url}: it lists more than {MAX_LISTED:,} releases and files")
    return tuple(releases)


def _rows(api: Api, body: bytes) -> list[Any]:
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise NetworkError(f"{api.url}: a page holds more than {MAX_VALUES:,} values, so it is no list of releases")
    try:
        rows = json.loads(body)
    except (ValueError, RecursionError):
        raise NetworkError(f"{api.url}: the answer is not JSON (a captive portal?)") from None
    if not isinstance(rows, list):
        raise NetworkError(f"{api.url}: the answer is not a list of releases")
    return rows


def _release(row: Any) -> Release | None:
    """Read one release; None for those that we leave out and for what is none."""
    if not isinstance(row, dict) or not isinstance(tag := row.get("tag_name"), str):
        return None
    assets = row.get("assets")
    if row.get("draft") or row.get("prerelease") or tag.startswith(_OTHER_PRODUCTS) or not isinstance(assets, list):
        return None
    # A tag is shown and stands in URLs: what no git tag may hold is written as an escape.
    return Release(_plain(tag), tuple(asset for each in assets if (asset := _asset(each)) is not None))


def _plain(tag: str) -> str:
    return shown(tag)[:_MAX_TAG] or "(none)"


def _asset(row: Any) -> Asset | None:
    url = row.get("browser_download_url") if isinstance(row, dict) else None
    if not isinstance(row, dict) or row.get("state") != "uploaded" or not isinstance(name := row.get("name"), str):
        return None
    digest, size, updated_at = row.get("digest"), row.get("size"), row.get("updated_at")
    sha256 = digest.removeprefix("sha256:") if isinstance(digest, str) and digest.startswith("sha256:") else None
    if sha256 is not None and not (len(sha256) == 64 and set(sha256) <= set("0123456789abcdef")):  # noqa: PLR2004
        sha256 = None
    return Asset(
        name,
        sha256,
        size if isinstance(size, int) and size > 0 else None,
        updated_at if isinstance(updated_at, str) and _TIME.fullmatch(updated_at) else None,
        url if isinstance(url, str) and is_wheel_url(url) else None,
    )
