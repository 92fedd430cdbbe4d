"""An answer on its way out: a large one goes in parts, each of which the caller must take in time.

Given to the server whole, it would lie in a buffer that nobody counts, for as long as its caller does not read. In
parts, all but the last few stay with their request, which holds them in the pool; and who takes nothing is cut off. A
stream is made of small parts, and has a rule of its own (``serve.api.spoken``).
"""

from __future__ import annotations

import asyncio
import logging

from starlette.types import Message, Scope, Send

from serve.api.incoming import Pace
from serve.api.requests import route_of
from serve.protocol import CONNECTION

log = logging.getLogger(__name__)

# As much as the event loop keeps for a connection before it says that it is full.
PART = 64 * 1024


class Outgoing:
    """One answer.

    Attributes:
        status: of its head; 0 before that.
    """

    def __init__(self, scope: Scope, send: Send, pace: Pace) -> None:
        self.status = 0
        self._scope = scope
        self._send = send
        self._seconds = pace.seconds + PART / pace.bytes_s if pace.bytes_s else None
        self._cut = False

    async def send(self, message: Message) -> None:
        """See ASGI's ``send``."""
        if self._cut:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
        body = message.get("body", b"")
        if len(body) <= PART:
            await self._send(message)
            return
        more, content = message.get("more_body", False), memoryview(body)
        try:
            for start in range(0, len(content), PART):
                part, rest = bytes(content[start : start + PART]), start + PART < len(content)
                async with asyncio.timeout(self._seconds):
                    await self._send({**message, "body": part, "more_body": rest or more})
        except TimeoutError:
            self._cut_off()

    def _cut_off(self) -> None:
        """Nothing but the end of the connection tells a caller who does not read."""
        self._cut = True
        log.warning(
            "%s %r is cut off: its caller took nothing for %.0f s (WW_MIN_BODY_KIB_S, WW_BODY_GRACE_S)",
            self._scope["method"],
            route_of(self._scope),
            self._seconds,
        )
        connection = self._scope.get("state", {}).get(CONNECTION)
        if connection is not None:
            connection.give_up()
