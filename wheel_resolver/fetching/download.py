"""Stream one URL into one file: resumed after a cut, tried again within bounds.

A part is resumed only where the server gave a validator (a strong ``ETag``, else ``Last-Modified``) and answers
``Range`` with ``If-Range`` by 206; else it starts anew. The validator is kept beside the part, the URLs of redirects
never: they are short-lived. Sources: RFC 9110 sections 13.1.5 (If-Range), 14.2 (Range).
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from matrix.errors import DataError, NetworkError
from wheel_resolver.fetching.asking import PARTIAL, CutError, file_name, follow, in_words, refuse_status
from wheel_resolver.fetching.part import Part
from wheel_resolver.upstream.wheel_folder import copy_wheel

if TYPE_CHECKING:
    import requests

    from wheel_resolver.upstream.logins import Logins

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
_RANGE_WRONG = 416
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")

#: Told the bytes that are there, and how many there will be (None: not known).
Progress = Callable[[int, int | None], None]


def download(
    url: str, part: Part, *, size: int | None = None, progress: Progress | None = None, logins: Logins | None = None
) -> bool:
    """Bring ``url`` into ``part``, going on where it ends.

    Args:
        logins: who has the login of the URL's place; without it those of pip's and uv's settings and of ``.netrc``. A
            redirect to another place carries none.
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

    from wheel_resolver.upstream.ca_bundle import ca_bundle  # noqa: PLC0415
    from wheel_resolver.upstream.logins import Logins, only_for  # noqa: PLC0415

    failures = 0
    with requests.Session() as session, _disk_errors(part):
        if url.startswith("https:"):
            session.verify = ca_bundle(os.environ) or True
        session.auth = only_for(url, (logins or Logins(os.environ)).of(url))
        if size is not None and part.have > size:
            part.drop()
        furthest = part.have
        while True:
            try:
                return _attempt(session, url, part, size, progress)
            except CutError as cut:
                failures = 1 if part.have >= furthest + _PROGRESS else failures + 1
                furthest = max(furthest, part.have)
                if part.validator() is None:
                    part.drop()
                _wait_or_give_up(url, part, cut, failures)


def _wait_or_give_up(url: str, part: Part, cut: CutError, failures: int) -> None:
    asked = cut.wait_s or 0.0
    if failures < ATTEMPTS and asked <= MAX_RETRY_AFTER_S:
        time.sleep(max(asked, WAIT_S * 2 ** (failures - 1)))
        return
    tried = f"asks to wait {asked:.0f} s" if asked > MAX_RETRY_AFTER_S else f"tried {failures} times"
    kept = f"; {part.have:,} bytes are kept, and the next fetch goes on from there" if part.have else ""
    raise NetworkError(
        f"{file_name(url)}: {urlsplit(url).hostname} gave no file ({tried}): {cut.why}{kept}",
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
        with follow(session, url, headers) as answer:
            if answer.status_code == _RANGE_WRONG and validator is not None:
                part.drop()
                raise CutError("the part that was there is not of this file")
            refuse_status(answer)
            resumed = answer.status_code == PARTIAL and validator is not None
            if resumed:
                _same_place(answer, part)
            else:
                _start(answer, part)
            _save(answer, part, size, progress)
            return resumed
    except ValueError:  # requests reads where a redirect leads before we do
        raise NetworkError(
            f"{file_name(url)}: {urlsplit(url).hostname}: its URL, or that of a redirect, cannot be read",
            remedy="correct the URL in the lock, or see what stands between this machine and the host",
        ) from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise CutError(in_words(error)) from None


def _same_place(answer: requests.Response, part: Part) -> None:
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != part.have:
        part.drop()
        raise CutError("it answered with another range than the one asked for")


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
    total = size or (have + int(length) if length.isdecimal() else None)
    with part.path.open("ab") as file:
        for block in answer.iter_content(_CHUNK):
            have += len(block)
            if have > most:
                file.close()
                part.drop()
                raise NetworkError(
                    f"{file_name(answer.url)}: {urlsplit(answer.url).hostname} sends more than {most:,} bytes",
                    remedy="the file upstream is not the locked one: python -m wheel_resolver watch",
                )
            file.write(block)
            if progress is not None:
                progress(have, total)
    if size is not None and have < size:
        raise CutError(f"it ended after {have:,} of {size:,} bytes")


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
