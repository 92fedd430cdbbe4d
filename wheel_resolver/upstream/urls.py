"""Which URLs may be asked, and which are of one place."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_safe(url: str) -> bool:
    """Whether a URL may be asked: https, or http on the loopback, and no character that a shell trips over."""
    origin = origin_of(url)
    if origin is None or not url.isascii() or not url.isprintable() or set(url) & set(" \"'`$\\<>"):
        return False
    scheme, host, _ = origin
    return scheme == "https" or (scheme == "http" and host in {"127.0.0.1", "::1", "localhost"})


def origin_of(url: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port; None for what is no URL with a host."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a broken IPv6 address or port
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None
