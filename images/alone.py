"""Two runs of these commands at once: what only one may do at a time, the other waits for, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from matrix.cli import say

_SAY_AFTER_S = 1.0


@contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock file for the time of a block; the system gives it back when a process dies, however it dies.

    Args:
        lock: the file; its folder is made.
        what: what runs elsewhere when one has to wait: ``another build of cpu runs here``.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(lock)
    try:
        held.acquire(timeout=_SAY_AFTER_S)
    except filelock.Timeout:
        say(f"{what}: waiting")
        held.acquire()
    try:
        yield
    finally:
        held.release()
