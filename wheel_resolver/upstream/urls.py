"""Which URLs may be asked, and which are of one place."""

from __future__ import annotations

import re

from matrix.origins import origin_of

__all__ = ["WHEEL_URL", "is_safe", "is_wheel_url", "origin_of"]

#: A wheel's place: no user, no query, no fragment, and nothing that a shell or a terminal takes for more than text.
#: What needs a signature in its query is gone tomorrow, and has no place in a lock.
WHEEL_URL = r"(?:https://[A-Za-z0-9.-]+|http://(?:127\.0\.0\.1|localhost))(?::\d{1,5})?/[A-Za-z0-9._~%/+:@,=!-]*"
_WHEEL_URL = re.compile(WHEEL_URL, re.ASCII)


def is_safe(url: str) -> bool:
    """Whether a URL may be asked: https, or http on the loopback, and no character that a shell trips over."""
    origin = origin_of(url)
    if origin is None or not url.isascii() or not url.isprintable() or set(url) & set(" \"'`$\\<>"):
        return False
    return origin.is_safe


def is_wheel_url(url: str) -> bool:
    """Whether a listing may say that a wheel lies there."""
    return _WHEEL_URL.fullmatch(url) is not None and is_safe(url)
