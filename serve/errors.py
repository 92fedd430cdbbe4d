"""Errors that a user can act on: those that stop the start, and those that answer a request."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

INTERRUPTED = 130  # exit status after Ctrl-C


class StartError(Exception):
    """The service cannot start, or could not load its model.

    Args:
        what: what is wrong, where, and why.
        remedy: what to do about it; printed on a line of its own.
    """

    exit_code = 1

    def __init__(self, what: str, *, remedy: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return self.what if self.remedy is None else f"{self.what}\n  remedy: {self.remedy}"


class SettingsError(StartError):
    """A setting, ``image.json`` or the model's folder is wrong."""

    exit_code = 2


class NetworkError(StartError):
    """The model had to be downloaded, and could not be."""

    exit_code = 3


class HostError(StartError):
    """This host cannot give what a setting demands (an attention, a dtype)."""

    exit_code = 4


class ServiceError(Exception):
    """A request that gets an error for an answer.

    Args:
        status: HTTP status.
        code: stable name of the error, for programs.
        message: what is wrong and why, for people; never holds the caller's text or audio.
        field: the field of the request that it is about (``items.2.text``), if any.
        remedy: what the caller can do.
    """

    def __init__(
        self, status: int, code: str, message: str, *, field: str | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.remedy = remedy

    def body(self) -> dict[str, Any]:
        """The error as every route answers it: ``{"error": {"code", "message", "field", "remedy"}}``."""
        return {"error": {"code": self.code, "message": self.message, "field": self.field, "remedy": self.remedy}}

    def within(self, prefix: str) -> ServiceError:
        """The same error, about a field that lies inside ``prefix`` (``items.2``)."""
        field = prefix if self.field is None else f"{prefix}.{self.field}"
        return ServiceError(self.status, self.code, self.message, field=field, remedy=self.remedy)


def one_line(error: object) -> str:
    """What a library's error says, which may have many lines, as one."""
    return " ".join(str(error).split())


def invalid(code: str, message: str, field: str, remedy: str) -> ServiceError:
    """An error of the caller's: 422, about one field."""
    return ServiceError(HTTPStatus.UNPROCESSABLE_ENTITY, code, message, field=field, remedy=remedy)
