"""What is attacked with inputs by the thousand: a function that must stand them, and where the inputs come from."""

from __future__ import annotations

import importlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import strategies as st

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Target:
    """A function under attack.

    Attributes:
        name: how the command line names it.
        inputs: the inputs; most are right ones that were mutated.
        check: takes an input, and raises where it is answered wrongly: by another error than the documented one, or
            by a value that breaks what is promised.
        seconds: within which each input must be answered; ten times what the slowest takes on two busy cores.
        examples: so many are tried by the tests, where nobody hunts.
        prepare: called once before the first input: what it takes is not the inputs' time.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]
    seconds: float = 5.0
    examples: int = 200
    prepare: Callable[[], object] | None = None

    def answer(self, value: Any) -> None:
        """Check one input.

        Raises:
            TimeoutError: it took too long; whatever ``check`` raises.
        """
        start = time.monotonic()
        with _ended_after(4 * self.seconds):
            self.check(value)
        took = time.monotonic() - start
        if took > self.seconds:
            raise TimeoutError(f"{self.name}: answered after {took:.1f} s, and not within {self.seconds:.0f}")


@contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """End a block that runs for ever: a signal, so in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"no answer in {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def all_targets() -> dict[str, Target]:
    """The ``TARGETS`` of every ``*_targets.py`` in this folder, by name."""
    found: dict[str, Target] = {}
    for path in sorted(FOLDER.glob("*_targets.py")):
        module = importlib.import_module(f"tests.fuzz.{path.stem}")
        for target in module.TARGETS:
            if target.name in found:
                raise ValueError(f"two targets are called {target.name}")
            found[target.name] = target
    return found
