"""Callers who go away before their answer: what was begun for them is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from serve.errors import ServiceError

T = TypeVar("T")
CLIENT_CLOSED_REQUEST = 499  # nginx's word for it; only the log sees it


def client_gone() -> ServiceError:
    """What the log says of a caller who did not wait."""
    message = "the caller closed the connection before the answer"
    return ServiceError(CLIENT_CLOSED_REQUEST, "client_gone", message, remedy="wait longer for the answer")


async def until_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when the caller closes the connection.

    Args:
        request: with its body read: from then on the connection says nothing but its end.
        work: begun here.

    Raises:
        ServiceError: 499; the caller is gone.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            raise client_gone()
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
