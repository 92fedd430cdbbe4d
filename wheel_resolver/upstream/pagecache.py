"""Pages as they came, kept with their ETags: an unchanged page costs one conditional request and no body.

CacheControl (https://cachecontrol.readthedocs.io) judges and stores; we decide what it may see. Its adapter would store
a page before anybody has looked into it, so its controller is called here, once a page has proven to be one.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from cachecontrol.caches import FileCache
from cachecontrol.controller import CacheController

if TYPE_CHECKING:
    from requests import PreparedRequest
    from urllib3 import HTTPResponse

#: All that is kept of an answer's head. Not `Vary`: GitHub's names Authorization, and CacheControl writes the varied
#: request headers into its files. A folder belongs to one identity, so nothing varies in it.
_KEPT_HEADERS = ("etag", "content-encoding", "cache-control", "link")

#: A full disk or a damaged file costs the saving, not the answer.
_FORGIVEN = (OSError, ValueError, TypeError, KeyError, AttributeError)


class PageCache:
    """The pages of one identity, in a folder of its own; safe under many processes (a lock and a rename a file).

    A folder that cannot be read or written is no cache, and no error.
    """

    def __init__(self, folder: Path) -> None:
        self._controller = CacheController(FileCache(folder))

    def conditions(self, request: PreparedRequest) -> dict[str, str]:
        """The headers that ask for a page only if it has changed; none where it is not kept."""
        with contextlib.suppress(*_FORGIVEN):
            return self._controller.conditional_headers(request)
        return {}

    def unchanged(self, request: PreparedRequest, answer: HTTPResponse) -> HTTPResponse | None:
        """The kept page that a 304 confirms; None when there is none after all."""
        _strip(answer)
        with contextlib.suppress(*_FORGIVEN):
            kept = self._controller.update_cached_response(request, answer)
            return None if kept is answer else kept
        return None

    def keep(self, request: PreparedRequest, answer: HTTPResponse, wire: bytes) -> None:
        """Keep a page's bytes as they came over the wire."""
        _strip(answer)
        with contextlib.suppress(*_FORGIVEN):
            self._controller.cache_response(request, answer, body=wire)

    def forget(self, url: str) -> None:
        """Drop a page that turned out to be damaged."""
        with contextlib.suppress(*_FORGIVEN):
            self._controller.cache.delete(self._controller.cache_url(url))


def _strip(answer: HTTPResponse) -> None:
    for name in list(answer.headers):
        if name.lower() not in _KEPT_HEADERS:
            answer.headers.pop(name, None)
