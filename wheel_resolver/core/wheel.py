"""A wheel of the catalogue: a listed asset whose name the grammar reads."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from wheel_resolver.core.names import WheelName


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that a provider lists.

    ``sha256`` is None for an unpinned wheel: GitHub publishes digests since June 2025 only. ``size`` in bytes and
    ``updated_at`` (ISO 8601, UTC) are None where the source did not tell. ``tag`` is the release's, which need not
    be the version in the name.
    """

    name: WheelName
    filename: str
    url: str
    sha256: str | None
    size: int | None
    tag: str
    provider: str
    updated_at: str | None

    @property
    def pinned(self) -> bool:
        """Whether its digest is published."""
        return self.sha256 is not None


@dataclass(frozen=True, slots=True)
class Asset:
    """What a release lists: a name, and what the provider tells about the file.

    ``url`` is None where the file is at the provider's usual place (``download_url``).
    """

    name: str
    sha256: str | None
    size: int | None
    updated_at: str | None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """A release's tag and assets."""

    tag: str
    assets: tuple[Asset, ...]


def download_url(origin: str, repository: str, tag: str, filename: str) -> str:
    """Where GitHub serves a listed asset; ``+`` is written ``%2B``, as in the API's ``browser_download_url``."""
    tag, filename = (
        quote(part, safe="", errors="replace") for part in (tag, filename)
    )  # JSON may hold lone surrogates
    return f"{origin}/{repository}/releases/download/{tag}/{filename}"
