"""What ``Client`` and ``AsyncClient`` share of HTTP: how connections are made and kept, and what an answer means."""

from __future__ import annotations

import os
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx

from serve import wire
from serve.errors import ServiceError

URL = "http://127.0.0.1:8000"
RETRIES = 3
CONNECT_S = 5.0
WRITE_S = 60.0
# Between two bytes of an answer; unstreamed, that is as long as the audio takes to make.
READ_S = 300.0
POLL_S = 0.5
# The service closes a connection that was idle for 5 s; one that is used at that moment would break.
KEEP_S = 4.0
# What the service, or a proxy in front of it, answers until it is there.
NOT_YET = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Unreachable(Exception):  # noqa: N818 - it says what is the case
    """The service did not answer, or the connection broke before its answer was complete."""


def options(url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """The arguments of httpx's clients.

    Raises:
        ValueError: the URL is not http or https.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("the service's URL must be http://host:port or https://host:port")
    key = api_key if api_key is not None else os.environ.get("WW_API_KEY")
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": httpx.Timeout(timeout_s, connect=CONNECT_S, write=WRITE_S),
        "limits": httpx.Limits(max_connections=None, keepalive_expiry=KEEP_S),
        # No proxy may come between a program and its own host.
        "trust_env": parts.hostname not in LOOPBACK,
    }


def unreachable(url: httpx.URL, error: httpx.TransportError) -> Unreachable:
    """The error behind httpx's many; the host is named, and nothing of the request."""
    reason = str(error) or type(error).__name__
    return Unreachable(f"{url.scheme}://{url.netloc.decode('ascii')}: {reason}")


def wait_before_retry(response: httpx.Response, attempt: int, retries: int) -> float | None:
    """Seconds until the request is sent again, or None to take the answer."""
    return wire.wait_before_retry(response.status_code, response.headers.get("Retry-After"), attempt, retries)


def weights_of(response: httpx.Response) -> str | None:
    """What made the audio of an answer; None where it holds none."""
    weights: str | None = response.headers.get("X-Weights")
    return weights


def checked(response: httpx.Response) -> httpx.Response:
    """The answer that was read, if it is a success.

    Raises:
        ServiceError: it is none.
    """
    if not response.is_success:
        raise wire.read_error(response.status_code, wire.read_json(response.content))
    return response


def json_of(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer that was read.

    Raises:
        ServiceError: it is no success, or not JSON.
    """
    answer = wire.read_json(checked(response).content)
    if answer is None:
        raise wire.read_error(response.status_code, None)
    return answer


def batch_of(response: httpx.Response) -> list[bytes | ServiceError]:
    """The items of a batch; they are there, too, when none of them succeeded.

    Raises:
        ServiceError: the batch as a whole was refused.
    """
    answer = wire.read_json(response.content)
    return wire.read_batch(answer) if answer and "items" in answer else wire.read_batch(json_of(response))


def is_ready(response: httpx.Response) -> bool:
    """Whether an answer of ``/ready`` is a yes.

    Raises:
        ServiceError: it never will be: the start has failed, or this is no speech service.
    """
    if response.is_success:
        return True
    answer = wire.read_json(response.content)
    if response.status_code not in NOT_YET or (answer and answer.get("status") == "failed"):
        raise wire.read_error(response.status_code, answer)
    return False
