"""List the wheels that an index page links to (the simple repository API in HTML, PEP 503)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html import unescape
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from matrix.errors import NetworkError
from matrix.masking import mask
from wheel_resolver.core.wheel import Asset, Release
from wheel_resolver.upstream.access import Access
from wheel_resolver.upstream.pages import Pages
from wheel_resolver.upstream.urls import is_wheel_url

#: An index page of torch itself has some thousand.
MAX_LINKS = 100_000
_SHA256 = re.compile(r"sha256=([0-9a-f]{64})")
# What has been taken is not given back (``++``, ``*+``): a tag that does not end costs its length, once.
_ANCHOR = re.compile(r"""<a\s((?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*+)>""", re.IGNORECASE)
_HREF = re.compile(r"""(?<!\S)href\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'<>]++))""", re.IGNORECASE)


#: Asks as nobody.
NOBODY = Access(None, "", "set WHEELWRIGHT_INDEX_<NAME>_USERNAME and _PASSWORD")


def list_index(
    url: str, *, timeout_s: float, folder: Path | None = None, access: Access = NOBODY
) -> tuple[Release, ...]:
    """List an index page as one release of the tag ``index``. GitHub's token is never sent there.

    A link's ``#sha256=`` is the wheel's digest; a wheel without one is unpinned. The wheels may lie on another host.

    Raises:
        NetworkError: the page could not be had, or links to no wheel.
    """
    until = time.monotonic() + timeout_s
    pages = Pages(mask(url), {"Accept": "text/html"}, access=access, until=until, folder=folder)
    assets, _ = pages.get(url, lambda body: read_index(body, url))
    return (Release("index", assets),)


def read_index(body: bytes, url: str) -> tuple[Asset, ...]:
    """The wheels of a page; a link that may not be fetched is none.

    Raises:
        NetworkError: it links to no wheel: not an index, but perhaps a captive portal.
    """
    assets = []
    for link in islice(links_of(body.decode("utf-8", "replace")), MAX_LINKS):
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
        raise NetworkError(f"{mask(url)}: the page links to no wheel (a captive portal?)")
    return tuple(assets)


def links_of(page: str) -> Iterator[str]:
    """What the ``<a href=...>`` of a page name, but for those in comments; it takes no more time than the page is long.

    By hand, since ``html.parser`` takes hours for what is left open a hundred thousand times.

    >>> list(links_of("<!-- <a href='no.whl'> --><A class='x' HREF='a&amp;b.whl' data-requires-python='>=3.8'>"))
    ['a&b.whl']
    """
    for tag in _ANCHOR.finditer("".join(_without_comments(page))):
        if found := _HREF.search(tag[1]):
            yield unescape(found[1] or found[2] or found[3] or "").strip()


def _without_comments(page: str) -> Iterator[str]:
    """The parts between comments; one that does not end takes the rest of the page, as it does in a browser."""
    at = 0
    while (start := page.find("<!--", at)) >= 0:
        yield page[at:start]
        end = page.find("-->", start + 4)
        if end < 0:
            return
        at = end + 3
    yield page[at:]
