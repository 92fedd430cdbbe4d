"""How far the service is: phases of the start with their seconds, ready, draining or failed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, get_args

from serve.errors import ServiceError, StartError

Status = Literal["loading", "ready", "draining", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of the start; ``seconds`` is None while it runs."""

    name: str
    began: float
    seconds: float | None = None


class State:
    """Written by the loading thread and the signal handler, read by the routes."""

    def __init__(self) -> None:
        # Reentrant: a signal handler runs in the main thread, which may hold the lock at that moment.
        self._lock = threading.RLock()
        self._began = time.monotonic()
        self._phases: tuple[Phase, ...] = ()
        self._ready_after: float | None = None
        self._draining = False
        self.failure: StartError | None = None

    def begin(self, name: str) -> None:
        """End the running phase and begin the next."""
        with self._lock:
            self._end_phase()
            self._phases += (Phase(name, time.monotonic()),)

    def ready(self) -> float:
        """The start is over; returns its seconds."""
        with self._lock:
            self._end_phase()
            self._ready_after = time.monotonic() - self._began
            return self._ready_after

    def fail(self, error: StartError) -> None:
        """The start has failed."""
        with self._lock:
            self._end_phase()
            self.failure = error

    def drain(self) -> None:
        """Take no more work."""
        self._draining = True

    @property
    def status(self) -> Status:
        """Of the four words the one that callers must know first."""
        if self.failure is not None:
            return "failed"
        if self._draining:
            return "draining"
        return "loading" if self._ready_after is None else "ready"

    def refuse_unless_ready(self) -> None:
        """Raise the 503 that says why no work is taken now, if so."""
        error = self.refusal()
        if error is not None:
            raise error

    def refusal(self) -> ServiceError | None:
        """Why no work is taken now, as an error; None when ready."""
        status, running = self.status, self._phases[-1].name if self._phases else "start"
        if status == "ready":
            return None
        message, remedy = {
            "loading": (f"the model is loading (phase: {running})", "wait until /ready answers 200"),
            "draining": ("the service is shutting down", "ask another instance, or try again"),
            "failed": (
                str(self.failure) if self._ready_after else f"the model cannot be loaded: {self.failure}",
                "see the log",
            ),
        }[status]
        return ServiceError(HTTPStatus.SERVICE_UNAVAILABLE, status, message, remedy=remedy)

    def snapshot(self) -> dict[str, Any]:
        """``{"status", "phase", "phases": [{"name", "seconds"}], "seconds"}``, seconds until now or until ready."""
        now = time.monotonic()
        phases, total = self._phases, self._ready_after
        running = phases[-1].name if phases and phases[-1].seconds is None else None
        seconds = [(p.name, now - p.began if p.seconds is None else p.seconds) for p in phases]
        return {
            "status": self.status,
            "phase": running,
            "phases": [{"name": name, "seconds": round(value, 3)} for name, value in seconds],
            "seconds": round(now - self._began if total is None else total, 3),
        }

    def phases(self) -> str:
        """The phases with their seconds, for a line of the log: ``import 6.1 s, load 2.0 s``."""
        return ", ".join(f"{phase['name']} {phase['seconds']:.1f} s" for phase in self.snapshot()["phases"])

    def _end_phase(self) -> None:
        if self._phases and self._phases[-1].seconds is None:
            last = self._phases[-1]
            self._phases = (*self._phases[:-1], Phase(last.name, last.began, time.monotonic() - last.began))
