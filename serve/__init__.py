"""The speech service that every image runs: ``python -m serve``; and its client: ``serve.Client``.

It knows nothing of Docker or of the matrix: what it is, it learns from environment variables (``serve.settings``)
and from ``/app/image.json`` (``serve.image``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve.client import AsyncClient as AsyncClient
    from serve.client import Client as Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: the service does without httpx, and the client without everything else.
    if name in __all__:
        from serve import client  # noqa: PLC0415

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
