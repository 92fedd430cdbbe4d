"""API keys: who may ask, and how much. A request is refused before its body is read.

A key is kept as its SHA-256 and compared in constant time. Nothing here logs one, quotes one in an error, or shows one
in a ``repr``; what stands for a key everywhere else is its id: its name, or a short hash of it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.callers import note_key
from serve.api.http import error_response
from serve.errors import ServiceError, SettingsError
from serve.settings import Settings

log = logging.getLogger(__name__)

# What an orchestrator asks without a key. All else needs one: /metrics and /info, too.
OPEN = frozenset({"/live", "/ready", "/health"})
SHORTEST_KEY = 16
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SECRET = re.compile(r"[!-~]+")
# No name may look like the id of a key without one.
HASHED = "key-"
MAKE_ONE = "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is accepted.

    Attributes:
        id: its name, or a hash of it: the same after a restart.
        digest: SHA-256 of the key.
    """

    id: str
    digest: bytes = field(repr=False)


def read_keys(settings: Settings) -> tuple[Key, ...]:
    """The keys of ``WW_API_KEYS`` and of ``WW_API_KEYS_FILE``; none of either set: no keys, and whoever asks is served.

    Several keys may have one name, so that a caller can change keys and keep its voices.

    Raises:
        SettingsError: an entry cannot be a key, a key is there twice, the file cannot be read, no key where one of the
            two is set, or a limit for keys without keys.
    """
    entries: list[tuple[str, str]] = []
    if settings.api_keys is not None:
        # One key of several may be left empty by a template; a list of nothing but such is a mistake.
        listed = settings.api_keys.get_secret_value().split(",")
        entries += _entries("WW_API_KEYS", "entry", listed)
    if settings.api_keys_file is not None:
        entries += _entries(f"WW_API_KEYS_FILE={settings.api_keys_file}", "line", _lines(settings.api_keys_file))
    keys = tuple(_key(where, entry) for where, entry in entries)
    if len({key.digest for key in keys}) < len(keys):
        raise SettingsError("WW_API_KEYS and WW_API_KEYS_FILE: a key is there twice", remedy="give each caller its own")
    limits = {
        "WW_KEY_REQUESTS_PER_MIN": settings.key_requests_per_min,
        "WW_KEY_CONCURRENT": settings.key_concurrent,
    }
    for name, limit in limits.items():
        if limit is not None and not keys:
            raise SettingsError(f"{name} is set, and there are no keys to limit", remedy="set WW_API_KEYS, or unset it")
    return keys


def warn_if_open(settings: Settings, keys: Sequence[Key]) -> None:
    """Say in the log, at the start, that anyone who reaches the port is served."""
    if not keys and not _is_loopback(settings.host):
        log.warning("anyone who reaches %s port %s is served: set WW_API_KEYS", settings.host, settings.port)


def add_keys(app: FastAPI, settings: Settings) -> None:
    """Ask for keys, if there are any, and say so in the OpenAPI document. To be called before ``Guard`` is added.

    Raises:
        SettingsError: see ``read_keys``.
    """
    keys = read_keys(settings)
    warn_if_open(settings, keys)
    if not keys:
        return
    app.add_middleware(
        KeyGate, keys=keys, requests_per_min=settings.key_requests_per_min, concurrent=settings.key_concurrent
    )
    describe: Callable[[], dict[str, Any]] = app.openapi

    def with_keys() -> dict[str, Any]:
        document = describe()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["bearer"] = {"type": "http", "scheme": "bearer"}
        schemes["header"] = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        document["security"] = [{"bearer": []}, {"header": []}]
        for path in OPEN & document["paths"].keys():
            for operation in document["paths"][path].values():
                operation["security"] = []
        return document

    app.openapi = with_keys  # type: ignore[method-assign] # FastAPI's documented way to extend the document


@dataclass(slots=True)
class _Use:
    """How much of its share a key has used: a bucket of requests that fills up, and what runs now."""

    left: float
    counted: float
    running: int = 0


