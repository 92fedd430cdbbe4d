"""The compact form in which releases are kept, in the shipped ``snapshot.json`` and in the cache alike.

{"schema": 1, "repository": "owner/name", "as_of": "2026-08-01T00:00:00Z",
 "releases": [{"tag": "v2.8.3", "assets": [["flash_attn-2.8.3+....whl", "<sha256>" | null, size | null,
                                            "<updated_at>" | null], ...]}, ...]}

A fifth element is the URL, where the file is not at the provider's usual place.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrix import tree
from matrix.errors import DataError
from matrix.shown import hidden
from wheel_resolver.core.wheel import Asset, Release
from wheel_resolver.upstream.urls import is_wheel_url

#: The snapshot that comes with the project: official releases from v2.6.3 on.
SHIPPED = Path(__file__).resolve().parent / "snapshot.json"
#: The lists of other repositories that come with the project, a file each: OWNER/NAME.json.
OTHERS = SHIPPED.parent / "providers"

_ROW_WITH_URL = 5
MAX_BYTES = 64_000_000
#: As many files as a list may name, of five values each, and their brackets.
_MAX_VALUES = 2_000_000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Releases as they were listed at one time."""

    repository: str
    as_of: str
    releases: tuple[Release, ...]


def file_of(repository: str, folder: Path | None = None) -> Path:
    """Where the list of another repository than the official one stands.

    >>> file_of("someone/wheels").relative_to(OTHERS).as_posix()
    'someone/wheels.json'
    """
    return (folder or OTHERS) / f"{repository}.json"


def shipped_others() -> dict[str, Path]:
    """The shipped lists of other repositories, by repository."""
    found = sorted(OTHERS.glob("*/*.json"))
    return {path.relative_to(OTHERS).as_posix().removesuffix(".json"): path for path in found}


def shipped_of(repository: str) -> Path | None:
    """The shipped list of another repository; None where none comes with the project."""
    wanted = repository.casefold()
    return next((path for name, path in shipped_others().items() if name.casefold() == wanted), None)


def dumps(snapshot: Snapshot) -> str:
    """Write a snapshot, an asset a line: the same snapshot gives the same bytes."""
    lines = ["{", ' "schema": 1,', f' "repository": {json.dumps(snapshot.repository)},']
    lines += [f' "as_of": {json.dumps(snapshot.as_of)},', ' "releases": [']
    for index, release in enumerate(snapshot.releases):
        rows = [json.dumps(_row(asset)) for asset in release.assets]
        body = ",\n    ".join(rows)
        comma = "," if index + 1 < len(snapshot.releases) else ""
        assets = f"[\n    {body}\n  ]" if rows else "[]"
        lines.append(f'  {{"tag": {json.dumps(release.tag)}, "assets": {assets}}}{comma}')
    return "\n".join([*lines, " ]", "}"]) + "\n"


def _row(asset: Asset) -> list[str | int | None]:
    row: list[str | int | None] = [asset.name, asset.sha256, asset.size, asset.updated_at]
    return row if asset.url is None else [*row, asset.url]


def loads(text: str | bytes, name: str, *, forgiving: bool = False) -> Snapshot:
    """Read a snapshot; ``name`` is the file that errors name. ``forgiving``: a bad row costs that file alone.

    Raises:
        DataError: it is not JSON, or not of this form.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        return _build(_parsed(text), forgiving=forgiving)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{name}: not a snapshot of releases: {error}", remedy="restore or delete the file") from None


def read(path: Path = SHIPPED, *, forgiving: bool = False) -> Snapshot:
    """Read a snapshot file; ``forgiving``: a bad row costs that file alone.

    Raises:
        DataError: it is missing, too large, or not of this form.
    """
    try:
        raw = tree.read_bytes(path, MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES:,} bytes, so not a snapshot")
    return loads(raw, str(path), forgiving=forgiving)


def _parsed(text: str) -> Any:
    if sum(map(text.count, ",[{")) > _MAX_VALUES:
        raise ValueError(f"more than {_MAX_VALUES:,} values")
    return json.loads(text)


def _build(data: Any, *, forgiving: bool) -> Snapshot:
    if not isinstance(data, dict) or data.get("schema") != 1:
        raise ValueError("schema is not 1")
    as_of = data["as_of"]
    if not isinstance(as_of, str) or _TIME.fullmatch(as_of) is None:
        raise ValueError("as_of is not a time such as 2026-08-01T00:00:00Z")
    if not isinstance(data["repository"], str):
        raise TypeError("repository is not text")
    return Snapshot(data["repository"], as_of, tuple(_release(row, forgiving=forgiving) for row in data["releases"]))


def _release(row: dict[str, Any], *, forgiving: bool) -> Release:
    if not isinstance(row["tag"], str) or hidden(row["tag"]) is not None:
        raise TypeError("a tag is not printable text")
    if not forgiving:
        return Release(row["tag"], tuple(map(_asset, row["assets"])))
    assets = []
    for asset in row["assets"]:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            assets.append(_asset(asset))
    return Release(row["tag"], tuple(assets))


def _asset(row: Sequence[Any]) -> Asset:
    name, sha256, size, updated_at = row[:4]
    url = row[4] if len(row) == _ROW_WITH_URL else None
    if len(row) > _ROW_WITH_URL or not (url is None or (isinstance(url, str) and is_wheel_url(url))):
        raise ValueError("an asset's row has a strange end")
    if not isinstance(name, str) or not isinstance(updated_at, str | None):
        raise TypeError("an asset's name or date is not text")
    if sha256 is not None and _SHA256.fullmatch(sha256) is None:
        raise ValueError(f"{name}: its sha256 is not 64 hex digits")
    if updated_at is not None and _TIME.fullmatch(updated_at) is None:
        raise ValueError("an asset's date is not a time such as 2026-08-01T00:00:00Z")
    if size is not None and (not isinstance(size, int) or size <= 0):
        raise ValueError(f"{name}: its size is not a number of bytes")
    return Asset(name, sha256, size, updated_at, url)
