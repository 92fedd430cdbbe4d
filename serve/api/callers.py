"""Who asks: the identity that limits, fairness and the ownership of voices go by."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Scope

# Whom everything belongs to where there are no keys.
ANYONE = "anonymous"
_KEY_ID = "wheelwright.key_id"


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
    key_id: str | None = request.scope.get(_KEY_ID)
    if key_id is not None:
        return Caller(key_id, key_id)
    return Caller(ANYONE, request.client.host if request.client else "unknown")


def note_key(scope: Scope, key_id: str) -> None:
    """Remember with a request whose key it came with; only ``serve.api.gate`` may say so."""
    scope[_KEY_ID] = key_id
