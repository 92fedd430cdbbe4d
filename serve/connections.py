"""The open connections: as many as descriptors and memory allow; when there are too many, who has most gives one up."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Protocol

log = logging.getLogger(__name__)
# Descriptors that stay free for files, and for connections that are accepted before one of them is closed.
KEPT_DESCRIPTORS = 24
LEAST = 4
SAY_EVERY_S = 60.0


class Connection(Protocol):
    """What is known of one.

    Attributes:
        caller: whose it is; the address until a request has said more.
        since: when it began to wait for what it waits for.
    """

    caller: str
    since: float

    @property
    def waits(self) -> bool:
        """Whether it has no request that runs: half-open, or kept for the next one."""

    def give_up(self) -> None:
        """Close it now; one with a request is told why."""


class Connections:
    """All of them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: set[Connection] = set()
        self._said = -SAY_EVERY_S

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> None:
        """Count a new one; if it is one too many, another is given up, or itself."""
        self._open.add(connection)
        if len(self._open) > self.most:
            victim = self._victim(connection)
            self._open.discard(victim)
            self._say(victim)
            victim.give_up()

    def remove(self, connection: Connection) -> None:
        """It is closed."""
        self._open.discard(connection)

    def _victim(self, newest: Connection) -> Connection:
        """Of who holds most the one that waits longest; else whoever waits longest; else the newest.

        A request that runs is never cut for another's: it ends by itself, or by its own limits.
        """
        held = Counter(connection.caller for connection in self._open)
        waiting = [connection for connection in self._open if connection.waits and connection is not newest]
        return min(waiting, key=lambda one: (-held[one.caller], one.since), default=newest)

    def _say(self, victim: Connection) -> None:
        now = time.monotonic()
        if now - self._said >= SAY_EVERY_S:
            self._said = now
            log.warning(
                "%s connections are open, the most that descriptors and memory allow: the one of %s that waited longest"
                " is closed, and so on; remedy: raise ulimit -n or the memory, or put a proxy before the service",
                self.most,
                victim.caller,
            )


def most_connections(descriptors: int, taken: int, memory: int, each: int) -> int:
    """How many connections there may be.

    Args:
        descriptors: that the process may have.
        taken: that it has open for other things.
        memory: bytes for all connections.
        each: bytes that one may hold.
    """
    return max(LEAST, min(descriptors - taken - KEPT_DESCRIPTORS, memory // each))
