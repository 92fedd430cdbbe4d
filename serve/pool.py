"""The memory that requests hold: counted byte by byte, bounded, and fair between callers.

Alone a caller may have all of it. While others wait, he has at most his share: his bodies that are still coming, and
are more than that, are cut off, those first that brought nothing for longest. What is complete is not taken back; so
that it cannot fill everything, the last eighth is for callers who hold nothing.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus

from serve.errors import ServiceError

# So long somebody who found no room counts as waiting: as long as a client that is told to come back may take.
WAITS_S = 10.0
KEPT_SHARE = 8
# Of the largest size: as much as bodies that are not complete may hold, all together.
BODIES_AT_ONCE = 8


class Holding:
    """What one request holds.

    Attributes:
        caller: whose share it is of.
        coming: its body is not complete: it can be cut off.
        cut: why it was.
        size: bytes.
        over: the request is, and holds no more: a thread that still decodes for it stops there.
        progress: when it last held more.
    """

    def __init__(self, pool: Pool, caller: str, on_cut: Callable[[], None] | None = None) -> None:
        self._pool = pool
        self.caller = caller
        self.on_cut = on_cut
        self.coming = False
        self.cut: ServiceError | None = None
        self.size = 0
        self.over = False
        self.progress = pool.clock()

    def add(self, size: int) -> None:
        """Hold more.

        Raises:
            ServiceError: 429 there is no room now; 413 there never will be; what it was cut off for.
        """
        self._pool.add(self, size)

    def sub(self, size: int) -> None:
        """Hold less."""
        self._pool.sub(self, size)

    def complete(self) -> None:
        """The body is: it cannot be cut off any more."""
        self._pool.complete(self)

    def release(self) -> None:
        """Hold nothing; any number of times."""
        self._pool.forget(self)


class Pool:
    """All holdings.

    Args:
        total: most bytes of all.
        bodies: most bytes of bodies that are coming.
        unexplained: gives bytes that are taken and that nobody has counted; they leave so much less for requests.
        clock: seconds.
    """

    def __init__(
        self,
        total: int,
        bodies: int,
        unexplained: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.bodies = bodies
        self.unexplained = unexplained
        self.clock = clock
        self.used = 0
        self.freed = 0
        self.coming = 0
        # Audio is decoded in threads.
        self._lock = threading.RLock()
        self._holdings: set[Holding] = set()
        self._waiting: dict[str, float] = {}

    def holding(self, caller: str, on_cut: Callable[[], None] | None = None) -> Holding:
        """A holding of nothing; ``on_cut`` is called in any thread."""
        return Holding(self, caller, on_cut)

    def add(self, holding: Holding, size: int) -> None:
        """See ``Holding.add``."""
        with self._lock:
            if holding.cut is not None:
                raise holding.cut
            if holding.over:
                raise self._busy("and this request is over")
            self.make_room(holding, size)
            self._holdings.add(holding)
            self._count(holding, size)
            holding.progress = self.clock()

    def sub(self, holding: Holding, size: int) -> None:
        """See ``Holding.sub``."""
        with self._lock:
            self._count(holding, -min(size, holding.size))

    def complete(self, holding: Holding) -> None:
        """See ``Holding.complete``."""
        with self._lock:
            if holding.coming:
                self.coming -= holding.size
                holding.coming = False

    def forget(self, holding: Holding) -> None:
        """A request is over."""
        with self._lock:
            self._count(holding, -holding.size)
            holding.over = True
            self._holdings.discard(holding)

    def make_room(self, holding: Holding, size: int) -> None:
        """See that ``size`` more would fit, without holding them.

        Raises:
            ServiceError: as ``Holding.add``.
        """
        with self._lock:
            if holding.size + size > self.total:
                raise self._never(holding.size + size)
            self._waiting = {who: until for who, until in self._waiting.items() if until > self.clock()}
            held, coming = self._by_caller()
            callers = {holding.caller} | held.keys() | self._waiting.keys()
            share, share_coming = self.total // len(callers), self.bodies // len(callers)
            own, own_coming = held[holding.caller] + size, coming[holding.caller] + size * holding.coming
            within = own <= share and own_coming <= share_coming
            if not within and self._waiting.keys() - {holding.caller}:
                raise self._busy(f"{own} bytes of it yours, and others wait")
            # One request alone may need all; several of one caller leave some to others.
            mine = holding.size + size
            if not holding.coming and own > mine and own > self.total - self.total // KEPT_SHARE:
                raise self._busy(f"{own} bytes of it yours, and the last of it is for others")
            if self._short(size, coming=holding.coming):
                self._waiting[holding.caller] = self.clock() + WAITS_S
                if within:
                    self._cut_off(holding, size, share, share_coming)
                if self._short(size, coming=holding.coming):
                    raise self._busy("which is the most")

    def _short(self, size: int, *, coming: bool) -> bool:
        if coming and self.coming + size > self.bodies:
            return True
        if self.used + size > self.total:
            return True
        return self.used + size > self.total - self.unexplained()

    def _cut_off(self, holding: Holding, size: int, share: int, share_coming: int) -> None:
        """Cut bodies off of those who have more than their share until ``size`` fits."""
        for victim in sorted(self._holdings, key=lambda one: one.progress):
            if not self._short(size, coming=holding.coming):
                return
            held, coming = self._by_caller()
            greedy = held[victim.caller] > share or coming[victim.caller] > share_coming
            if victim.coming and greedy and victim.caller != holding.caller:
                victim.cut = self._busy("and others wait, who have less of it than you")
                self._count(victim, -victim.size)
                self._holdings.discard(victim)
                if victim.on_cut is not None:
                    victim.on_cut()

    def _by_caller(self) -> tuple[Counter[str], Counter[str]]:
        """What callers hold, and of that in bodies that are coming."""
        held: Counter[str] = Counter()
        coming: Counter[str] = Counter()
        for one in self._holdings:
            held[one.caller] += one.size
            coming[one.caller] += one.size * one.coming
        return held, coming

    def _count(self, holding: Holding, size: int) -> None:
        holding.size += size
        self.used += size
        self.freed += max(0, -size)
        if holding.coming:
            self.coming += size

    def _busy(self, why: str) -> ServiceError:
        message = f"requests hold {self.used} bytes of the {self.total} that the service has for them, {why}"
        return ServiceError(HTTPStatus.TOO_MANY_REQUESTS, "busy", message, remedy="try again later, or send less")

    def _never(self, size: int) -> ServiceError:
        message = f"the request needs {size} bytes of memory at once; the service has {self.total} for all requests"
        remedy = "send less, or give the service more memory (GET /info says how it is shared out)"
        return ServiceError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", message, remedy=remedy)


current: ContextVar[Holding | None] = ContextVar("holding", default=None)
"""What the request that runs holds; its threads see it, too. None outside of a request."""


def hold(size: int) -> None:
    """Hold so much more for the request that runs, until it ends or gives it back.

    Raises:
        ServiceError: as ``Holding.add``.
    """
    holding = current.get()
    if holding is not None:
        holding.add(size)


def unhold(size: int) -> None:
    """Give some of it back."""
    holding = current.get()
    if holding is not None:
        holding.sub(size)


@contextmanager
def holding_for(size: int) -> Iterator[None]:
    """Hold so much more for the time of a block."""
    hold(size)
    try:
        yield
    finally:
        unhold(size)
