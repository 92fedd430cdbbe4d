"""Which places data may name: the public ones that stand here, and those that the operator's environment names.

Data of the repository (compat.yaml, matrix.yaml, the locks, the snapshot) comes by pull requests and from upstream; it
says *what* is wanted. Who runs a command says *where* it may come from:

    GITHUB_API_URL              GitHub's API, or a mirror of it; with api.github.com the only one to get GH_TOKEN
    WHEELWRIGHT_PYTORCH_WHEELS  PyTorch's wheel index, or a mirror of it
    WHEELWRIGHT_TRUST_ORIGINS   more places, `https://HOST[:PORT]`, separated by commas; none of them gets GH_TOKEN
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from matrix.errors import UsageError

TRUST_VARIABLE = "WHEELWRIGHT_TRUST_ORIGINS"
API_VARIABLE = "GITHUB_API_URL"
PYTORCH_VARIABLE = "WHEELWRIGHT_PYTORCH_WHEELS"

_PORTS = {"https": 443, "http": 80}
_ORIGIN = re.compile(r"https?://(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?/?", re.ASCII)
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Origin(NamedTuple):
    """Scheme, host and port: what two URLs must share to be of one place."""

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS.get(self.scheme) else f":{self.port}")

    @property
    def is_safe(self) -> bool:
        """Whether it may be asked: https, or http on the loopback."""
        return self.scheme == "https" or (self.scheme == "http" and self.host in _LOOPBACK)


GITHUB_API = Origin("https", "api.github.com", 443)
GITHUB = Origin("https", "github.com", 443)
PYTORCH = Origin("https", "download.pytorch.org", 443)
#: The keys of ``compat.yaml: origins``, and what is known to stand there.
KNOWN = {"github_api": GITHUB_API, "github_downloads": GITHUB, "pytorch_wheels": PYTORCH}
#: The registries of base images that need nobody's word.
KNOWN_REGISTRIES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


def origin_of(url: str) -> Origin | None:
    """The origin of a URL, the scheme's own port filled in; None if the URL is broken or names no host.

    >>> origin_of("https://github.com/a") == origin_of("https://GitHub.com:443")
    True
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a broken IPv6 address or port
        return None
    return Origin(parts.scheme, parts.hostname, port or _PORTS.get(parts.scheme)) if parts.hostname else None


@dataclass(frozen=True, slots=True)
class Operator:
    """The places that the environment names. ``trusted``: those of ``WHEELWRIGHT_TRUST_ORIGINS``."""

    api: Origin | None
    pytorch: Origin | None
    trusted: frozenset[Origin]

    def allows(self, key: str, url: str) -> bool:
        """Whether ``compat.yaml: origins.KEY`` may be this."""
        named = {"github_api": self.api, "pytorch_wheels": self.pytorch}.get(key)
        origin = origin_of(url)
        return origin is not None and origin in {KNOWN[key], named, *self.trusted}

    def allows_registry(self, host: str) -> bool:
        """Whether base images may come from a registry, ``HOST[:PORT]``."""
        found = {origin_of(f"{scheme}://{host}") for scheme in _PORTS}
        return host in KNOWN_REGISTRIES or bool(found & self.trusted)

    @property
    def downloads(self) -> frozenset[Origin]:
        """Where wheels may lie: GitHub, the place whose API was named, and what was trusted."""
        return frozenset({GITHUB, *([self.api] if self.api else []), *self.trusted})

    def allows_download(self, url: str) -> bool:
        """Whether a wheel may be taken from a URL: one of ``downloads``, or a file of this machine."""
        if url.startswith("file:///"):
            return True
        return origin_of(url) in self.downloads and "@" not in urlsplit(url).netloc


def operator(environment: Mapping[str, str] | None = None) -> Operator:
    """Read what the environment names.

    Raises:
        UsageError: ``WHEELWRIGHT_TRUST_ORIGINS`` holds something else than origins.
    """
    env = os.environ if environment is None else environment
    words = env.get(TRUST_VARIABLE, "").replace(",", " ").split()
    return Operator(
        api=_named(env.get(API_VARIABLE)),
        pytorch=_named(env.get(PYTORCH_VARIABLE)),
        trusted=frozenset(map(_trusted, words)),
    )


def word_for(url: str) -> str:
    """The remedy where a place is not known: how the operator names it."""
    return f"if you know that place and trust it, say so yourself: {TRUST_VARIABLE}={origin_of(url) or 'https://HOST'}"


def _named(url: str | None) -> Origin | None:
    found = origin_of(url) if url else None
    return found if found is not None and found.is_safe else None


def _trusted(word: str) -> Origin:
    origin = origin_of(word) if _ORIGIN.fullmatch(word) else None
    if origin is None or not origin.is_safe:
        raise UsageError(
            f"{TRUST_VARIABLE}: one of its words is no origin (it is not shown: it may hold a password)",
            remedy="write https://HOST or https://HOST:PORT, separated by commas; http is for 127.0.0.1 only",
        )
    return origin
