"""The shipped snapshot as GitHub's API lists releases: what every tool of the comparison is given to choose from."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from wheel_resolver.upstream import snapshot


def releases() -> list[dict[str, Any]]:
    """The releases, newest first, with the fields that the tools read. ``size`` is no fact: many are not known."""
    known = snapshot.read()
    return [
        {
            "tag_name": release.tag,
            "draft": False,
            "prerelease": False,
            "assets": [
                {
                    "name": asset.name,
                    "state": "uploaded",
                    "size": 1,
                    "updated_at": "2026-01-01T00:00:00Z",
                    "digest": f"sha256:{asset.sha256}" if asset.sha256 else None,
                    "browser_download_url": f"https://github.com/{known.repository}/releases/download/"
                    f"{release.tag}/{quote(asset.name)}",
                }
                for asset in release.assets
            ],
        }
        for release in known.releases
    ]
