"""Who asks: the identity that limits, fairness and the ownership of voices go by."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller.

    Attributes:
        id: stable for one key, and safe to store and to log; where there are no keys, that of everyone.
        client: what shares are fair between: the key, or without keys the network address.
    """

    id: str
    client: str


def caller_of(request: Request) -> Caller:
    """The caller of a request."""
    return Caller("anonymous", request.client.host if request.client else "unknown")
