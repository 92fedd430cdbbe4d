"""Stream one URL into one file: redirects by hand, resumed after a cut, tried again within bounds.

A part is resumed only where the server gave a validator (a strong ``ETag``, else ``Last-Modified``) and answers
``Range`` with ``If-Range`` by 206; else it starts anew. The validator is kept beside the part, the URLs of redirects
never: they are short-lived. Sources: RFC 9110 sections 13.1.5 (If-Range), 14.2 (Range), 10.2.3 (Retry-After).
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from matrix.errors import DataError, NetworkError
from wheel_resolver.fetching.part import Part
from wheel_resolver.upstream.wheel_folder import copy_wheel

if TYPE_CHECKING:
    import requests

MAX_REDIRECTS = 5
#: Failures in a row, without a mebibyte of new bytes between them, after which a download is given up.
ATTEMPTS = 4
#: Seconds before the second attempt; doubled before each further one.
WAIT_S = 0.5
#: A server that asks for more patience than this is not waited for.
MAX_RETRY_AFTER_S = 60.0
#: What no wheel reaches, for a server that sends without end.
MAX_BYTES = 8_000_000_000
_CHUNK = 1 << 16
_PROGRESS = 1 << 20
_TIMEOUT_S = (10, 60)  # connect, read
_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_PARTIAL = 206
_RANGE_WRONG = 416
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")

#: Told the bytes that are there, and how many there will be (None: not known).
Progress = Callable[[int, int | None], None]


class _CutError(Exception):
    """An attempt failed in a way that another may not; ``wait_s`` is what the server asked for."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.wait_s = wait_s


def download(url: str, part: Part, *, size: int | None = None, progress: Progress | None = None) -> bool:
    """Bring ``url`` into ``part``, going on where it ends.

    Args:
        size: the bytes of the whole file where they are known; more are never read.
        progress: called as bytes come.

    Returns:
        Whether it was put together from more than one answer.

    Raises:
        NetworkError: it could not be had; a part that can be resumed stays.
        DataError: the URL may not be fetched, or the disk cannot hold the file.
    """
    if url.startswith("file:") and url.endswith(".whl"):  # a provider that is a folder; no redirect leads here
        with _disk_errors(part):
            copy_wheel(url, part.path)
        return False
    import requests  # noqa: PLC0415 - a tenth of a second, and most commands need no network

    failures = 0
    with requests.Session() as session, _disk_errors(part):
        if size is not None and part.have > size:
            part.drop()
        furthest = part.have
        while True:
            try:
                return _attempt(session, url, part, size, progress)
            except _CutError as cut:
                failures = 1 if part.have >= furthest + _PROGRESS else failures + 1
                furthest = max(furthest, part.have)
                if part.validator() is None:
                    part.drop()
                _wait_or_give_up(url, part, cut, failures)


def _wait_or_give_up(url: str, part: Part, cut: _CutError, failures: int) -> None:
    asked = cut.wait_s or 0.0
    if failures < ATTEMPTS and asked <= MAX_RETRY_AFTER_S:
        time.sleep(max(asked, WAIT_S * 2 ** (failures - 1)))
        return
    tried = f"asks to wait {asked:.0f} s" if asked > MAX_RETRY_AFTER_S else f"tried {failures} times"
    kept = f"; {part.have:,} bytes are kept, and the next fetch goes on from there" if part.have else ""
    raise NetworkError(
        f"{_file_name(url)}: {urlsplit(url).hostname} gave no file ({tried}): {cut.why}{kept}",
        remedy="see whether this machine reaches that host, or put the file into the cache by hand",
    )


