"""As whom a place is asked, and what its refusal means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from matrix.errors import NetworkError

if TYPE_CHECKING:
    import requests

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


class RefusedError(NetworkError):
    """The place was reached, and does not answer this identity."""


@dataclass(frozen=True, slots=True)
class Access:
    """As whom to ask.

    ``header``: sent as ``Authorization``; never kept, never shown. ``source``: where it was found; ``how``: how to give
    one; both in words.
    """

    header: str | None = field(repr=False)
    source: str
    how: str

    def authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """What ``requests`` calls; being there at all, it also keeps the ``default`` of ~/.netrc out."""
        if self.header is not None:
            request.headers["Authorization"] = self.header
        return request

    def refusal(self, place: str, status: int) -> NetworkError:
        """Say what a status that is no page means for this identity."""
        if status in {_UNAUTHORIZED, _FORBIDDEN}:
            what, remedy = self._refused(status)
            return RefusedError(f"{place}: {what} (status {status})", remedy=remedy)
        remedies = dict.fromkeys(REDIRECTS, "check the URL: a redirect is not followed, since it could lead anywhere")
        own = f"those of {self.source}" if self.header is not None else f"none were given: {self.how}"
        remedies[_NOT_FOUND] = f"check the URL: nothing is there, or not for these credentials ({own})"
        return NetworkError(f"{place}: status {status}", remedy=remedies.get(status))

    def _refused(self, status: int) -> tuple[str, str]:
        if status == _UNAUTHORIZED and self.header is None:
            return "it asks for credentials, and none were given", self.how
        if status == _UNAUTHORIZED:
            return "the credentials are not accepted", f"they are those of {self.source}: correct, renew or unset them"
        if self.header is None:
            return "it may not be read without credentials, or a proxy forbids it", f"{self.how}, or check HTTPS_PROXY"
        return (
            "the credentials may not read this, or a proxy forbids it",
            f"they are those of {self.source}: see what they may read, and check HTTPS_PROXY",
        )
