"""Files that several processes share: written so that no reader sees half of one, and locks on what only one may do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from matrix import tree

#: Another process that holds a lock is said after so many seconds.
_SAY_AFTER_S = 1.0
_LOOK_AGAIN_S = 0.05


def write_atomic(path: Path, text: str) -> None:
    """Write ``text`` beside ``path`` and move it into place; the old file stays whole if anything fails.

    Raises:
        DataError: a link is in the way, below the project's root.
        OSError: the folder cannot be made or written to.
    """
    tree.write(path, text)


@contextlib.contextmanager
def alone(path: Path, waiting: Callable[[], None] | None) -> Iterator[None]:
    """Hold a lock file for the time of a block; the system gives it back when a process dies, however it dies.

    Args:
        path: the file; its folder is made, and what may stand in it stays.
        waiting: called once when another process holds it.

    Raises:
        DataError: a link is in the way, below the project's root.
    """
    import fcntl  # noqa: PLC0415 - a question needs none

    with tree.open_file(path, "ab") as file:
        deadline = time.monotonic() + _SAY_AFTER_S
        while not (held := _taken(file)) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_S)
        if not held:
            if waiting is not None:
                waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file gives the lock back


def _taken(file: BinaryIO) -> bool:
    """Take a lock, if no other process holds it."""
    import fcntl  # noqa: PLC0415

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
