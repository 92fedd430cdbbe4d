"""List the wheels that an index page links to (the simple repository API in HTML, PEP 503)."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from matrix.errors import NetworkError
from wheel_resolver.core.wheel import Asset, Release
from wheel_resolver.upstream.pages import Pages
from wheel_resolver.upstream.urls import is_wheel_url

_SHA256 = re.compile(r"sha256=([0-9a-f]{64})")


def list_index(url: str, *, timeout_s: float, folder: Path | None = None) -> tuple[Release, ...]:
    """List an index page as one release of the tag ``index``. No token is ever sent there.

    A link's ``#sha256=`` is the wheel's digest; a wheel without one is unpinned. The wheels may lie on another host.

    Raises:
        NetworkError: the page could not be had, or links to no wheel.
    """
    until = time.monotonic() + timeout_s
    pages = Pages(url, {"Accept": "text/html"}, token=None, until=until, folder=folder)
    assets, _ = pages.get(url, lambda body: read_index(body, url))
    return (Release("index", assets),)


def read_index(body: bytes, url: str) -> tuple[Asset, ...]:
    """The wheels of a page; a link that may not be fetched is none.

    Raises:
        NetworkError: it links to no wheel: not an index, but perhaps a captive portal.
    """
    parser = _Links()
    parser.feed(body.decode("utf-8", "replace"))
    parser.close()
    assets = []
    for link in parser.links:
        try:
            target = urljoin(url, link)
            parts = urlsplit(target)
        except ValueError:  # a broken IPv6 address
            continue
        name = unquote(parts.path.rsplit("/", 1)[-1])
        plain = target.split("#", 1)[0]
        if name.endswith(".whl") and is_wheel_url(plain):
            digest = _SHA256.fullmatch(parts.fragment)
            assets.append(Asset(name, digest[1] if digest else None, None, None, plain))
    if not assets:
        raise NetworkError(f"{url}: the page links to no wheel (a captive portal?)")
    return tuple(assets)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value.strip() for name, value in attrs if name == "href" and value]
