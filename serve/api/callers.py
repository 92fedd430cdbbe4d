"""Who asks: the identity that limits, fairness and the ownership of voices go by."""

from __future__ import annotations

import ipaddress
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
    return Caller(ANYONE, network_of(request.client.host) if request.client else "unknown")


def network_of(host: str) -> str:
    """Whose an address is: of IPv6 everyone has a whole /64, so that is one caller."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


def note_key(scope: Scope, key_id: str) -> None:
    """Remember with a request whose key it came with; only ``serve.api.gate`` may say so."""
    scope[_KEY_ID] = key_id
