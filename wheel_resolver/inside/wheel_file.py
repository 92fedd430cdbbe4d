"""Open a wheel without trusting it: a zip file whose names, sizes and hashes are checked before anything is unpacked.

Source: the binary distribution format (PEP 427), RECORD (PEP 376, PEP 627).
"""

from __future__ import annotations

import base64
import contextlib
import csv
import email.parser
import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from matrix import tree
from matrix.errors import DataError

#: flash-attn's largest wheel unpacks to 1.1 GB in 60 files; what is far beyond is no wheel but a bomb.
MAX_UNPACKED = 8_000_000_000
MAX_MEMBERS = 20_000
#: Of machine code, deflate makes a fifth; of zeros, a thousandth.
MAX_RATIO = 200
_SMALL = 10_000_000  # a ratio of less than this says nothing
MAX_TEXT = 10_000_000
#: A name, a version or a tag is part of a file's name.
_MAX_WORD = 255
_CHUNK = 1 << 20
_UNSIGNED = ("RECORD", "RECORD.jws", "RECORD.p7s")
_LAST_CONTROL = 31


@dataclass(frozen=True, slots=True)
class Metadata:
    """What ``METADATA`` and ``WHEEL`` say, as texts."""

    name: str
    version: str
    requires: tuple[str, ...]
    requires_python: str | None
    tags: tuple[str, ...]


@contextlib.contextmanager
def open_wheel(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a wheel for a block.

    Raises:
        DataError: it is no whole zip file, or one that would write outside its folder or fill the disk.
    """
    if tree.exists(path) and not tree.is_file(path):  # a pipe or a device may never end
        raise DataError(f"{path}: is not a file", remedy="name a wheel's file")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive.infolist())
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not a whole wheel (zip) file: {error}", remedy="fetch it again; a download may have been cut"
        ) from None
    except (NotImplementedError, RuntimeError) as error:  # an unknown compression; an encrypted member
        raise DataError(f"{path}: cannot be unpacked: {error}", remedy="no wheel is packed so: do not use it") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}", remedy="check the path") from None


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    remedy = "no tool packs a wheel so: do not use it"
    seen: set[str] = set()
    for member in members[: MAX_MEMBERS + 1]:
        name = member.filename
        if _escapes(name) or name in seen:
            why = "is there twice" if name in seen else "leads out of the folder it is unpacked into"
            raise DataError(f"{path}: the member {name[:200]!r} {why}", remedy=remedy)
        seen.add(name)
    unpacked, packed = sum(member.file_size for member in members), path.stat().st_size
    if len(members) > MAX_MEMBERS or unpacked > MAX_UNPACKED or unpacked > max(_SMALL, packed * MAX_RATIO):
        raise DataError(
            f"{path}: {len(members):,} files of {unpacked:,} bytes in a wheel of {packed:,}: a zip bomb", remedy=remedy
        )


def _escapes(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (
        not parts
        or name.startswith(("/", "\\"))
        or ".." in parts
        or "\\" in name
        or ":" in parts[0]
        or any(ord(char) <= _LAST_CONTROL for char in name)
    )


def read_metadata(path: Path, archive: zipfile.ZipFile) -> Metadata:
    """Read ``METADATA`` and ``WHEEL``.

    Raises:
        DataError: one of them is missing, or is no text.
    """
    info = _info_folder(path, archive)
    metadata, wheel = (_headers(path, archive, f"{info}/{name}") for name in ("METADATA", "WHEEL"))
    for headers, name in ((metadata, "Name"), (metadata, "Version"), (wheel, "Tag")):
        if not headers.get(name):
            file = "WHEEL" if name == "Tag" else "METADATA"
            raise DataError(f"{path}: {info}/{file} has no {name}", remedy="it is no whole wheel: do not use it")
        if len(str(headers[name])) > _MAX_WORD:
            raise DataError(
                f"{path}: {info}: {name} has {len(str(headers[name])):,} characters", remedy="do not use it"
            )
    return Metadata(
        name=str(metadata["Name"]).strip(),
        version=str(metadata["Version"]).strip(),
        requires=tuple(map(str, metadata.get_all("Requires-Dist", ()))),
        requires_python=metadata.get("Requires-Python"),
        tags=tuple(str(tag).strip() for tag in wheel.get_all("Tag", ())),
    )


def _info_folder(path: Path, archive: zipfile.ZipFile) -> str:
    folders = {name.split("/")[0] for name in archive.namelist() if name.split("/")[0].endswith(".dist-info")}
    if len(folders) != 1:
        raise DataError(
            f"{path}: holds {len(folders)} .dist-info folders, and a wheel holds one", remedy="it is no wheel"
        )
    return folders.pop()


def _headers(path: Path, archive: zipfile.ZipFile, name: str) -> email.message.Message:
    return email.parser.HeaderParser().parsestr(_text(path, archive, name))


def _text(path: Path, archive: zipfile.ZipFile, name: str) -> str:
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise DataError(f"{path}: has no {name}", remedy="it is no whole wheel: do not use it") from None
    if member.file_size > MAX_TEXT:
        raise DataError(f"{path}: {name} has {member.file_size:,} bytes", remedy="do not use it")
    return archive.read(member).decode("utf-8", "replace")


def check_record(path: Path, archive: zipfile.ZipFile) -> tuple[str, ...]:
    """Compare every file with its line in RECORD; what differs, in words.

    Raises:
        DataError: RECORD is missing, or a member is damaged.
    """
    info = _info_folder(path, archive)
    faults = []
    recorded: dict[str, tuple[str, str]] = {}
    try:
        for row in csv.reader(io.StringIO(_text(path, archive, f"{info}/RECORD"))):
            if len(row) == 3:  # noqa: PLR2004 - path, hash, size
                recorded[row[0]] = (row[1], row[2])
            elif row:
                faults.append(f"RECORD has a line of {len(row)} fields")
    except csv.Error as error:
        faults.append(f"RECORD cannot be read: {error}")
    unsigned = {f"{info}/{name}" for name in _UNSIGNED}
    files = {member.filename: member for member in archive.infolist() if not member.is_dir()}
    faults += [f"RECORD lists {name}, which is not there" for name in sorted(recorded.keys() - files.keys() - unsigned)]
    for name, member in files.items():
        if name in unsigned:
            continue
        if name not in recorded:
            faults.append(f"{name} is not in RECORD")
        elif recorded[name][0] != (found := _digest(archive, member)) or recorded[name][1] != str(member.file_size):
            faults.append(f"{name} is not as recorded: {found}, {member.file_size} bytes; RECORD: {recorded[name]}")
    return tuple(faults)


def _digest(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    """``sha256=...`` as RECORD writes it; no wheel of the last ten years uses another hash."""
    digest = hashlib.sha256()
    with archive.open(member) as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return f"sha256={base64.urlsafe_b64encode(digest.digest()).rstrip(b'=').decode()}"


def unpack(archive: zipfile.ZipFile, member: str, target: Path) -> Path:
    """Write one member to a path of ours.

    Raises:
        DataError: the disk cannot hold it.
    """
    try:
        with archive.open(member) as source, target.open("wb") as file:
            while block := source.read(_CHUNK):
                file.write(block)
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written: {error.strerror or error}", remedy="set TMPDIR to a folder with more space"
        ) from None
    return target
