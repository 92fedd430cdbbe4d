"""Making and restoring backups of a store, while services run on it.

The audio of a voice never changes: it is there from one moment to another. So a backup needs no lock, and nobody waits
for it: it takes the rows as they are at one moment, then the audio of each; a voice that was deleted meanwhile is left
out, as if the backup had been made later. A restored voice comes as a new one does, one by one, each whole and safe
before the next: a restore that was cut off is run again, and goes on.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from serve.errors import SettingsError
from serve.voices.archive import MANIFEST, Backup, Kept, manifest, member, reading
from serve.voices.database import Rows
from serve.voices.records import VoiceInfo
from serve.voices.samples import DamagedSamples, read_content, sync_folder, unpack
from serve.voices.shelf import Shelf

# Zip knows no time before: nothing about a backup's members but their names and contents matters.
_TIME: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made: how many voices and tombstones it holds, and whose audio was damaged or missing."""

    voices: int
    deleted: int
    damaged: tuple[str, ...]


@dataclass(slots=True)
class Restored:
    """What a restore did, by voice.

    Attributes:
        added: voices that were not there.
        mended: voices that were there, and whose audio was damaged or missing.
        there: voices that were there.
        deleted: voices that were there and are deleted, as the backup knows that they were.
        kept_deleted: voices of the backup that were deleted since, and stay it.
        conflicts: why a voice of the backup was left out.
    """

    added: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    kept_deleted: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


def make_backup(shelf: Shelf, target: Path) -> Made:
    """Write a backup: whole, checked and safe on disk, or not at all.

    Raises:
        SettingsError: there is a file of that name, or none can be written there.
        sqlite3.Error: the database.
    """
    if target.exists():
        raise SettingsError(f"{target} is there already", remedy="choose another name, or move it away")
    try:
        # Its mode is 600: voices are personal.
        handle, name = tempfile.mkstemp(".part", f"{target.name}.", target.absolute().parent)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                made = _fill(shelf, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED))
                out.flush()
                os.fsync(out.fileno())
            with reading(part):
                part.rename(target)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(target.absolute().parent)
    except OSError as error:
        remedy = "name a file on a disk that has room for all voices"
        raise SettingsError(f"{target} cannot be written: {error.strerror or error}", remedy=remedy) from error
    return made


def restore(shelf: Shelf, path: Path) -> Restored:
    """Bring the voices of a backup back: what is missing is added; what is there stays; what was deleted stays deleted.

    Raises:
        SettingsError: it is no backup, or damaged; nothing was changed.
        OSError: the disk; the voices before are restored.
        sqlite3.Error: likewise.
    """
    done = Restored()
    with reading(path) as backup:
        for voice in sorted(backup.deleted):
            _delete(shelf, voice, done)
        for kept in backup.voices:
            _restore(shelf, backup, kept, done)
    return done


def _fill(shelf: Shelf, archive: zipfile.ZipFile) -> Made:
    with archive, shelf.database.reading() as rows:
        infos = rows.all()
        kept, damaged = [], []
        for info in infos:
            content = _content(shelf, info)
            if content is not None:
                archive.writestr(zipfile.ZipInfo(member(info.id), _TIME), content)
                kept.append(Kept(info, len(content), hashlib.sha256(content).hexdigest()))
            elif rows.get(info.id) is not None:
                damaged.append(info.id)
        deleted = shelf.tombstones.ids()
        kept = [one for one in kept if one.info.id not in deleted]
        archive.writestr(zipfile.ZipInfo(MANIFEST, _TIME), manifest(int(time.time()), kept, deleted))
    return Made(len(kept), len(deleted), tuple(damaged))


def _content(shelf: Shelf, info: VoiceInfo) -> bytes | None:
    try:
        content = read_content(shelf.folder.audio(info.id))
        unpack(content, info.checksum)
    except (OSError, DamagedSamples):
        return None
    return content


def _delete(shelf: Shelf, voice: str, done: Restored) -> None:
    with shelf.database.writing() as rows:
        if voice not in shelf.tombstones:
            shelf.tombstones.mark(voice)
        if rows.get(voice) is not None:
            rows.delete(voice)
            rows.commit()
            done.deleted.append(voice)
    shelf.bury(voice)


def _restore(shelf: Shelf, backup: Backup, kept: Kept, done: Restored) -> None:
    info = kept.info
    with shelf.database.reading() as rows:
        known = rows.get(info.id)
    if info.id in shelf.tombstones:
        done.kept_deleted.append(info.id)
    elif known is not None and known != info:
        done.conflicts.append(f"{info.id} is there, and is not the same")
    elif known is None:
        try:
            shelf.put(info, backup.content(kept), lambda rows: _check(shelf, rows, info))
        except _ConflictError as error:
            done.conflicts.append(str(error))
        else:
            done.added.append(info.id)
            _drop_copy(shelf, info)
    elif _content(shelf, info) is None and _mend(shelf, info, backup.content(kept)):
        done.mended.append(info.id)
    else:
        done.there.append(info.id)


class _ConflictError(Exception):
    """Why a voice cannot be restored."""


def _check(shelf: Shelf, rows: Rows, info: VoiceInfo) -> None:
    """With the lock: what was so a moment ago may be so no more."""
    if info.id in shelf.tombstones or rows.get(info.id) is not None:
        raise _ConflictError(f"{info.id} was made or deleted at the same moment")
    if rows.find(info.name, info.owner) is not None:
        raise _ConflictError(f"{info.id}: its owner has another voice of its name")


def _mend(shelf: Shelf, info: VoiceInfo, content: bytes) -> bool:
    with shelf.database.writing() as rows:
        if rows.get(info.id) is None:
            return False
        shelf.mend(info, content)
        return True


def _drop_copy(shelf: Shelf, info: VoiceInfo) -> None:
    """Remove the same audio from the quarantine; other audio of this id stays."""
    with shelf.database.writing():
        try:
            unpack(shelf.quarantine.find(info.id).read_bytes(), info.checksum)
        except (OSError, DamagedSamples):
            return
        shelf.quarantine.drop(info.id)
