"""Ask for a URL: redirects by hand, each under the same rule, and which answers are worth another try.

Source: RFC 9110 section 10.2.3 (Retry-After).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from matrix.errors import DataError, NetworkError
from wheel_resolver.upstream.access import Access

if TYPE_CHECKING:
    import requests

MAX_REDIRECTS = 5
PARTIAL = 206
_TIMEOUT_S = (10, 60)  # connect, read
_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)


#: How to give a private index its login.
_LOGIN = "set WHEELWRIGHT_INDEX_<NAME>_USERNAME and _PASSWORD of the matrix's index, or write the host into ~/.netrc"


class CutError(Exception):
    """An attempt failed in a way that another may not; ``wait_s`` is what the server asked for."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.wait_s = wait_s


@contextlib.contextmanager
def follow(session: requests.Session, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
    """The answer at the end of the redirects.

    Raises:
        DataError: the URL, or that of a redirect, is neither https nor http on the loopback.
        NetworkError: there are too many redirects.
        ValueError: what a redirect names is no URL.
    """
    for _ in range(MAX_REDIRECTS + 1):
        allowed(url)
        with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S, allow_redirects=False) as answer:
            if answer.status_code in _REDIRECTS and "Location" in answer.headers:
                url = urljoin(url, answer.headers["Location"])
                continue
            yield answer
            return
    raise NetworkError(
        f"more than {MAX_REDIRECTS} redirects", remedy="see what stands between this machine and the host"
    )


def allowed(url: str) -> None:
    """Refuse a URL that is neither https nor http on the loopback.

    Raises:
        DataError: it is not, or it is no URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise DataError(f"what should be a URL is none: {error}", remedy="correct the URL in the lock") from None
    loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise DataError(
            f"{parts.scheme}://{parts.hostname}: only https is fetched (http on the loopback alone)",
            remedy="correct the URL in the lock",
        )


def refuse_status(answer: requests.Response) -> None:
    """Refuse an answer that holds no file.

    Raises:
        CutError: another try may get it.
        NetworkError: none will.
    """
    status, waits = answer.status_code, "Retry-After" in answer.headers
    if status in {200, PARTIAL}:
        return
    why = f"status {status} {answer.reason or ''}".rstrip()
    if status in _AGAIN or (status == 403 and waits):  # noqa: PLR2004 - GitHub's secondary limit
        raise CutError(why, _retry_after(answer.headers.get("Retry-After")))
    place = f"{file_name(answer.url)}: {urlsplit(answer.url).hostname} gave no file"
    if status in {401, 403}:
        header = answer.request.headers.get("Authorization")
        raise Access(header, "its index (variables, pip, uv or netrc)", _LOGIN).refusal(place, status)
    raise NetworkError(
        f"{place}: {why}",
        remedy="see whether it still stands upstream: python -m wheel_resolver watch",
    )


def _retry_after(text: str | None) -> float | None:
    """Seconds, from seconds or a date."""
    if text is None:
        return None
    if re.fullmatch(r"\s*[0-9]+\s*", text):
        return float(text)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - it imports sockets; a question needs none

    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def in_words(error: Exception) -> str:
    """What failed, without the texts of the libraries: they hold the URLs of redirects, with their signatures."""
    import requests  # noqa: PLC0415

    for kind, words in (
        (requests.Timeout, "no answer in time"),
        (requests.exceptions.SSLError, "the TLS connection failed: its certificate is not one that is trusted here"),
        (requests.exceptions.ProxyError, "the proxy gave no connection"),
        (requests.ConnectionError, "no connection"),
        (requests.exceptions.ChunkedEncodingError, "the connection was cut"),
    ):
        if isinstance(error, kind):
            return words
    return type(error).__name__


def file_name(url: str) -> str:
    """The file's name as its URL ends; never the query, which may hold a signature."""
    return urlsplit(url).path.rsplit("/", 1)[-1].replace("%2B", "+")[:200] or "the file"
