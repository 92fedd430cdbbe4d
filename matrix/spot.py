"""A name in an open folder: how ``matrix.tree`` gets to a file without following a link below a root."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matrix.errors import DataError

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_roots: set[Path] = set()


def settle(root: Path) -> Path:
    """Resolve a root; from now on no path below it is opened through a link."""
    resolved = root.resolve()
    _roots.add(resolved)
    return resolved


@dataclass(frozen=True, slots=True)
class Spot:
    """A name in an open folder.

    Attributes:
        folder: the descriptor of that folder.
        path: as the caller wrote it, for errors.
        inside: whether it lies below a root.
    """

    folder: int
    name: str
    path: Path
    inside: bool

    def kind(self) -> int | None:
        """What is there, as in ``stat.S_IFMT``; None for nothing.

        Raises:
            DataError: below a root, a link, or what is neither a file nor a folder.
        """
        try:
            facts = os.stat(self.name, dir_fd=self.folder, follow_symlinks=not self.inside)
        except FileNotFoundError:
            return None
        found = stat.S_IFMT(facts.st_mode)
        if self.inside and found == stat.S_IFLNK:
            raise _leads_away(self.path, os.readlink(self.name, dir_fd=self.folder))
        if self.inside and found not in {stat.S_IFREG, stat.S_IFDIR}:
            raise DataError(
                f"{_shown(self.path)} is neither a file nor a folder, but a device, a pipe or a socket",
                remedy="remove it, or put the file itself there",
            )
        return found

    def open(self, flags: int) -> int:
        """Open it; the descriptor.

        Raises:
            DataError: as ``kind``.
            OSError: it cannot be opened; names the whole path.
        """
        kind = self.kind()
        try:
            if self.inside and kind == stat.S_IFDIR and not flags & os.O_DIRECTORY:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            return os.open(self.name, flags | (os.O_NOFOLLOW if self.inside else 0), 0o666, dir_fd=self.folder)
        except OSError as error:
            error.filename = str(self.path)
            raise


@contextlib.contextmanager
def reach(path: Path, *, make: bool = False) -> Iterator[Spot]:
    """The place that a path names, with its folder open; ``make``: the folders on the way, too.

    Raises:
        DataError: a folder on the way is a link.
        OSError: one is missing, or may not be entered.
    """
    below = _below_a_root(path)
    if below is None:
        whole = _whole(path)
        if make:
            whole.parent.mkdir(parents=True, exist_ok=True)
        start = whole.parent
        names: tuple[str, ...] = (whole.name or ".",)
    else:
        start, names = below
    folder = os.open(start, FOLDER)
    try:
        for depth, name in enumerate(names[:-1], start=1):
            opened = enter(Spot(folder, name, start.joinpath(*names[:depth]), inside=True), make=make)
            os.close(folder)
            folder = opened
        yield Spot(folder, names[-1], path, inside=below is not None)
    finally:
        os.close(folder)


def enter(spot: Spot, *, make: bool = False, mode: int = 0o777) -> int:
    """Open the folder that is there; ``make``: make it where nothing is."""
    if make and spot.kind() is None:
        with contextlib.suppress(FileExistsError):  # another run has just made it
            os.mkdir(spot.name, mode, dir_fd=spot.folder)
    return spot.open(FOLDER)


def _below_a_root(path: Path) -> tuple[Path, tuple[str, ...]] | None:
    """The outermost root that a path lies below, and the names from there on; None where it lies below none.

    Links that lead to a root are the user's own, and are followed; nothing below it is.
    """
    names = _whole(path).parts[1:]
    at = Path(os.sep)
    for count, name in enumerate(names, start=1):
        at = at / name
        if at not in _roots and at.is_symlink():
            at = at.resolve()
        if root := _root_of(at):
            return root, (*at.relative_to(root).parts, *names[count:]) or (".",)
    return None


def _whole(path: Path) -> Path:
    """The absolute path; ``..`` goes by the text, never through a link."""
    return Path(os.path.normpath(path.absolute()))


def _root_of(path: Path) -> Path | None:
    return min((root for root in _roots if path.is_relative_to(root)), key=lambda root: len(root.parts), default=None)


def _leads_away(path: Path, target: str) -> DataError:
    return DataError(
        f"{_shown(path)} is a symbolic link to {target!r}, and no file below the project's root is read or written"
        " through a link, which may lead anywhere",
        remedy="remove the link, or put the file or the folder itself there",
    )


def _shown(path: Path) -> str:
    """A path for an error: relative to the current folder where it lies below it, and without control characters."""
    whole, here = _whole(path), Path.cwd()
    text = str(whole.relative_to(here) if whole.is_relative_to(here) else whole)
    return text if text.isprintable() else ascii(text)
