"""What the cache remembers of the insides of wheels: a record next to each wheel that was looked into.

    files/<sha256>/<name>               the wheel
    files/<sha256>/<name>.inspection    what was found in it, as JSON

Apart from the looking itself, since every question reads the records, and few look.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.version import Version

from matrix import Abi, Arch
from wheel_resolver.core.facts import Inspection
from wheel_resolver.fetching.fetch import cache_folder
from wheel_resolver.files import write_atomic

#: Another number makes every wheel be looked into anew: it moves when an inspection sees more.
_SCHEMA = 2
_SUFFIX = ".inspection"


def recorded(folder: Path | None = None) -> dict[str, Inspection]:
    """What is remembered, by the sha256 of the wheel; opens no wheel. ``folder``: the cache, ours by default."""
    found = {}
    for record in _records(folder or cache_folder()):
        sha256 = record.parent.name
        if (seen := _read(record, sha256)) is not None:
            found[sha256] = seen
    return found


def read_record(wheel: Path, sha256: str) -> Inspection | None:
    """What is remembered of one wheel; None where it was not looked into, or the record is damaged or old."""
    return _read(_record(wheel), sha256)


def write_record(wheel: Path, sha256: str, seen: Inspection) -> None:
    """Remember what was found. A record that cannot be kept costs the next one time, and nothing else."""
    row = {"schema": _SCHEMA, "sha256": sha256, **inspection_row(seen), "refusal": seen.refusal}
    with suppress(OSError):
        write_atomic(_record(wheel), json.dumps(row, indent=1) + "\n")


def inspection_row(seen: Inspection) -> dict[str, Any]:
    """What was found inside a wheel, as lock and cache have it; a refusal stands apart."""
    return {
        "abi": str(seen.abi) if seen.abi else None,
        "glibc": str(seen.glibc) if seen.glibc else None,
        "cuda": seen.cuda,
        "sass": None if seen.sass is None else [arch.capability for arch in seen.sass],
        "compressed": seen.compressed,
        "loaded": seen.loaded,
    }


def inspection_of(row: Mapping[str, Any]) -> Inspection:
    """What ``inspection_row`` wrote."""
    return Inspection(
        abi=Abi(row["abi"]) if row["abi"] else None,
        glibc=Version(row["glibc"]) if row["glibc"] else None,
        cuda=row["cuda"],
        sass=None if row["sass"] is None else tuple(map(Arch.parse, row["sass"])),
        compressed=row["compressed"],
        loaded=row["loaded"],
    )


def _record(wheel: Path) -> Path:
    return wheel.with_name(wheel.name + _SUFFIX)


def _read(record: Path, sha256: str) -> Inspection | None:
    try:
        row: Any = json.loads(record.read_text(encoding="utf-8"))
        if not isinstance(row, Mapping) or (row["schema"], row["sha256"]) != (_SCHEMA, sha256):
            return None
        return replace(inspection_of(row), refusal=row["refusal"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _records(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from sorted((folder / "files").glob(f"*/*{_SUFFIX}"))
