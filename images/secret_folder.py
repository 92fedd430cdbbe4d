"""The folder of a build's secrets: outside the checkout, for its owner only, and gone when the build is.

Nothing that a checkout holds, a link or a ``.dockerignore``, decides where these files lie or whether an image may read
them. They are in memory where the machine has such a place, so that a power cut leaves nothing on a disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from matrix.errors import UsageError

PREFIX = "wheelwright-secrets-"


@contextlib.contextmanager
def secret_folder(root: Path) -> Iterator[Path]:
    """A fresh folder for the time of a block; those that killed runs of this user left are removed, too.

    Args:
        root: the checkout, in which it does not lie.

    Raises:
        UsageError: there is no place for it.
    """
    places = _places(root)
    if not places:
        raise UsageError(
            f"there is no folder outside of {root} for the secrets of a build",
            remedy="set TMPDIR to a folder that you may write, and that others may not take files out of",
        )
    for place in places:
        _sweep(place)
    folder, held = _make(places[0])
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(held)


def end_as_ctrl_c() -> None:
    """Let what ends a process quietly end this one as Ctrl-C does: secrets must not stay behind."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)


def _places(root: Path) -> list[Path]:
    """Where it may lie, the best first: where TMPDIR says, in memory, on a disk."""
    wanted = (os.environ.get("TMPDIR"), os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm", "/tmp", "/var/tmp")  # noqa: S108
    places = dict.fromkeys(Path(place).resolve() for place in wanted if place)
    return [place for place in places if not place.is_relative_to(root) and _is_suitable(place)]


def _is_suitable(place: Path) -> bool:
    """A folder that we may write, and in which nobody else but root can put another one in ours' place."""
    try:
        facts = place.stat()
    except OSError:
        return False
    others_may_write = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not facts.st_mode & stat.S_ISVTX
    return (
        stat.S_ISDIR(facts.st_mode)
        and facts.st_uid in {0, os.geteuid()}
        and not others_may_write
        and os.access(place, os.W_OK | os.X_OK)
    )


def _make(place: Path) -> tuple[Path, int]:
    """Make a folder and hold it: a folder that nobody holds is one of a killed run."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))  # of mode 0700
        with contextlib.suppress(FileNotFoundError):  # another run swept it away before it was held
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            fcntl.flock(held, fcntl.LOCK_EX)
            if os.path.lexists(folder):
                return folder, held
            os.close(held)


def _sweep(place: Path) -> None:
    """Remove the folders of this user that no process holds."""
    for folder in place.glob(f"{PREFIX}*"):
        try:
            found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # gone meanwhile, somebody else's, a link
            continue
        try:
            if os.fstat(found).st_uid == os.geteuid():
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
        except OSError:  # held by a run, or removed by another one
            pass
        finally:
            os.close(found)