class KeyGate:
    """The layer that asks for a key, and holds each to its share."""

    def __init__(
        self,
        app: ASGIApp,
        keys: Sequence[Key],
        requests_per_min: int | None = None,
        concurrent: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self._keys = tuple(keys)
        self._per_min = requests_per_min
        self._concurrent = concurrent
        self._clock = clock
        self._uses = {key.id: _Use(requests_per_min or 0, clock()) for key in keys}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        presented = presented_key(scope)
        key_id = None if presented is None else find_key(self._keys, presented)
        if key_id is None:
            await _unauthorized(presented is not None)(scope, receive, send)
            return
        use = self._uses[key_id]
        refusal = self._too_many(use)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        note_key(scope, key_id)
        use.running += 1
        try:
            await self.app(scope, receive, send)
        finally:
            use.running -= 1

    def _too_many(self, use: _Use) -> Response | None:
        """The 429, if this request is one too many; else it is counted."""
        if self._concurrent is not None and use.running >= self._concurrent:
            message = f"{use.running} requests of this key are running, which is the most"
            return _come_back("too_many_at_once", message, "wait for one of them to end", 1)
        if self._per_min is not None:
            now = self._clock()
            use.left = min(self._per_min, use.left + (now - use.counted) * self._per_min / 60)
            use.counted = now
            if use.left < 1:
                message = f"this key has had its {self._per_min} requests a minute"
                seconds = math.ceil((1 - use.left) * 60 / self._per_min)
                return _come_back("too_many_requests", message, "ask less often", seconds)
            use.left -= 1
        return None


def presented_key(scope: Scope) -> bytes | None:
    """The key that a request shows: ``Authorization: Bearer``, else ``X-API-Key``."""
    headers: Mapping[bytes, bytes] = dict(scope["headers"])
    scheme, _, token = headers.get(b"authorization", b"").strip().partition(b" ")
    if scheme.lower() == b"bearer" and token.strip():
        return token.strip()
    return headers.get(b"x-api-key", b"").strip() or None


def find_key(keys: Sequence[Key], presented: bytes) -> str | None:
    """The id of the key, or None; takes the same time whichever it is, and whether or not it is one."""
    digest = hashlib.sha256(presented).digest()
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key.id
    return found


def _entries(where: str, unit: str, entries: Sequence[str]) -> list[tuple[str, str]]:
    """``(place, entry)`` of each that is not empty."""
    kept = [(f"{where}: {unit} {number}", entry.strip()) for number, entry in enumerate(entries, 1) if entry.strip()]
    if not kept:
        raise SettingsError(f"{where} holds no key", remedy=f"put a key there ({MAKE_ONE}), or unset it")
    return kept


def _lines(file: Path) -> list[str]:
    """The file's lines, those of comments emptied, so that the others keep their numbers."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        # A decoding error's text would quote the file.
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"WW_API_KEYS_FILE={file}: cannot be read: {reason}", remedy="one key a line") from error
    return ["" if line.lstrip().startswith("#") else line for line in text.splitlines()]


def _key(where: str, entry: str) -> Key:
    name, colon, secret = entry.rpartition(":")
    if colon and (not NAME.fullmatch(name) or name.startswith(HASHED)):
        what = f"has a name that is not of letters, digits and `_.-`, or that begins with {HASHED!r}"
        raise SettingsError(f"{where} {what}", remedy="write name:key, or only the key")
    if not SECRET.fullmatch(secret):
        raise SettingsError(f"{where} holds a blank, or a character that is not ASCII", remedy=MAKE_ONE)
    if len(secret) < SHORTEST_KEY:
        what = f"has a key of {len(secret)} characters, which can be guessed; {SHORTEST_KEY} are the least"
        raise SettingsError(f"{where} {what}", remedy=MAKE_ONE)
    hashed = hashlib.sha256(b"wheelwright key id\0" + secret.encode()).hexdigest()[:16]
    return Key(name or HASHED + hashed, hashlib.sha256(secret.encode()).digest())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unauthorized(shown: bool) -> Response:
    code, message = ("wrong_key", "the API key is not valid") if shown else ("no_key", "an API key is needed")
    remedy = "send a key of this service, as Authorization: Bearer KEY or as X-API-Key: KEY"
    answer = error_response(ServiceError(HTTPStatus.UNAUTHORIZED, code, message, remedy=remedy))
    answer.headers["WWW-Authenticate"] = 'Bearer realm="wheelwright"' + (', error="invalid_token"' if shown else "")
    return answer


def _come_back(code: str, message: str, remedy: str, seconds: int) -> Response:
    answer = error_response(ServiceError(HTTPStatus.TOO_MANY_REQUESTS, code, message, remedy=remedy))
    answer.headers["Retry-After"] = str(seconds)
    return answer
