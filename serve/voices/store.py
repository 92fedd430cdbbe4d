"""The store of voices: SQLite for what is known of them, one safetensors file each for the audio.

A voice is stored when its row is: the file is written before, under the database's write lock, so that at any moment
a file without a row is either being written by the process that holds the lock, or was left behind by one that died.
Whoever has the lock can therefore sweep, and several processes of one host can share a folder. (Not over a network
file system, whose locks cannot be relied on.)
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Final

from serve.errors import ServiceError, SettingsError, StartError
from serve.settings import Settings
from serve.voices.database import DamagedDatabase, Database, Rows
from serve.voices.quotas import Quota
from serve.voices.records import NewVoice, Voice, VoiceInfo
from serve.voices.samples import DamagedSamples, checksum, read_samples, sync_folder, write_samples

log = logging.getLogger(__name__)

DEFAULT_FOLDER = Path("/data")
DATABASE: Final = "voices.sqlite"
SAMPLES: Final = "voices"
FILE: Final = re.compile(r"(voice_[0-9a-f]{24})\.safetensors(\.part)?")


def data_folder(settings: Settings) -> Path | None:
    """Where voices are kept: ``WW_DATA_DIR``; unset, ``/data``, where an image's volume is, if it can be written."""
    if settings.data_dir is not None:
        return settings.data_dir
    return DEFAULT_FOLDER if DEFAULT_FOLDER.is_dir() and os.access(DEFAULT_FOLDER, os.W_OK | os.X_OK) else None


