"""Files below a root, opened without following a symbolic link: whatever is committed, they are where they seem to be.

A checkout holds what strangers wrote, links too: one named ``.build`` or ``dockerfiles/rendered/cpu.image.json`` may
lead anywhere on this machine. So a path below a root is walked part by part, each part opened in the folder before it,
and a link on the way is refused by name. The root itself may be a link: it is resolved once (``settle``). What lies
below no root is the user's own word (``--matrix FILE``, a cache) and is opened as usual.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, overload

from matrix.errors import DataError
from matrix.spot import FOLDER, Spot, enter, reach, settle

__all__ = [
    "MAX_TEXT",
    "exists",
    "files",
    "folders",
    "is_file",
    "make_folder",
    "move",
    "open_file",
    "place",
    "read_bytes",
    "read_text",
    "remove",
    "remove_tree",
    "require_plain",
    "settle",
    "write",
]

#: The longest text of ours, the log of a build, has a megabyte.
MAX_TEXT = 50_000_000

_FLAGS = {
    "rb": os.O_RDONLY,
    "wb": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
}
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

settle(Path(__file__).parent.parent)  # this checkout is always one


@overload
def open_file(path: Path, mode: Literal["rb"] = "rb") -> io.BufferedReader: ...
@overload
def open_file(path: Path, mode: Literal["wb", "ab"]) -> io.BufferedWriter: ...
def open_file(path: Path, mode: Literal["rb", "wb", "ab"] = "rb") -> io.BufferedReader | io.BufferedWriter:
    """Open a file; its folder is made where it is written.

    Raises:
        DataError: below a root, a link on the way, or no regular file.
        OSError: it cannot be opened.
    """
    with reach(path, make=mode != "rb") as spot:
        # Not to wait for the other end of a pipe, should one be put there meanwhile; the user's own pipe is waited for.
        descriptor = spot.open(_FLAGS[mode] | os.O_CLOEXEC | (os.O_NONBLOCK if spot.inside else 0))
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "rb") if mode == "rb" else os.fdopen(descriptor, mode)


def read_bytes(path: Path, most: int = -1) -> bytes:
    """Read a file, or its first ``most`` bytes; raises as ``open_file``."""
    with open_file(path) as file:
        return file.read(most)


def read_text(path: Path, errors: str = "strict") -> str:
    """Read a file of UTF-8, the ends of its lines made ``\\n``.

    Raises:
        DataError: as ``open_file``; it has more than ``MAX_TEXT`` bytes; with ``errors="strict"``, it is not UTF-8.
        OSError: it cannot be read.
    """
    raw = read_bytes(path, MAX_TEXT + 1)
    if len(raw) > MAX_TEXT:
        raise DataError(f"{path}: larger than {MAX_TEXT:,} bytes, so not one of our files", remedy="restore it")
    try:
        return raw.decode("utf-8", errors).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line} byte {error.start} is not UTF-8", remedy="restore the file") from None


def exists(path: Path) -> bool:
    """Whether a file or a folder is there; raises as ``open_file`` where it must not be what it is."""
    return _kind(path) is not None


def is_file(path: Path) -> bool:
    """Whether a file is there; raises as ``exists``."""
    return _kind(path) == stat.S_IFREG


def files(folder: Path) -> list[Path]:
    """The files in a folder, by name; none where there is no folder; raises as ``exists`` for each entry."""
    return [path for path in _entries(folder) if is_file(path)]


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, by name; as ``files``."""
    return [path for path in _entries(folder) if _kind(path) == stat.S_IFDIR]


def require_plain(path: Path) -> None:
    """See that a path, and all that lies below it, is no link.

    Raises:
        DataError: names the first one.
    """
    if _kind(path) == stat.S_IFDIR:
        for each in _entries(path):
            require_plain(each)


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder, and those that it lies in, where they are not there; raises as ``open_file``."""
    with reach(path, make=True) as spot:
        os.close(enter(spot, make=True, mode=mode))


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: under a temporary name, which is then renamed. Its folder is made.

    Raises:
        DataError: below a root, what stands there or a folder on the way is a link.
        OSError: it cannot be written; the old file is still whole.
    """
    with _replacing(path) as (spot, new), os.fdopen(os.open(new, _NEW, 0o666, dir_fd=spot.folder), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def place(source: Path, path: Path) -> None:
    """Put a file at another place too: as a second name of it where the file system allows that, else as a copy."""
    with open_file(source) as file, _replacing(path) as (spot, new):
        try:
            os.link(source.resolve(), new, dst_dir_fd=spot.folder, follow_symlinks=False)
        except OSError:
            _copy(file, spot, new)


def move(source: Path, path: Path) -> None:
    """Move a file to another place, which may be on another disk."""
    with open_file(source) as file, _replacing(path) as (spot, new), reach(source) as old:
        try:
            os.rename(old.name, new, src_dir_fd=old.folder, dst_dir_fd=spot.folder)
        except OSError:
            _copy(file, spot, new)
            os.unlink(old.name, dir_fd=old.folder)


def remove(path: Path) -> None:
    """Remove a file; nothing where there is none; raises as ``exists``."""
    with contextlib.suppress(FileNotFoundError), reach(path) as spot:
        if spot.kind() is not None:
            os.unlink(spot.name, dir_fd=spot.folder)


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it (links in it, not what they lead to); raises as ``exists``."""
    with contextlib.suppress(FileNotFoundError), reach(path) as spot:
        if spot.kind() is not None:
            shutil.rmtree(spot.name, dir_fd=spot.folder)


def _kind(path: Path) -> int | None:
    try:
        with reach(path) as spot:
            return spot.kind()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _entries(folder: Path) -> list[Path]:
    try:
        with reach(folder) as spot:
            opened = spot.open(FOLDER)
    except FileNotFoundError:
        return []
    try:
        with os.scandir(opened) as entries:
            return sorted(folder / entry.name for entry in entries)
    finally:
        os.close(opened)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[tuple[Spot, str]]:
    """A temporary name in a path's folder: renamed to the path if the block succeeds, removed if it does not."""
    with reach(path, make=True) as spot:
        spot.kind()  # a link that is there is refused, not replaced: whoever put it there should learn of it
        new = f".{spot.name[:100]}.{os.urandom(6).hex()}"
        try:
            yield spot, new
            os.rename(new, spot.name, src_dir_fd=spot.folder, dst_dir_fd=spot.folder)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=spot.folder)
            raise


def _copy(source: BinaryIO, spot: Spot, new: str) -> None:
    """Copy a file and its date."""
    with os.fdopen(os.open(new, _NEW, 0o666, dir_fd=spot.folder), "wb") as file:
        shutil.copyfileobj(source, file)
        file.flush()
        facts = os.fstat(source.fileno())
        os.utime(file.fileno(), ns=(facts.st_atime_ns, facts.st_mtime_ns))
