"""The outermost layer: an id for each request, one log line and one count when it is answered."""

from __future__ import annotations

import logging
import re
import time
import uuid
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.callers import caller_of
from serve.api.metrics import Metrics
from serve.errors import ServiceError
from serve.logs import FIELDS, working_for

log = logging.getLogger(__name__)

ID_HEADER = "X-Request-ID"
# What may stand in a log line and a header as it is.
VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Probes and scrapes come every few seconds for ever; their lines would bury the others.
QUIET = frozenset({"/live", "/ready", "/health", "/metrics"})
UNMATCHED = "(none)"
"""The route of a request that no route took: its path is the caller's text, and would be a series of its own."""


@dataclass(slots=True)
class _Tally:
    """What is known of a request at its end."""

    began: float
    status: int = 0
    received: int = 0
    sent: int = 0
    error: str | None = None
    cause: str | None = None


_current: ContextVar[_Tally | None] = ContextVar("tally", default=None)


def note_error(code: str, cause: str | None = None) -> None:
    """Say for the log line and the counts which error answers the request that runs, and which other is its cause."""
    tally = _current.get()
    if tally is not None:
        tally.error, tally.cause = code, cause or code


class Requests:
    """Gives each request its id, tells of it in the log and counts it in the metrics."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        current = choose_id(Headers(scope=scope).get(ID_HEADER))
        tally = _Tally(time.monotonic())

        async def counting_receive() -> Message:
            message = await receive()
            tally.received += len(message.get("body", b""))
            return message

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                tally.status = message["status"]
                MutableHeaders(scope=message)[ID_HEADER] = current
            await send(message)
            tally.sent += len(message.get("body", b""))

        with working_for([current]):
            token = _current.set(tally)
            try:
                await self.app(scope, counting_receive, counting_send)
            finally:
                self._tell(scope, tally)
                _current.reset(token)

    def _tell(self, scope: Scope, tally: _Tally) -> None:
        """The access line and the counts."""
        route, seconds = route_of(scope), time.monotonic() - tally.began
        self.metrics.request(scope["method"], route, tally.status, seconds, received=tally.received, sent=tally.sent)
        fields: dict[str, Any] = {
            "method": scope["method"],
            "route": route,
            "status": tally.status,
            "ms": round(1000 * seconds),
            "caller": _caller(scope),
            "bytes_in": tally.received,
            "bytes_out": tally.sent,
        }
        if tally.error is not None:
            self.metrics.error(tally.error, tally.cause or tally.error)
            fields["error"] = tally.error
        log.log(
            logging.DEBUG if route in QUIET else logging.INFO,
            "%s %r %s in %s ms, %s bytes in, %s out%s",
            *(fields[name] for name in ("method", "route", "status", "ms", "bytes_in", "bytes_out")),
            "" if tally.error is None else f": {tally.error}",
            extra={FIELDS: fields},
        )


def choose_id(sent: str | None) -> str:
    """The caller's id if it may be one, else a new one."""
    return sent if sent is not None and VALID_ID.fullmatch(sent) else uuid.uuid4().hex


def route_of(scope: Scope) -> str:
    """The template of the route that the request is for (``/v1/audio/voices/{name}``), or `UNMATCHED`."""
    route = scope.get("route")
    if route is None and "app" in scope:  # refused before it came to the routes
        matching = (known for known in scope["app"].routes if known.matches(scope)[0] is not Match.NONE)
        route = next(matching, None)
    path = getattr(route, "path", None)
    return path if isinstance(path, str) else UNMATCHED


def _caller(scope: Scope) -> str:
    try:
        return caller_of(Request(scope)).id
    except ServiceError:  # whoever it was, it was not let in
        return "refused"
