"""The errors of every room: each class has the exit code of its kind (docs: exit codes)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from matrix.shown import shown

#: An error is read by people: what a file of a megabyte says wrong is shown in part.
_LONGEST = 4_000
_MOST_LINES = 20


class ExitCode(IntEnum):
    """What a command says with its exit status."""

    OK = 0
    NEGATIVE = 1  # a check differs; a build, smoke or budget failed; --require not met
    USAGE = 2  # usage, matrix or data wrong
    NETWORK = 3  # the network was demanded and failed
    NO_FIT = 4  # nothing fits this host
    NO_ENGINE = 5  # no container engine
    INTERRUPTED = 130


class WheelwrightError(Exception):
    """An error that a user can act on.

    Each of its texts is one line: what comes from a file or from another program can neither begin a line of its own
    nor move the terminal that it is printed on.

    Args:
        what: what is wrong, with where it is (``matrix.yaml:12 axes.torch[2]: ...``) and why.
        remedy: what to do about it; printed on a line of its own.
        said: what another program said, the last lines of it; printed below, each on a line of its own.
    """

    exit_code: ExitCode = ExitCode.NEGATIVE

    def __init__(self, what: str, *, remedy: str | None = None, said: Iterable[str] = ()) -> None:
        self.what = shown(what, _LONGEST)
        self.remedy = None if remedy is None else shown(remedy, _LONGEST)
        self.said = tuple(shown(line.expandtabs(), _LONGEST) for line in list(said)[-_MOST_LINES:])
        super().__init__(self.what)

    def __str__(self) -> str:
        remedy = () if self.remedy is None else (f"remedy: {self.remedy}",)
        return "\n  ".join((self.what, *self.said, *remedy))


class UsageError(WheelwrightError):
    """The command line or a setting is wrong."""

    exit_code = ExitCode.USAGE


class DataError(WheelwrightError):
    """A data file (matrix, compat, lock, snapshot) is wrong or does not agree with another."""

    exit_code = ExitCode.USAGE


class NetworkError(WheelwrightError):
    """The network was demanded and failed."""

    exit_code = ExitCode.NETWORK


class NoEngineError(WheelwrightError):
    """No container engine answers."""

    exit_code = ExitCode.NO_ENGINE
