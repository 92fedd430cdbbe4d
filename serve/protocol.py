"""HTTP/1.1 as this service speaks it: uvicorn's, stricter about heads and about what frames a body.

What two servers could read differently is refused and the connection closed (RFC 9112, 6.1): a request that a proxy
takes for one must not be two here. Every refusal has the contract's shape.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from http import HTTPStatus
from typing import Any

import h11
from h11._receivebuffer import ReceiveBuffer, blank_line_regex
from uvicorn.protocols.http.h11_impl import H11Protocol

from serve.api.callers import network_of
from serve.connections import Connections
from serve.errors import ServiceError

log = logging.getLogger(__name__)

# In ``scope["state"]``: the connection of a request.
CONNECTION = "wheelwright.connection"
# What is read at once; asyncio's own 256 KiB would be held for every connection.
READ_BYTES = 64 * 1024
# After an answer that came before the end of its body, the rest is read and forgotten for so long: a connection that
# is closed with bytes unread takes the answer with it.
LINGER_S = 30.0
BAD_HEAD = ServiceError(
    HTTPStatus.BAD_REQUEST,
    "bad_request",
    "this is no HTTP that is taken here",
    remedy="send requests as RFC 9112 describes them",
)


class _StrictBuffer(ReceiveBuffer):
    """Heads whose lines end with CRLF, none of them folded: h11 takes other forms, which proxies read differently."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """See ``ReceiveBuffer``."""
        match = blank_line_regex.search(self._data, self._multiple_lines_search)
        if match is not None:
            head = bytes(self._data[: match.end()])
            if head.count(b"\n") != head.count(b"\r\n") or b"\n " in head or b"\n\t" in head:
                raise h11.LocalProtocolError("a line of the head is folded, or does not end with CRLF")
        lines: list[bytearray] | None = super().maybe_extract_lines()
        return lines


class _StrictConnection(h11.Connection):
    """Refuses a request that frames its body twice, or in a way that its version does not know."""

    def __init__(self, most_head: int) -> None:
        super().__init__(h11.SERVER, most_head)
        self._receive_buffer = _StrictBuffer()

    def next_event(self) -> Any:
        """See ``h11.Connection``.

        Raises:
            h11.RemoteProtocolError: the peer's fault.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = [name for name, _ in event.headers]
            twice = b"transfer-encoding" in names and b"content-length" in names
            if twice or names.count(b"content-length") > 1:
                raise h11.RemoteProtocolError("the request says twice how long its body is")
            if b"transfer-encoding" in names and event.http_version < b"1.1":
                raise h11.RemoteProtocolError("HTTP/1.0 has no Transfer-Encoding")
        return event


class StrictProtocol(H11Protocol):
    """A connection: its head must come in time, and there is a limit to how many there are."""

    def __init__(self, *, connections: Connections, head_timeout_s: float, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.conn = _StrictConnection(self.config.h11_max_incomplete_event_size or 16 * 1024)
        self.app_state = {**self.app_state, CONNECTION: self}
        self.caller = "unknown"
        self.since = time.monotonic()
        self._table = connections
        self._head_timeout_s = head_timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._lingers = False

    @property
    def waits(self) -> bool:
        """Whether no request runs on it."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """See ``H11Protocol``."""
        super().connection_made(transport)
        if hasattr(transport, "max_size"):
            transport.max_size = READ_BYTES
        self.caller = network_of(self.client[0]) if self.client else "unknown"
        self._start(self._head_timeout_s, self._head_is_late)
        self._table.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``H11Protocol``."""
        self._stop()
        self._table.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See ``H11Protocol``."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """See ``H11Protocol``."""
        self.since = time.monotonic()
        super().on_response_complete()
        self._watch()

    def timeout_keep_alive_handler(self) -> None:
        """See ``H11Protocol``; a caller who still sends is given longer."""
        if not self._lingers:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words say less
        """Answer a request that is not valid HTTP."""
        self._refuse(BAD_HEAD)

    def give_up(self) -> None:
        """See ``serve.connections.Connection``: at once, with all that was not sent."""
        self._tell_request()
        self.transport.abort()

    def _watch(self) -> None:
        """Keep the one time-out that fits what is waited for now."""
        if self.transport.is_closing():
            self._stop()
            return
        begun = self.conn.their_state is h11.IDLE and (self.cycle is None or self.conn.trailing_data[0])
        unread = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        if unread:
            if not self._lingers:
                self._stop()
                self._lingers = True
                self._start(LINGER_S, self.transport.close)
        elif begun:
            if self._timer is None:
                self.since = time.monotonic()
                self._start(self._head_timeout_s, self._head_is_late)
        else:
            self._stop()

    def _head_is_late(self) -> None:
        message = f"the head of the request did not come within {self._head_timeout_s:g} s (WW_HEAD_TIMEOUT_S)"
        remedy = "send it at once, or close the connection"
        self._refuse(ServiceError(HTTPStatus.REQUEST_TIMEOUT, "head_too_slow", message, remedy=remedy))

    def _refuse(self, error: ServiceError) -> None:
        """Answer and close, if there is still an answer to give."""
        self._tell_request()
        body = json.dumps(error.body(), separators=(",", ":")).encode()
        head = h11.Response(
            status_code=error.status,
            reason=HTTPStatus(error.status).phrase.encode(),
            headers=[
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ],
        )
        try:
            parts = [self.conn.send(event) for event in (head, h11.Data(data=body), h11.EndOfMessage())]
        except h11.LocalProtocolError:  # an answer has begun: nothing but the end tells
            parts = []
        self.transport.write(b"".join(part for part in parts if part))
        self.transport.close()

    def _tell_request(self) -> None:
        """Tell the request that runs, if one does, that nobody waits for its answer."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _start(self, seconds: float, then: Any) -> None:
        self._timer = self.loop.call_later(seconds, then)

    def _stop(self) -> None:
        self._lingers = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
