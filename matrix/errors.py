"""The errors of every room: each class has the exit code of its kind (docs: exit codes)."""

from __future__ import annotations

from enum import IntEnum


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

    Args:
        what: what is wrong, with where it is (``matrix.yaml:12 axes.torch[2]: ...``) and why.
        remedy: what to do about it; printed on a line of its own.
    """

    exit_code: ExitCode = ExitCode.NEGATIVE

    def __init__(self, what: str, *, remedy: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return self.what if self.remedy is None else f"{self.what}\n  remedy: {self.remedy}"


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
