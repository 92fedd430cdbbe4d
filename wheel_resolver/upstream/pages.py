"""Fetch pages of a list: bounded in bytes, time and tries, never redirected, asked for again only if changed.

``requests`` is imported when a page is fetched, not before: it is half of the start-up time of a question that the
cache answers.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from matrix.errors import NetworkError
from wheel_resolver.upstream.access import Access

if TYPE_CHECKING:
    import requests
    from urllib3 import HTTPResponse, Retry

    from wheel_resolver.upstream.pagecache import PageCache

T = TypeVar("T")

#: A full page of GitHub's releases takes some 3 MB.
MAX_PAGE_BYTES = 64_000_000
#: How often a page is asked for again when the server says that it cannot answer now.
RETRIES = 2
_CHUNK_BYTES = 1 << 16
_OK, _UNCHANGED, _NOT_THERE = 200, 304, 404
_AGAIN = frozenset({429, 500, 502, 503, 504})


class NotThereError(NetworkError):
    """The server answers, and has no such page."""


class _TransientError(Exception):
    """Worth another try: the answer that says so (its ``Retry-After`` counts), or None when it was cut off."""

    def __init__(self, error: NetworkError, answer: HTTPResponse | None) -> None:
        super().__init__(error.what)
        self.error = error
        self.answer = answer


class Pages:
    """Fetches the pages of one place, as one identity, before one deadline.

    Args:
        place: how errors name it; never a token.
        headers: sent with each request.
        access: as whom.
        until: the deadline, by ``time.monotonic``.
        folder: where pages are kept for revalidation; None for nowhere.
    """

    def __init__(
        self, place: str, headers: Mapping[str, str], *, access: Access, until: float, folder: Path | None
    ) -> None:
        import requests  # noqa: PLC0415 - see the module's head

        self._place = place
        self._headers = dict(headers)
        self._until = until
        self._session = requests.Session()
        self._access = access
        self._session.auth = access.authorize
        self._cache: PageCache | None = None
        if folder is not None:
            from wheel_resolver.upstream.pagecache import PageCache  # noqa: PLC0415 - with requests

            self._cache = PageCache(folder)

    def get(self, url: str, read: Callable[[bytes], T]) -> tuple[T, str | None]:
        """Fetch a page and read it; also the URL of the next page, where the server names one.

        A page is kept once ``read`` has accepted it: what a captive portal says never becomes "unchanged".

        Raises:
            NetworkError: it could not be had in time, or ``read`` says that it is no page of this kind.
        """
        from urllib3 import Retry  # noqa: PLC0415

        policy = Retry(RETRIES, status_forcelist=_AGAIN, backoff_factor=0.2, redirect=False, raise_on_status=False)
        conditional = True
        while True:
            try:
                return self._ask(url, read, conditional=conditional)
            except _TransientError as failure:
                policy = self._wait(policy, failure)
            except _DamagedError:
                conditional = False

    def _wait(self, policy: Retry, failure: _TransientError) -> Retry:
        """Sleep as long as the server or the back-off wants; what would not end in time is not begun."""
        from urllib3.exceptions import InvalidHeader, MaxRetryError  # noqa: PLC0415

        try:
            following = policy.increment("GET", response=failure.answer)
            asked = following.get_retry_after(failure.answer) if failure.answer is not None else None
        except (MaxRetryError, InvalidHeader):
            raise failure.error from None
        wait_s = asked or following.get_backoff_time() or 0.1
        if time.monotonic() + wait_s >= self._until:
            told = f", and asks to wait {asked:.0f} s" if asked else ""
            raise NetworkError(f"{failure.error.what}{told}", remedy=failure.error.remedy)
        time.sleep(wait_s)
        return following

    def _ask(self, url: str, read: Callable[[bytes], T], *, conditional: bool) -> tuple[T, str | None]:
        import requests  # noqa: PLC0415
        import urllib3  # noqa: PLC0415

        left = self._until - time.monotonic()
        if left <= 0:
            raise self._late()
        bundle = self._bundle(url)
        try:
            request = self._session.prepare_request(requests.Request("GET", url, headers=self._headers))
            if self._cache is not None and conditional:
                request.headers.update(self._cache.conditions(request))
            settings = self._session.merge_environment_settings(url, {}, stream=True, verify=bundle, cert=None)
            # A redirect would carry the token elsewhere, or hide that the place moved.
            with self._session.send(request, timeout=left, allow_redirects=False, **settings) as answer:
                return self._page(request, answer, read)
        except (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.ProtocolError) as error:
            raise _TransientError(self._failed("the connection was cut", error), None) from None
        except (requests.exceptions.ContentDecodingError, urllib3.exceptions.DecodeError) as error:
            raise self._failed("the answer cannot be unpacked", error) from None
        except requests.exceptions.SSLError as error:
            trusted = "set REQUESTS_CA_BUNDLE to the certificates that this network uses"
            raise self._failed("no safe connection", error, trusted) from None
        except requests.exceptions.ProxyError as error:
            raise self._failed("the proxy does not let it through", error, "check HTTPS_PROXY and NO_PROXY") from None
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise self._failed("no answer in time", error) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
            raise self._failed("cannot be reached", error) from None

    @staticmethod
    def _bundle(url: str) -> str | None:
        """The certificates to trust; ``requests`` itself would end in an error of the file system, or in none."""
        if not url.startswith("https:"):
            return None
        from wheel_resolver.upstream.ca_bundle import ca_bundle  # noqa: PLC0415 - with requests

        return ca_bundle(os.environ)

    def _failed(self, what: str, error: Exception, remedy: str | None = None) -> NetworkError:
        """The kind of failure only: what a client says of it may hold the proxy's password."""
        return NetworkError(f"{self._place}: {what} ({type(error).__name__})", remedy=remedy)

    def _page(
        self, request: requests.PreparedRequest, answer: requests.Response, read: Callable[[bytes], T]
    ) -> tuple[T, str | None]:
        # An "unchanged" that was not asked for would be asked for again without end.
        if answer.status_code == _UNCHANGED and self._cache is not None and "If-None-Match" in request.headers:
            kept = self._cache.unchanged(request, answer.raw)
            try:
                if kept is not None:
                    # A 304 need not repeat the Link header: without the kept one the list would end here.
                    return read(self._body(kept)), _next_page(kept)
            except NetworkError:
                pass  # the file is damaged: what was kept was a page once
            self._cache.forget(request.url or "")
            raise _DamagedError
        self._refuse_status(answer)
        following = _next_page(answer.raw)
        wire = self._body(answer.raw, decode=False)
        rows = read(self._decoded(answer.raw, wire))
        if self._cache is not None:
            self._cache.keep(request, answer.raw, wire)
        return rows, following

    def _refuse_status(self, answer: requests.Response) -> None:
        status = answer.status_code
        if status == _OK:
            return
        if status in {403, 429} and answer.headers.get("X-RateLimit-Remaining") == "0":
            known = "Authorization" in answer.request.headers
            more = "ask again within the hour" if known else "set GH_TOKEN (60 requests an hour without, 5,000 with)"
            raise NetworkError(f"{self._place}: the rate limit is used up", remedy=more)
        error = self._access.refusal(self._place, status)
        if status in _AGAIN or (status == 403 and "Retry-After" in answer.headers):  # noqa: PLR2004 - GitHub's second limit
            raise _TransientError(error, answer.raw)
        if status == _NOT_THERE:
            raise NotThereError(error.what, remedy=error.remedy)
        raise error

    def _decoded(self, answer: HTTPResponse, wire: bytes) -> bytes:
        if "content-encoding" not in answer.headers:
            return wire
        import io  # noqa: PLC0415

        from urllib3 import HTTPResponse  # noqa: PLC0415

        encoding = {"content-encoding": answer.headers["content-encoding"]}
        return self._body(HTTPResponse(io.BytesIO(wire), headers=encoding, preload_content=False))

    def _body(self, answer: HTTPResponse, *, decode: bool = True) -> bytes:
        body = bytearray()
        # read1 gives what has come; read would wait for a full chunk, past any deadline on a dripping server.
        while chunk := answer.read1(_CHUNK_BYTES, decode_content=decode):
            body += chunk
            if len(body) > MAX_PAGE_BYTES:
                raise NetworkError(f"{self._place}: a page is larger than {MAX_PAGE_BYTES:,} bytes")
            if time.monotonic() > self._until:
                raise self._late()
        return bytes(body)

    def _late(self) -> NetworkError:
        return NetworkError(f"{self._place}: no full answer in time")


class _DamagedError(Exception):
    """The server says "unchanged", and what was kept is not there or not readable."""


def _next_page(answer: HTTPResponse) -> str | None:
    from requests.utils import parse_header_links  # noqa: PLC0415

    links = parse_header_links(answer.headers.get("link", ""))
    return next((link.get("url") for link in links if link.get("rel") == "next"), None)


class Background(Generic[T]):
    """A call that is given up when it takes too long, whatever it waits for.

    A socket's time-out does not bound the look-up of a name, nor a server that drips its headers: so the call has a
    thread of its own, and one that is given up ends with the process.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._result: T | Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except Exception as error:  # noqa: BLE001 - raised again where the result is asked for
            self._result = error

    def result(self, until: float, late: str) -> T:
        """Wait for it until a time (``time.monotonic``).

        Raises:
            NetworkError: it is not done by then; ``late`` is what the error says.
            Exception: what the call raised.
        """
        self._thread.join(max(0.0, until - time.monotonic()))
        if isinstance(self._result, Exception):
            raise self._result
        if self._result is None:
            raise NetworkError(late)
        return self._result
