"""List the wheels of a folder; ``SHA256SUMS`` gives their digests, where there is one (``sha256sum *.whl``).

wget, curl and browsers save a wheel under the name in its URL, with ``%2B`` for ``+``: that is the same wheel.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from matrix import tree
from matrix.errors import NetworkError
from wheel_resolver.core.wheel import Asset, Release

SUMS = "SHA256SUMS"
_MAX_SUMS_BYTES = 10_000_000
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def list_folder(folder: Path) -> tuple[Release, ...]:
    """List a folder as one release of the tag ``folder``; each wheel's URL is its ``file:`` URI.

    Raises:
        NetworkError: the folder cannot be read: a share that is not mounted, perhaps.
        DataError: a link lies in it, and it lies below the project's root.
    """
    try:
        digests = _digests(folder / SUMS)
        folder.stat()  # a folder that is not there is not an empty one
        wheels = [path for path in tree.files(folder) if path.name.endswith(".whl")]
    except OSError as error:
        raise NetworkError(f"{folder}: cannot be read: {error.strerror}") from None
    wheels.sort(key=lambda path: ("%" in path.name, path.name))  # of two spellings the plain one
    assets = (_asset(path, digests) for path in wheels)
    return (Release("folder", tuple(asset for asset in assets if asset is not None)),)


def _asset(path: Path, digests: Mapping[str, str]) -> Asset | None:
    """One wheel of the folder, under its own name; None for what cannot be read, as a link that leads nowhere."""
    name = unquote(path.name)
    sha256 = digests.get(path.name) or digests.get(name) or digests.get(name.replace("+", "%2B"))
    try:
        facts = path.stat()
    except OSError:
        return None
    modified = datetime.fromtimestamp(facts.st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Asset(name, sha256, facts.st_size or None, modified, path.as_uri())


def _digests(path: Path) -> dict[str, str]:
    if not tree.is_file(path) or path.stat().st_size > _MAX_SUMS_BYTES:
        return {}
    lines = tree.read_text(path, errors="replace").splitlines()
    return {found[2]: found[1] for line in lines if (found := _LINE.fullmatch(line))}


def copy_wheel(url: str, target: Path) -> None:
    """Copy a listed wheel to where its digest is checked.

    Raises:
        NetworkError: it is not there on this machine.
        OSError: the target cannot be written.
    """
    parts = urlsplit(url)
    if parts.netloc:
        raise NetworkError(f"{url}: a file URL names no host", remedy="lock the target again")
    try:
        file = tree.open_file(Path(unquote(parts.path)))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise NetworkError(
            f"{url}: cannot be read: {reason}",
            remedy="put the provider's folder there, or lock the target from one that every machine reaches",
        ) from None
    with file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy)
