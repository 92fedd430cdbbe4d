"""Fetch a file by URL into a content-addressed cache, checked by its sha256 before anything may use it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from matrix import tree
from matrix.errors import DataError
from wheel_resolver.files import alone

if TYPE_CHECKING:
    from wheel_resolver.fetching.download import Progress
    from wheel_resolver.fetching.part import Part
    from wheel_resolver.upstream.logins import Logins


def cache_folder() -> Path:
    """``$WHEELWRIGHT_CACHE``, else ``wheelwright`` in the user's cache folder (XDG)."""
    if given := os.environ.get("WHEELWRIGHT_CACHE"):
        return Path(given).resolve()  # a link is the user's own, wherever it stands
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wheelwright"


def cached(sha256: str, name: str, folder: Path | None = None) -> Path | None:
    """The file if the cache has it and its bytes are those of the digest; a damaged one is set aside."""
    path = _place(sha256, name, folder)
    if not path.is_file():
        return None
    if file_sha256(path) != sha256:
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.replace(path.with_name(f"{path.name}.damaged"))
        return None
    return path


def fetch(
    url: str,
    sha256: str,
    name: str,
    folder: Path | None = None,
    *,
    size: int | None = None,
    progress: Progress | None = None,
    waiting: Callable[[], None] | None = None,
    logins: Logins | None = None,
) -> Path:
    """The file with this digest, from the cache or else from ``url``: one download, however many processes ask.

    Args:
        url: https, or http on the loopback; at most five redirects, each under the same rule.
        sha256: 64 hexadecimal digits.
        name: the file name it gets in the cache, below a folder named after the digest.
        folder: the cache; the default is ``cache_folder()``.
        size: the file's bytes, where they are known.
        progress: called as bytes come.
        waiting: called once when another process is fetching this file.
        logins: who has the login of the place, see ``download``.

    Raises:
        NetworkError: it could not be had; what can be resumed stays, and the next call goes on from there.
        DataError: what came has another digest; it is kept beside its place as ``NAME.refused``, and never used.
            Or the cache cannot be written.
    """
    target = _place(sha256, name, folder)
    with _disk_errors(folder or cache_folder()):
        if (found := cached(sha256, name, folder)) is not None:
            return found
        base = folder or cache_folder()
        (base / "files" / sha256).mkdir(parents=True, exist_ok=True)
        with alone(base / "locks" / f"{sha256}.lock", waiting):
            if (found := cached(sha256, name, folder)) is not None:  # another process has just put it there
                return found
            from wheel_resolver.fetching.download import download  # noqa: PLC0415 - a question needs only the folder

            return _bring(target, sha256, size, partial(download, url, size=size, progress=progress, logins=logins))


def _bring(target: Path, sha256: str, size: int | None, bring: Callable[[Part], bool]) -> Path:
    """Download, check and put into place; bytes of an earlier process that turn out wrong are fetched again, once."""
    from wheel_resolver.fetching.part import Part  # noqa: PLC0415

    part = Part(target.with_name(f".{target.name}.part"))
    whole = size is not None and part.have == size  # all of it came, and the process died before the check
    resumed = whole or bring(part)
    found = file_sha256(part.path)
    if found != sha256 and resumed:
        part.drop()
        bring(part)
        found = file_sha256(part.path)
    if found != sha256:
        refused = target.with_name(f"{target.name}.refused")
        bytes_had = part.have
        part.path.replace(refused)
        part.drop()
        length = f" ({bytes_had:,} bytes, not {size:,})" if size not in {None, bytes_had} else ""
        raise DataError(
            f"{target.name}: sha256 is {found}{length}, the lock says {sha256}: refused, and kept as {refused}",
            remedy="the file was replaced upstream or damaged on the way: look at it before you lock it again",
        )
    _to_disk(part.path)
    part.path.replace(target)  # whole or not at all
    part.drop()
    return target


@contextlib.contextmanager
def _disk_errors(base: Path) -> Iterator[None]:
    """Say what the disk said. The network's errors, which are OSErrors too, are ours by the time they get here."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{base}: the cache cannot be used: {error.strerror or error}",
            remedy="free some space, or set WHEELWRIGHT_CACHE to a folder that can be written",
        ) from None


def _to_disk(path: Path) -> None:
    """A power cut must not leave a name without its bytes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with tree.open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _place(sha256: str, name: str, folder: Path | None) -> Path:
    if Path(name).name != name or name.startswith("."):
        raise DataError(f"{name!r} is not a plain file name", remedy="look at where it came from")
    return (folder or cache_folder()) / "files" / sha256 / name


def _scratch(base: Path) -> tempfile.TemporaryDirectory[str]:
    base.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=".unpinned.", dir=base)


def fetch_unpinned(url: str, name: str, folder: Path | None = None, *, logins: Logins | None = None) -> str:
    """Fetch a file whose digest nobody published, keep it in the cache under its digest, and return that sha256.

    Raises:
        NetworkError: it could not be had.
        DataError: the URL may not be fetched.
    """
    from wheel_resolver.fetching.download import download  # noqa: PLC0415
    from wheel_resolver.fetching.part import Part  # noqa: PLC0415

    base = folder or cache_folder()
    with _disk_errors(base), _scratch(base) as scratch:
        part = Part(Path(scratch) / name)
        download(url, part, logins=logins)
        sha256 = file_sha256(part.path)
        target = _place(sha256, name, folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        part.path.replace(target)
    return sha256
