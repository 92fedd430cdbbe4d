"""The digests of a checkpoint: a file in its folder, which `sha256sum --check` reads as well.

``python -m serve download`` writes it and checks it, ``python -m serve verify`` checks it, and so does a start with
``WW_VERIFY_WEIGHTS=1``. It tells damage (a disk, a copy that was cut, one file of another version), and not who made
the files: whoever can write to them can write the digests, too.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from serve.errors import SettingsError

FILE = "SHA256SUMS"
RECORD = "wheelwright-download.json"
"""In a folder that `serve.fetching.fetch` filled: ``{"schema", "model", "commit", "complete", "files"}``."""
# What the service reads. A repository also holds a README with pictures, and sometimes the weights in other formats.
PATTERNS = ("*.json", "merges.txt", "*.safetensors")
HEAD = (
    "# A checkpoint of `python -m serve`. Check it with `python -m serve verify`, or `sha256sum --check SHA256SUMS`.\n"
)
SHOWN = 5
Finding = Literal["same", "differs", "missing", "not listed"]
_LINE = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>.+)")
_SIZE = re.compile(r"# bytes (?P<size>\d{1,18}) (?P<name>.+)")


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file must be.

    Attributes:
        sha256: of all its bytes, in hexadecimal.
        size: its bytes; None where the list does not say.
    """

    sha256: str
    size: int | None


def digest_of(file: Path) -> Digest:
    """What a file is now."""
    with file.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        return Digest(sha256, os.fstat(content.fileno()).st_size)


def write_digests(folder: Path, digests: Mapping[str, Digest]) -> None:
    """Write the list, whole or not at all.

    Raises:
        SettingsError: a name that the list cannot hold.
        OSError: the folder cannot be written.
    """
    if bad := [name for name in digests if not _is_plain(name)]:
        raise SettingsError(f"{folder}: no list of digests can hold the name {bad[0]!r}", remedy="rename it")
    lines = [
        line
        for name, digest in sorted(digests.items())
        for line in (f"# bytes {digest.size} {name}\n", f"{digest.sha256}  {name}\n")
        if digest.size is not None or not line.startswith("#")
    ]
    new = folder / f"{FILE}.new"
    new.write_text(HEAD + "".join(lines), encoding="utf-8")
    new.replace(folder / FILE)


def read_digests(folder: Path) -> Mapping[str, Digest] | None:
    """The list; None where there is none.

    Raises:
        SettingsError: it cannot be read, or is no such list.
    """
    file = folder / FILE
    remedy = f"fetch the checkpoint again, or delete {file} and let `python -m serve verify --write` make it anew"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file}: cannot be read: {error}", remedy=remedy) from error
    sizes = {found["name"]: int(found["size"]) for line in lines if (found := _SIZE.fullmatch(line))}
    digests = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None or not _is_plain(found["name"]) or found["name"] in digests:
            raise SettingsError(f"{file}: line {number} is no digest of a file in this folder", remedy=remedy)
        digests[found["name"]] = Digest(found["digest"], sizes.get(found["name"]))
    if not digests:
        raise SettingsError(f"{file}: holds no digest", remedy=remedy)
    return digests


def checked_files(folder: Path) -> list[str]:
    """The files of a checkpoint that the service reads, by their names in its folder."""
    found = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        if not hidden and name != RECORD and path.is_file() and is_read(name):
            found.append(name)
    return sorted(found)


def is_read(name: str) -> bool:
    """Whether the service would read a file of that name."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in PATTERNS)


def compare(folder: Path, digests: Mapping[str, Digest]) -> Iterator[tuple[str, Finding]]:
    """Every listed file and every file that the service reads, with what it is; reads all of their bytes."""
    for name in sorted({*digests, *checked_files(folder)}):
        wanted, path = digests.get(name), folder / name
        if wanted is None:
            yield name, "not listed"
        elif not path.is_file():
            yield name, "missing"
        elif wanted.size not in {None, path.stat().st_size}:
            yield name, "differs"
        else:
            yield name, "same" if digest_of(path).sha256 == wanted.sha256 else "differs"


def check_digests(folder: Path) -> None:
    """Compare all bytes with the list, as ``WW_VERIFY_WEIGHTS=1`` asks.

    Raises:
        SettingsError: there is no list, or a file is not what it says.
    """
    digests = read_digests(folder)
    if digests is None:
        raise SettingsError(
            f"WW_VERIFY_WEIGHTS=1 cannot be met: {folder} holds no {FILE}",
            remedy="`python -m serve download` writes it, `python -m serve verify --write` for files that are there",
        )
    wrong = [f"{name} {what}" for name, what in compare(folder, digests) if what != "same"]
    if wrong:
        raise _other(folder, wrong)


def check_sizes(folder: Path) -> None:
    """Compare the sizes of the weights with the list, if there is one: it costs nothing, so every start does.

    Raises:
        SettingsError: the list is broken, or a file of weights is missing or has another size.
    """
    weights = {name: found for name, found in (read_digests(folder) or {}).items() if name.endswith(".safetensors")}
    wrong = [f"{name} {what}" for name, what in _wrong_sizes(folder, weights.items())]
    if wrong:
        raise _other(folder, wrong)


def _wrong_sizes(folder: Path, weights: Iterable[tuple[str, Digest]]) -> Iterator[tuple[str, str]]:
    for name, wanted in weights:
        try:
            size = (folder / name).stat().st_size
        except OSError:
            yield name, "missing"
        else:
            if wanted.size not in {None, size}:
                yield name, f"has {size} bytes and not {wanted.size}"


def _other(folder: Path, wrong: list[str]) -> SettingsError:
    what = f"{folder}: not what {FILE} says: {', '.join(wrong[:SHOWN])}{' ...' if len(wrong) > SHOWN else ''}"
    return SettingsError(what, remedy=f"fetch it again: `python -m serve download --to {folder}` replaces what differs")


def _is_plain(name: str) -> bool:
    """Whether a name is one of a file below the folder, and stands on a line of its own."""
    parts = PurePosixPath(name).parts
    return name.isprintable() and "\\" not in name and bool(parts) and parts[0] != "/" and ".." not in parts
