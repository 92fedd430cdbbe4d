"""The store of voices: SQLite for what is known of them, one safetensors file each for the audio.

This is what the service does with it: it checks limits, and what a disk may do at any time becomes an answer. How a
voice gets in and out is `serve.voices.shelf`'s; what a start finds, `serve.voices.opening`'s.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

from serve.errors import ServiceError
from serve.ownership import let_in, refusal
from serve.settings import Settings
from serve.voices.database import Rows
from serve.voices.opening import open_shelf
from serve.voices.quotas import Quota
from serve.voices.records import NewVoice, Voice, VoiceInfo
from serve.voices.samples import DamagedSamples, checksum, pack, read_samples

log = logging.getLogger(__name__)

DEFAULT_FOLDER = Path("/data")
QUARANTINE_DAYS: Final = 30


def data_folder(settings: Settings) -> Path | None:
    """Where voices are kept: ``WW_DATA_DIR``; unset, ``/data``, where an image's volume is, if it can be written."""
    if settings.data_dir is not None:
        return settings.data_dir
    return DEFAULT_FOLDER if DEFAULT_FOLDER.is_dir() and os.access(DEFAULT_FOLDER, os.W_OK | os.X_OK) else None


def why_no_folder() -> str:
    """Why there is no folder, where `data_folder` finds none."""
    if DEFAULT_FOLDER.is_dir() and (why := refusal(DEFAULT_FOLDER)) is not None:
        return f"WW_DATA_DIR is not set, and {why}"
    return f"WW_DATA_DIR is not set, and there is no {DEFAULT_FOLDER} that it can write"


class VoiceStore:
    """The voices in one folder. Every method blocks, and may be called from any thread.

    Args:
        folder: made if it is not there.
        quota: of each owner, and of the disk.
        days: how long audio that the database does not know is kept.

    Raises:
        SettingsError: the folder cannot be written.
        StartError: what is in it is damaged or from a newer version; nothing was changed.
    """

    def __init__(self, folder: Path, quota: Quota, days: int = QUARANTINE_DAYS) -> None:
        self.folder = folder
        self.quota = quota
        self._shelf = open_shelf(folder, days)

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
            checksum=checksum(samples),
        )

        def check(rows: Rows) -> None:
            self.quota.check(rows, info, self._shelf.quarantine.size()[1] if self.quota.disk else 0)

        with self._told():
            self._shelf.put(info, pack(info, samples), check)
        return info

    def owned_by(self, owner: str) -> list[VoiceInfo]:
        """The owner's voices, the oldest first."""
        with self._told(), self._shelf.database.reading() as rows:
            return rows.owned_by(owner)

    def find(self, voice: str, owner: str, field: str | None = None) -> VoiceInfo:
        """A voice by its id, or by its name.

        Raises:
            ServiceError: 404; the owner has none of that name or id.
        """
        with self._told(), self._shelf.database.reading() as rows:
            return _found(rows, voice, owner, field)

    def reference(self, voice: str, owner: str, field: str | None = None) -> Voice:
        """A voice with its audio.

        Raises:
            ServiceError: 404 as in ``find``; 500 the audio is damaged, or another user wrote it.
        """
        info = self.find(voice, owner, field)
        file = self._shelf.folder.audio(info.id)
        try:
            return Voice(info, read_samples(file, info))
        except PermissionError as error:
            why = refusal(file) or f"{file} cannot be read"
            log.error("the audio of %s: %s", info.id, why)  # noqa: TRY400 - one line
            raise ServiceError(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "voice_unreadable",
                f"the service may not read the stored audio of {info.id}: another user wrote it",
                field=field,
                remedy=f"an operator must: {let_in(self.folder)}",
            ) from error
        except DamagedSamples as error:
            self.find(info.id, owner, field)  # deleted in the meantime: then it is unknown, not damaged
            log.error("the audio of %s in %s is damaged: %s", info.id, file.parent, error)  # noqa: TRY400 - one line
            raise ServiceError(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "voice_damaged",
                f"the stored audio of {info.id} is damaged",
                field=field,
                remedy="restore it from a backup, or delete the voice and make it again",
            ) from error

    def delete(self, voice: str, owner: str) -> VoiceInfo:
        """Forget a voice, its audio too; no older database brings it back.

        Raises:
            ServiceError: 404 as in ``find``.
        """
        with self._told():
            return self._shelf.forget(lambda rows: _found(rows, voice, owner, None))

    def quarantined(self) -> tuple[int, int]:
        """How many files are in quarantine, and their bytes."""
        with self._told():
            return self._shelf.quarantine.size()

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


def open_store(settings: Settings) -> VoiceStore | None:
    """The store that the settings ask for, or None where there is no folder for one.

    Raises:
        StartError: see ``VoiceStore``.
    """
    folder = data_folder(settings)
    if folder is None:
        log.log(logging.WARNING if DEFAULT_FOLDER.is_dir() else logging.INFO, "no voices are kept: %s", why_no_folder())
        return None
    return VoiceStore(folder, quota_of(settings), settings.quarantine_days)


def quota_of(settings: Settings) -> Quota:
    """The limits that are set."""
    return Quota(settings.max_voices, settings.max_voices_bytes, settings.max_data_bytes)


def _found(rows: Rows, voice: str, owner: str, field: str | None) -> VoiceInfo:
    found = rows.find(voice, owner)
    if found is None:
        message, remedy = "there is no such voice", "GET /v1/audio/voices lists those of this key; POST makes one"
        raise ServiceError(HTTPStatus.NOT_FOUND, "voice_not_found", message, field=field, remedy=remedy)
    return found