def _attempt(session: requests.Session, url: str, part: Part, size: int | None, progress: Progress | None) -> bool:
    """Ask once; whether the answer went on from bytes that were there before."""
    import requests  # noqa: PLC0415
    import urllib3  # noqa: PLC0415

    validator = part.validator()
    headers = {"Accept-Encoding": "identity"}
    if validator is not None:
        headers |= {"Range": f"bytes={part.have}-", "If-Range": validator}
    try:
        with _follow(session, url, headers) as answer:
            if answer.status_code == _RANGE_WRONG and validator is not None:
                part.drop()
                raise _CutError("the part that was there is not of this file")
            _refuse_status(answer)
            resumed = answer.status_code == _PARTIAL and validator is not None
            if resumed:
                _same_place(answer, part)
            else:
                _start(answer, part)
            _save(answer, part, size, progress)
            return resumed
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _CutError(_in_words(error)) from None


def _in_words(error: Exception) -> str:
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


@contextlib.contextmanager
def _follow(session: requests.Session, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
    """The answer at the end of the redirects: none may lead to plain http elsewhere."""
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
        DataError: it is.
    """
    parts = urlsplit(url)
    loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise DataError(
            f"{parts.scheme}://{parts.hostname}: only https is fetched (http on the loopback alone)",
            remedy="correct the URL in the lock",
        )


def _refuse_status(answer: requests.Response) -> None:
    status, waits = answer.status_code, "Retry-After" in answer.headers
    if status in {200, _PARTIAL}:
        return
    why = f"status {status} {answer.reason or ''}".rstrip()
    if status in _AGAIN or (status == 403 and waits):  # noqa: PLR2004 - GitHub's secondary limit
        raise _CutError(why, _retry_after(answer.headers.get("Retry-After")))
    raise NetworkError(
        f"{_file_name(answer.url)}: {urlsplit(answer.url).hostname} gave no file: {why}",
        remedy="see whether it still stands upstream: python -m wheel_resolver watch",
    )


def _retry_after(text: str | None) -> float | None:
    """Seconds, from seconds or a date."""
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text.strip()[:9])
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - it imports sockets; a question needs none

    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _same_place(answer: requests.Response, part: Part) -> None:
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != part.have:
        part.drop()
        raise _CutError("it answered with another range than the one asked for")


def _start(answer: requests.Response, part: Part) -> None:
    """Begin anew; the validator is written first, so that no byte ever stands beside another's."""
    part.drop()
    etag, modified = answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")
    validator = etag if etag.startswith('"') else modified if not etag else ""
    if validator and "Content-Encoding" not in answer.headers:  # a decoded byte has no place in the sender's count
        part.validator_path.write_text(validator, "utf-8", "replace")


def _save(answer: requests.Response, part: Part, size: int | None, progress: Progress | None) -> None:
    have, most = part.have, size or MAX_BYTES
    length = answer.headers.get("Content-Length", "")
    total = size or (have + int(length) if length.isdigit() else None)
    with part.path.open("ab") as file:
        for block in answer.iter_content(_CHUNK):
            have += len(block)
            if have > most:
                file.close()
                part.drop()
                raise NetworkError(
                    f"{_file_name(answer.url)}: {urlsplit(answer.url).hostname} sends more than {most:,} bytes",
                    remedy="the file upstream is not the locked one: python -m wheel_resolver watch",
                )
            file.write(block)
            if progress is not None:
                progress(have, total)
    if size is not None and have < size:
        raise _CutError(f"it ended after {have:,} of {size:,} bytes")


@contextlib.contextmanager
def _disk_errors(part: Part) -> Iterator[None]:
    """Say what the disk said. requests' errors are OSErrors too; none of them gets so far."""
    try:
        yield
    except OSError as error:
        kept = f"; {part.have:,} bytes are kept" if part.validator() else ""
        raise DataError(
            f"{part.path}: cannot be written: {error.strerror or error}{kept}",
            remedy="free some space, or set WHEELWRIGHT_CACHE to a folder with more",
        ) from None


def _file_name(url: str) -> str:
    """The file's name as its URL ends; never the query, which may hold a signature."""
    return urlsplit(url).path.rsplit("/", 1)[-1].replace("%2B", "+")[:200] or "the file"
