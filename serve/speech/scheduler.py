"""The queue before the engine: pieces wait in it, and go to the engine in batches.

All of it runs in the event loop; only the engine's own calls run in the engine's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from serve.errors import ServiceError
from serve.logs import log_defect, working_for
from serve.speech.observer import Observer
from serve.speech.turns import Take, Turns

if TYPE_CHECKING:  # these import torch
    from serve.engines.engine import Engine, Outcome, Piece, Prompt
    from serve.speech.audio import Samples, Sound

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How batches are made.

    Attributes:
        batch: most pieces in one.
        window_s: how long an idle engine waits for more pieces after the first.
    """

    batch: int
    window_s: float


class Scheduler:
    """The queue, and the one task that feeds the engine from it."""

    def __init__(
        self, engine: Engine, thread: Executor, limits: Limits, observer: Observer, on_lost: Callable[[Exception], None]
    ) -> None:
        """Take a loaded engine and its thread.

        Args:
            engine: called in ``thread`` only, but for ``cancel``.
            thread: with one worker.
            limits: of batches.
            observer: is told what happens.
            on_lost: called once when the engine will not work again.
        """
        self._engine = engine
        self._thread = thread
        self._limits = limits
        self._most = limits.batch
        self._observer = observer
        self._on_lost = on_lost
        self._turns = Turns()
        self._running: list[Take] = []
        self._prompts: set[asyncio.Future[Prompt]] = set()
        self._feeding: asyncio.Task[None] | None = None
        self._closed: ServiceError | None = None

    @property
    def busy(self) -> bool:
        """Whether the engine has work right now."""
        return bool(self._running or self._prompts)

    @property
    def waiting(self) -> int:
        """How many pieces wait."""
        return len(self._turns)

    async def prompt(self, sound: Sound, text: str | None) -> Prompt:
        """Encode a reference, between two batches.

        Raises:
            ServiceError: 500 the engine failed; 503 it is gone, or the service is shutting down.
        """
        self._refuse_when_closed()
        # Emptied when nobody waits any more: the thread's queue keeps what it was given until its turn comes.
        wanted = [sound]
        run = copy_context().run  # a line from the engine's thread carries the request's id, too
        call = asyncio.get_running_loop().run_in_executor(
            self._thread, run, lambda: self._engine.prompt(wanted.pop(), text)
        )
        self._prompts.add(call)
        try:
            return await call
        except asyncio.CancelledError:
            wanted.clear()
            raise
        except Exception as error:  # noqa: BLE001 - whatever an engine raises
            raise self._explain(error) from None
        finally:
            self._prompts.discard(call)

    def submit(self, takes: Sequence[Take]) -> None:
        """Put takes into the queue, those of one client one after the other.

        Raises:
            ServiceError: 503 the engine is gone, or the service is shutting down.
        """
        self._refuse_when_closed()
        self._turns.add(takes)
        self._observer.enqueued(len(takes))
        if self._feeding is None or self._feeding.done():
            self._feeding = asyncio.get_running_loop().create_task(self._feed(), name="feed the engine")

    def cancel(self, take: Take) -> None:
        """Want no more of a take: it leaves the queue, or the engine stops making it within a frame."""
        if take.ended:
            return
        take.end("cancelled")
        self._observer.cancelled()
        if self._turns.remove(take):
            self._observer.dequeued(1)
        elif take in self._running:
            self._engine.cancel(take.piece)

    def close(self, error: ServiceError) -> None:
        """End every take with an error, and take no more; of several errors the first is the one that is told."""
        self._closed = error = self._closed or error
        waiting = self._turns.clear()
        self._observer.dequeued(len(waiting))
        for take in (*waiting, *self._running):
            self._engine.cancel(take.piece)
            take.end(error)

    async def _feed(self) -> None:
        """Run batches until nothing waits."""
        await asyncio.sleep(self._limits.window_s)
        while self._turns:
            if self._prompts:  # their pieces can share the batch
                await asyncio.wait(set(self._prompts))
                await asyncio.sleep(self._limits.window_s)
            self._running = self._turns.next_batch(self._most)
            self._observer.dequeued(len(self._running))
            self._observer.batch(len(self._running))
            try:
                if self._running:
                    with working_for(name for take in self._running for name in take.requests):
                        await self._run(self._running)
            finally:
                self._running = []

    async def _run(self, batch: Sequence[Take]) -> None:
        loop = asyncio.get_running_loop()
        takes = {take.piece: take for take in batch}

        def deliver(piece: Piece, samples: Samples | None, outcome: Outcome | None) -> None:
            loop.call_soon_threadsafe(self._deliver, takes[piece], samples, outcome)

        def run() -> None:
            # The thread may have encoded a voice first: what is said for whoever left meanwhile need not be begun.
            wanted = [piece for piece, take in takes.items() if not take.ended]
            if wanted:
                self._engine.run(wanted, batch[0].seed, deliver)

        try:
            await loop.run_in_executor(self._thread, copy_context().run, run)
        except Exception as error:  # noqa: BLE001 - whatever an engine raises, the others' pieces go on
            await asyncio.sleep(0)  # what it delivered before comes first
            if not self._again_in_smaller(batch, error):
                explained = self._explain(error)
                for take in batch:
                    take.end(explained)

    def _deliver(self, take: Take, samples: Samples | None, outcome: Outcome | None) -> None:
        """In the event loop: what the engine made, unless nobody wants it any more, or there is no room for it."""
        if take.ended:
            return
        take.begun = True
        if samples is not None:
            try:
                take.give(samples)
            except ServiceError as error:
                take.end(error)
                self._engine.cancel(take.piece)
                return
        if outcome is not None:
            take.end(outcome)

    def _again_in_smaller(self, batch: Sequence[Take], error: Exception) -> bool:
        """Where memory ran out: halve the batches, and queue again what nothing was heard of. Whether that was it."""
        from serve.engines.engine import OutOfMemoryError  # noqa: PLC0415 - torch comes with it, and is there by now

        if not isinstance(error, OutOfMemoryError) or len(batch) == 1:
            return False
        self._most = max(1, len(batch) // 2)
        log.warning("a batch of %s did not fit into the memory: from now on at most %s", len(batch), self._most)
        again = [take for take in batch if not take.begun and not take.ended]
        self._turns.put_back(again)
        self._observer.enqueued(len(again))
        lost = self._explain(error)
        for take in batch:
            if take not in again:
                take.end(lost)
        return True

    def _refuse_when_closed(self) -> None:
        if self._closed is not None:
            raise self._closed

    def _explain(self, error: Exception) -> ServiceError:
        """What a caller is told of an engine's error; one that is the engine's end closes the queue."""
        from serve.engines.engine import EngineLostError, OutOfMemoryError, TooLongError  # noqa: PLC0415 - as above

        if isinstance(error, TooLongError):
            message = f"reference, transcript and text are too long together: {error}"
            remedy = "take a shorter reference, or send a shorter text"
            return ServiceError(HTTPStatus.UNPROCESSABLE_ENTITY, "too_long", message, remedy=remedy)
        log_defect(log, "the engine failed", error)
        if isinstance(error, EngineLostError):
            lost = engine_lost()
            if self._closed is None:
                self.close(lost)
                self._on_lost(error)
            return lost
        if isinstance(error, OutOfMemoryError):
            remedy = "try again later, with a shorter reference or a shorter text"
            message = "the request does not fit into the memory"
            return ServiceError(HTTPStatus.SERVICE_UNAVAILABLE, "out_of_memory", message, remedy=remedy)
        return ServiceError(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "engine_failed",
            f"the engine failed: {type(error).__name__}",
            remedy="try again; if it stays, see the log",
        )


def engine_lost() -> ServiceError:
    """What everyone is told who waits for an engine that will not work again."""
    message, remedy = "the engine has failed and the service will restart", "ask another instance, or try again"
    return ServiceError(HTTPStatus.SERVICE_UNAVAILABLE, "engine_lost", message, remedy=remedy)