class VoiceStore:
    """The voices in one folder. Every method blocks, and may be called from any thread.

    Args:
        folder: made if it is not there.
        quota: of each owner.

    Raises:
        SettingsError: the folder cannot be written.
        StartError: what is in it is damaged or from a newer version; nothing was changed.
    """

    def __init__(self, folder: Path, quota: Quota) -> None:
        self.folder = folder
        self.quota = quota
        self._database = Database(folder / DATABASE)
        self._samples = folder / SAMPLES
        try:
            self._samples.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _alone(folder):
                self._open()
                self._sweep()
        except (OSError, sqlite3.OperationalError) as error:
            what = f"WW_DATA_DIR={str(folder)!r} cannot be: {getattr(error, 'strerror', None) or error}"
            raise SettingsError(what, remedy="set it to a local folder that this user can write") from error
        except DamagedDatabase as error:
            raise self._damaged(str(error)) from error
        except sqlite3.Error as error:
            raise self._damaged(f"{DATABASE}: {error}") from error

    def add(self, voice: NewVoice, owner: str) -> VoiceInfo:
        """Keep a voice. When this returns, it survives a crash.

        Raises:
            ServiceError: 409 the owner has one of that name, or has too many; 507 the disk is full.
        """
        samples = voice.sound.samples
        info = VoiceInfo(
            id=f"voice_{secrets.token_hex(12)}",
            owner=owner,
            name=voice.name,
            language=voice.language,
            transcript=voice.transcript,
            consent=voice.consent,
            created=int(time.time()),
            digest=voice.sound.digest,
            rate=voice.sound.rate,
            duration_s=samples.size / voice.sound.rate,
            bytes=samples.nbytes,
            checksum=checksum(voice.sound),
        )
        with self._told():
            try:
                with self._database.writing() as rows:
                    self.quota.check(rows, info)
                    write_samples(self._file(info.id), voice.sound)
                    rows.insert(info)
                    rows.commit()
            except (OSError, sqlite3.Error):
                self._drop_orphan(info.id)
                raise
        return info

    def owned_by(self, owner: str) -> list[VoiceInfo]:
        """The owner's voices, the oldest first."""
        with self._told(), self._database.reading() as rows:
            return rows.owned_by(owner)

    def find(self, voice: str, owner: str, field: str | None = None) -> VoiceInfo:
        """A voice by its id, or by its name.

        Raises:
            ServiceError: 404; the owner has none of that name or id.
        """
        with self._told(), self._database.reading() as rows:
            return _found(rows, voice, owner, field)

    def reference(self, voice: str, owner: str, field: str | None = None) -> Voice:
        """A voice with its audio.

        Raises:
            ServiceError: 404 as in ``find``; 500 the audio is damaged.
        """
        info = self.find(voice, owner, field)
        try:
            return Voice(info, read_samples(self._file(info.id), info.rate, info.digest, info.checksum))
        except DamagedSamples as error:
            self.find(info.id, owner, field)  # deleted in the meantime: then it is unknown, not damaged
            log.error("the audio of %s in %s is damaged: %s", info.id, self._samples, error)  # noqa: TRY400 - one line
            raise ServiceError(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "voice_damaged",
                f"the stored audio of {info.id} is damaged",
                field=field,
                remedy="restore it from a backup, or delete the voice and make it again",
            ) from error

    def delete(self, voice: str, owner: str) -> VoiceInfo:
        """Forget a voice, its audio too.

        Raises:
            ServiceError: 404 as in ``find``.
        """
        with self._told(), self._database.writing() as rows:
            found = _found(rows, voice, owner, None)
            rows.delete(found.id)
            rows.commit()
            # The row first: a crash here leaves a file that the next start sweeps, not a voice without audio.
            self._file(found.id).unlink(missing_ok=True)
        return found

    def _file(self, voice_id: str) -> Path:
        return self._samples / f"{voice_id}.safetensors"

    def _open(self) -> None:
        if not self._database.is_there and any(FILE.fullmatch(file.name) for file in self._samples.iterdir()):
            raise DamagedDatabase(f"there is audio in {SAMPLES}/, and {DATABASE}, which says whose it is, is gone")
        self._database.open()

    def _sweep(self) -> None:
        """Remove what writers that died left behind; say which voices have lost their audio."""
        with self._database.writing() as rows:
            known = rows.ids()
            found = [
                (match[1], match[2], file) for file in self._samples.iterdir() if (match := FILE.fullmatch(file.name))
            ]
            orphans = [file for voice, part, file in found if part or voice not in known]
            for file in orphans:
                file.unlink(missing_ok=True)
            if orphans:
                sync_folder(self._samples)
                log.info("%s files of voices whose making was cut off are removed", len(orphans))
        for voice in sorted(known - {voice for voice, part, _ in found if not part}):
            log.warning("the audio of %s is missing in %s", voice, self._samples)

    def _drop_orphan(self, voice_id: str) -> None:
        """Remove the file of a voice whose row could not be written: on a full disk it would take what is left.

        A commit that failed may yet be found done: the database is asked. If it does not answer, the next start sweeps.
        """
        file = self._file(voice_id)
        with suppress(OSError, sqlite3.Error):
            if file.exists():
                with self._database.writing() as rows:
                    if voice_id not in rows.ids():
                        file.unlink()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what a disk or the database may do at any time into an answer."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            log.error("the store of voices in %s: %s: %s", self.folder, type(error).__name__, error)  # noqa: TRY400
            full = getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            if full or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                message, remedy = "the disk of the voices is full", "delete voices, or make WW_DATA_DIR's disk larger"
                raise ServiceError(HTTPStatus.INSUFFICIENT_STORAGE, "disk_full", message, remedy=remedy) from error
            message, remedy = "the store of voices cannot be used", "try again; if it stays, see the log"
            raise ServiceError(HTTPStatus.SERVICE_UNAVAILABLE, "store_failed", message, remedy=remedy) from error

    def _damaged(self, what: str) -> StartError:
        return StartError(
            f"the store of voices in {self.folder} is damaged: {what}; nothing was changed",
            remedy=f"restore {self.folder} from a backup, or move it away as a whole to begin with an empty store",
        )


def open_store(settings: Settings) -> VoiceStore | None:
    """The store that the settings ask for, or None where there is no folder for one.

    Raises:
        StartError: see ``VoiceStore``.
    """
    folder = data_folder(settings)
    return None if folder is None else VoiceStore(folder, Quota(settings.max_voices, settings.max_voices_bytes))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time open the store of a folder: of two that make the table, one would fail."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _found(rows: Rows, voice: str, owner: str, field: str | None) -> VoiceInfo:
    found = rows.find(voice, owner)
    if found is None:
        message, remedy = "there is no such voice", "GET /v1/audio/voices lists those of this key; POST makes one"
        raise ServiceError(HTTPStatus.NOT_FOUND, "voice_not_found", message, field=field, remedy=remedy)
    return found
