"""The layer that asks for API keys, and holds each to its share. A request is refused before its body is read."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.callers import note_key
from serve.api.http import error_response
from serve.api.keys import Key, Keyring, find_key, warn_if_open
from serve.errors import ServiceError
from serve.settings import Settings

# What an orchestrator asks without a key. All else needs one: /metrics and /info, too.
OPEN = frozenset({"/live", "/ready", "/health"})


def add_keys(app: FastAPI, settings: Settings) -> None:
    """Ask for keys, if there are any, and say so in the OpenAPI document. To be called before ``Guard`` is added.

    Raises:
        SettingsError: see ``serve.api.keys.read_keys``.
    """
    keyring = Keyring(settings)
    warn_if_open(settings, keyring.current())
    if not keyring.current():  # and there will be none: a file without keys is never in force
        return
    app.add_middleware(
        KeyGate,
        keys=keyring.current,
        requests_per_min=settings.key_requests_per_min,
        concurrent=settings.key_concurrent,
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
    """How much of its share a key's id has used: a bucket of requests that fills up, and what runs now."""

    left: float
    counted: float
    running: int = 0


class KeyGate:
    """The layer itself.

    Args:
        app: what is behind it.
        keys: gives those that are accepted now; a request that was let in goes on when its key is taken out.
        requests_per_min: most requests a minute of one id.
        concurrent: most running requests of one id.
        clock: seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Callable[[], Sequence[Key]],
        requests_per_min: int | None = None,
        concurrent: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self._keys = keys
        self._per_min = requests_per_min
        self._concurrent = concurrent
        self._clock = clock
        self._uses: dict[str, _Use] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        presented = presented_key(scope)
        key_id = None if presented is None else find_key(self._keys(), presented)
        if key_id is None:
            await _unauthorized(presented is not None)(scope, receive, send)
            return
        use = self._uses.setdefault(key_id, _Use(self._per_min or 0, self._clock()))
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
