"""What is the same for every route: the shape of errors, and what is refused by its head."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.incoming import BodyLimits, Incoming, Pace, too_large
from serve.api.leaving import client_gone
from serve.api.outgoing import Outgoing
from serve.api.requests import note_error, route_of
from serve.errors import ServiceError
from serve.logs import log_defect
from serve.pool import BODIES_AT_ONCE, Pool
from serve.shortage import of_the_host

log = logging.getLogger(__name__)

CODES: Mapping[int, tuple[str, str]] = {
    HTTPStatus.NOT_FOUND: ("not_found", "see /openapi.json for the routes"),
    HTTPStatus.METHOD_NOT_ALLOWED: ("method_not_allowed", "see /openapi.json for the routes"),
    HTTPStatus.REQUEST_TIMEOUT: ("body_too_slow", "send it faster, or send less"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("body_too_large", "send less, or raise WW_MAX_BODY_MIB"),
    HTTPStatus.TOO_MANY_REQUESTS: ("busy", "try again later"),
}
CUT_OFF = "the service shut down before the request was complete"
# Of a field's name, which may be the caller's, as long as a body, an error holds so many characters.
MOST_NAME = 64


def add_error_handlers(app: FastAPI) -> None:
    """Give every error the contract's shape: ours, validation's, and the framework's own."""
    app.add_exception_handler(ServiceError, _answer_service_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_error)


def error_response(error: ServiceError) -> JSONResponse:
    """The answer for an error; a 429 or 503 tells when to come back."""
    note_error(error.code)
    return JSONResponse(error.body(), error.status, headers=retry_header(error.status))


def retry_header(status: int) -> dict[str, str]:
    """``Retry-After``, where another try may be answered."""
    again = status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
    return {"Retry-After": "2"} if again else {}


async def _answer_service_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ServiceError):
        raise error
    return error_response(error)


async def _answer_validation_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    # Of several mistakes the first. Its "input" is the caller's text or audio: it stays out of the answer.
    first = error.errors()[0]
    field = ".".join(str(part)[:MOST_NAME] for part in first["loc"][1:]) or None
    message = f"{field or 'the body'}: {first['msg']}"
    remedy = "see /openapi.json for the fields" if field else "send a JSON object"
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    return error_response(ServiceError(status, "invalid_request", message, field=field, remedy=remedy))


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    code, remedy = CODES.get(error.status_code, ("http_error", None))
    answer = error_response(ServiceError(error.status_code, code, str(error.detail), remedy=remedy))
    answer.headers.update(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # the framework's own names the first route's alone
        answer.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return answer


def _methods(request: Request) -> set[str]:
    """What may be done at the request's path, by all routes that have it."""
    matching = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in matching for method in getattr(route, "methods", None) or ()}


class Guard:
    """Refuses bodies before they are read, and turns what fails into an answer."""

    def __init__(
        self,
        app: ASGIApp,
        max_body_bytes: int,
        body_s: float,
        pool: Pool | None = None,
        pace: Pace = Pace(),  # noqa: B008 - frozen
    ) -> None:
        """Take the app, the most bytes of a body, its seconds, the memory of all requests, and how fast it must come.

        Without a pool there is one for eight of the largest bodies.
        """
        self.app = app
        self.pool = pool or Pool(BODIES_AT_ONCE * max_body_bytes, BODIES_AT_ONCE * max_body_bytes)
        self.limits = BodyLimits(max_body_bytes, body_s, pace)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, answer = Incoming(scope, receive, self.pool, self.limits), Outgoing(scope, send, self.limits.pace)
        try:
            self._check_head(Headers(scope=scope))
            await self.app(scope, body.receive, answer.send)
        except asyncio.CancelledError:
            # uvicorn ends what still runs when it stops: a body that never came to its end.
            if answer.status:
                raise
            await error_response(
                ServiceError(HTTPStatus.SERVICE_UNAVAILABLE, "draining", CUT_OFF, remedy="ask another instance")
            )(scope, receive, answer.send)
        except Exception as error:
            if answer.status:  # the answer has begun: nothing but cutting it off tells the caller
                raise
            await error_response(_explain(error, scope))(scope, receive, answer.send)
        finally:
            body.release()

    def _check_head(self, headers: Headers) -> None:
        declared = headers.get("content-length", "")
        # uvicorn refuses a Content-Length that is no number; an in-process client may send anything.
        if declared.isdecimal() and int(declared) > self.limits.bytes:
            raise too_large(self.limits.bytes)
        if headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
            message, remedy = "the body is compressed, and is not unpacked here", "send it without Content-Encoding"
            raise ServiceError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message, remedy=remedy)


def _explain(error: Exception, scope: Scope) -> ServiceError:
    """What a caller is told of whatever a request failed with."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, ClientDisconnect):  # in the middle of its body: only the log sees the answer
        return client_gone()
    short = of_the_host(error)
    if short is not None:
        log.error("%s %r: %s; remedy: %s", scope["method"], route_of(scope), short.message, short.remedy)
        return short
    log_defect(log, f"a defect in {scope['method']} {route_of(scope)!r}", error)
    return ServiceError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the service has a defect", remedy="see the log")


def as_json(error: ServiceError) -> dict[str, Any]:
    """The inner object of an error's body, for an item of a batch."""
    detail: dict[str, Any] = error.body()["error"]
    return detail
