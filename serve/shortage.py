"""What the host has no more of: temporary space, room on a disk, file descriptors. Told as that, with the remedy."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import tempfile
from http import HTTPStatus
from pathlib import Path

from serve.errors import ServiceError, SettingsError

# More are of no use to one process, and some hosts allow a thousand million.
MOST_DESCRIPTORS = 65_536
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


def check_temporary_space() -> None:
    """See that there is a folder for temporary files: torch needs one to load, and looks for it after a long time.

    Raises:
        SettingsError: there is none; says of each place why not.
    """
    try:
        tempfile.gettempdir()
    except OSError as error:
        named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
        tried = "; ".join(f"{place}: {_why_not(Path(place))}" for place in dict.fromkeys([*named, "/tmp", "/var/tmp"]))  # noqa: S108 - Python's own list
        raise SettingsError(
            f"there is no folder for temporary files: {tried}",
            remedy="free some space there, give the container one (docker run --init --tmpfs /tmp), or set TMPDIR to a"
            " folder that can be written",
        ) from error


def raise_descriptors() -> None:
    """Raise the limit of file descriptors as far as this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # then it stays as it is, and connections fewer
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def descriptor_limit() -> int:
    """How many file descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def open_descriptors() -> int:
    """How many file descriptors are open."""
    return len([*Path("/proc/self/fd").iterdir()]) - 1


def of_the_host(error: BaseException) -> ServiceError | None:
    """The answer for an error that says that the host has no more of something; None for all others."""
    if isinstance(error, MemoryError):
        return ServiceError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "out_of_memory",
            "the request does not fit into the memory",
            remedy="try again later, or send less",
        )
    if not isinstance(error, OSError):
        return None
    if error.errno in NO_ROOM:
        place = error.filename if isinstance(error.filename, str) else tempfile.gettempdir()
        message = f"there is no room left for {place}: {os.strerror(error.errno or 0)}"
        remedy = "tell whoever operates the service: free some space there, or give it more"
        return ServiceError(HTTPStatus.INSUFFICIENT_STORAGE, "disk_full", message, remedy=remedy)
    if error.errno in NO_DESCRIPTORS:
        message, remedy = "the service has no file descriptor left", "try again later; its operator: ulimit -n"
        return ServiceError(HTTPStatus.SERVICE_UNAVAILABLE, "no_descriptors", message, remedy=remedy)
    return None


def _why_not(place: Path) -> str:
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x" * 4096)
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return "it can be written now"
