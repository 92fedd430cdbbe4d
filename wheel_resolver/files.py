"""Files that several processes share: written so that no reader sees half of one, and locks on what only one may do."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

#: Another process that holds a lock is said after so many seconds.
_SAY_AFTER_S = 1.0


def write_atomic(path: Path, text: str) -> None:
    """Write ``text`` beside ``path`` and move it into place; the old file stays whole if anything fails.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def alone(path: Path, waiting: Callable[[], None] | None) -> Iterator[None]:
    """Hold a lock file for the time of a block; the system gives it back when a process dies, however it dies.

    Args:
        path: the file; its folder is made.
        waiting: called once when another process holds it.
    """
    import filelock  # noqa: PLC0415 - a question needs none

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=_SAY_AFTER_S)
    except filelock.Timeout:
        if waiting is not None:
            waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
