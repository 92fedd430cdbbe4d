"""A request's body on its way: held to its size, its time and its pace, and counted in the pool."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from serve.api.callers import caller_of
from serve.errors import ServiceError
from serve.pool import Holding, Pool, current


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a body must come: in each ``seconds`` so many ``bytes_s`` a second on average."""

    seconds: float = 10.0
    bytes_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a body may be.

    Attributes:
        bytes: most of one.
        seconds: in which it must be complete.
        pace: that it must keep.
    """

    bytes: int
    seconds: float
    pace: Pace


class Incoming:
    """One body; its first message is asked for when it is known whose it is, and not before there is room for it."""

    def __init__(self, scope: Scope, receive: Receive, pool: Pool, limits: BodyLimits) -> None:
        self._scope = scope
        self._receive = receive
        self._pool = pool
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._deadline = time.monotonic() + limits.seconds
        self._window = (time.monotonic() + limits.pace.seconds, 0)  # when it ends, and what had come when it began
        self._received = 0
        self._complete = False
        self._timeout: asyncio.Timeout | None = None
        self._holding: Holding | None = None

    async def receive(self) -> Message:
        """The next message.

        Raises:
            ServiceError: 413 too large; 429 no room now.
            HTTPException: 408 too slow; it ends the connection, too.
        """
        if self._complete:  # what comes now is the caller's leaving, and takes as long as the answer
            return await self._receive()
        holding = self._holding or self._begin()
        message = await self._next(holding)
        size = len(message.get("body", b""))
        self._received += size
        if self._received > self._limits.bytes:
            raise too_large(self._limits.bytes)
        if size:
            holding.add(size)
        if not message.get("more_body"):
            self._complete = True
            holding.complete()
        return message

    def release(self) -> None:
        """The request is over."""
        if self._holding is not None:
            self._holding.release()

    def _begin(self) -> Holding:
        caller = caller_of(Request(self._scope)).client
        self._holding = holding = self._pool.holding(caller, self._wake_from_anywhere)
        current.set(holding)
        holding.coming = True
        declared = Headers(scope=self._scope).get("content-length", "")
        if declared.isdecimal():  # refused before it is read
            self._pool.make_room(holding, int(declared))
        return holding

    async def _next(self, holding: Holding) -> Message:
        while True:
            until = min(self._deadline, self._window[0])
            try:
                async with asyncio.timeout(until - time.monotonic()) as self._timeout:
                    if holding.cut is not None:
                        raise holding.cut
                    return await self._receive()
            except TimeoutError:
                self._judge(holding)

    def _judge(self, holding: Holding) -> None:
        """Why nothing is waited for any more, if so."""
        if holding.cut is not None:
            raise holding.cut
        now, (end, before) = time.monotonic(), self._window
        if now >= self._deadline:
            raise _too_slow(f"the body did not come within {self._limits.seconds:g} s (WW_DEADLINE_S)")
        if now >= end:
            least = self._limits.pace.bytes_s * self._limits.pace.seconds
            if self._received - before < least:
                what = f"the body brought {self._received - before} bytes in {self._limits.pace.seconds:g} s"
                raise _too_slow(f"{what}, less than {least:.0f} (WW_MIN_BODY_KIB_S, WW_BODY_GRACE_S)")
            self._window = (now + self._limits.pace.seconds, self._received)

    def _wake_from_anywhere(self) -> None:
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        """It was cut off: whoever waits for its next bytes is told now."""
        timeout = self._timeout
        if timeout is not None and timeout.when() is not None and not timeout.expired():
            try:
                timeout.reschedule(self._loop.time())
            except RuntimeError:  # it was left in this very moment: the next message finds it out
                return


def too_large(most: int) -> ServiceError:
    """The 413."""
    message, remedy = f"the body has more than {most} bytes", "send less, or raise WW_MAX_BODY_MIB"
    return ServiceError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", message, remedy=remedy)


def _too_slow(what: str) -> HTTPException:
    return HTTPException(HTTPStatus.REQUEST_TIMEOUT, what, {"Connection": "close"})
