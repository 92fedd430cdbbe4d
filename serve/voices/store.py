"""The store of voices: SQLite for what is known of them, one safetensors file each for the audio.

A voice is stored when its row is: the file is written before, under the database's write lock, so that at any moment
a file without a row is either being written by the process that holds the lock, or was left behind by one that died.
Whoever has the lock can therefore sweep, and several processes of one host can share a folder. (Not over a network
file system: the database's log needs shared memory.)
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
import unicodedata
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from http import HTTPStatus
from pathlib import Path
from typing import Final

from serve.errors import ServiceError, SettingsError, StartError, invalid
from serve.settings import Settings
from serve.speech.audio import Sound
from serve.voices.samples import DamagedSamples, checksum, read_samples, sync_folder, write_samples

log = logging.getLogger(__name__)

DEFAULT_FOLDER = Path("/data")
DATABASE: Final = "voices.sqlite"
SAMPLES: Final = "voices"
SCHEMA_VERSION: Final = 1
APPLICATION: Final = 0x57575643  # "WWVC": tells the database from someone else's
SCHEMA: Final = """
CREATE TABLE voices (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    language TEXT NOT NULL,
    transcript TEXT,
    consent TEXT NOT NULL,
    created INTEGER NOT NULL,
    digest TEXT NOT NULL,
    rate INTEGER NOT NULL,
    duration_s REAL NOT NULL,
    bytes INTEGER NOT NULL,
    checksum TEXT NOT NULL,
    UNIQUE (owner, name)
) STRICT
"""
LOCK_S: Final = 30.0
ID: Final = re.compile(r"voice_[0-9a-f]{24}")
FILE: Final = re.compile(rf"({ID.pattern})\.safetensors(\.part)?")
LONGEST_NAME: Final = 64
NAME_MARKS: Final = frozenset("-_.")


@dataclass(frozen=True, slots=True)
class VoiceInfo:
    """What is known of a voice.

    Attributes:
        id: ``voice_`` and 24 hex digits; never used twice.
        owner: the id of the caller that made it.
        name: chosen by the owner, and unique among the owner's.
        language: the model's name of it, or ``auto``.
        transcript: what is said in the audio; None: only the timbre is used (x-vector).
        consent: the owner's note of who agreed to this use of the voice.
        created: seconds since 1970, UTC.
        digest: SHA-256 of the encoded audio.
        rate: samples per second, Hz.
        duration_s: length of the audio, seconds.
        bytes: size of the decoded audio.
        checksum: SHA-256 of the samples.
    """

    id: str
    owner: str
    name: str
    language: str
    transcript: str | None
    consent: str
    created: int
    digest: str
    rate: int
    duration_s: float
    bytes: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice with its audio: all that speaking in it takes."""

    info: VoiceInfo
    sound: Sound


@dataclass(frozen=True, slots=True)
class NewVoice:
    """A voice to keep: checked text, a resolved language, decoded audio. ``transcript`` None: see ``VoiceInfo``."""

    name: str
    language: str
    transcript: str | None
    consent: str
    sound: Sound


COLUMNS: Final = ", ".join(column.name for column in fields(VoiceInfo))
VALUES: Final = ", ".join(f":{column.name}" for column in fields(VoiceInfo))


def data_folder(settings: Settings) -> Path | None:
    """Where voices are kept: ``WW_DATA_DIR``; unset, ``/data``, where an image's volume is, if it can be written."""
    if settings.data_dir is not None:
        return settings.data_dir
    return DEFAULT_FOLDER if DEFAULT_FOLDER.is_dir() and os.access(DEFAULT_FOLDER, os.W_OK | os.X_OK) else None


def check_name(name: str, field: str) -> str:
    """The name, normalized (NFC): 1 to 64 letters, digits and ``-_.`` of any script, the first a letter or digit.

    Raises:
        ServiceError: 422; it is no such name, or looks like an id.
    """
    # NFC can make a text three times as long: what is far too long is not normalized first.
    name = unicodedata.normalize("NFC", name) if len(name) <= 4 * LONGEST_NAME else name
    kinds = [unicodedata.category(char)[0] for char in name[: LONGEST_NAME + 1]]
    allowed = all(kind in "LMN" or char in NAME_MARKS for char, kind in zip(name, kinds, strict=False))
    if not 0 < len(name) <= LONGEST_NAME or not allowed or kinds[0] not in "LN" or ".." in name:
        message = f"{field} is not 1 to {LONGEST_NAME} letters, digits and -_. that begin with a letter or digit"
        raise invalid("bad_name", message, field, "give the voice a short name, without blanks and slashes")
    if name.startswith("voice_"):
        raise invalid("bad_name", f"{field} begins like an id", field, "choose a name that does not begin with voice_")
    return name


class VoiceStore:
    """The voices in one folder. Every method blocks, and may be called from any thread.

    Args:
        folder: made if it is not there.
        max_voices: most voices of one owner.
        max_bytes: most decoded audio of one owner.

    Raises:
        SettingsError: the folder cannot be written.
        StartError: what is in it is damaged or from a newer version; nothing was changed.
    """

    def __init__(self, folder: Path, max_voices: int, max_bytes: int) -> None:
        self.folder = folder
        self._database = folder / DATABASE
        self._samples = folder / SAMPLES
        self._max_voices = max_voices
        self._max_bytes = max_bytes
        try:
            self._samples.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _alone(folder):
                self._open_database()
                self._sweep()
        except (OSError, sqlite3.OperationalError) as error:
            what = f"WW_DATA_DIR={str(folder)!r} cannot be: {getattr(error, 'strerror', None) or error}"
            raise SettingsError(what, remedy="set it to a local folder that this user can write") from error
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
        file = self._file(info.id)
        with self._told(), self._writing() as database:
            self._check_room(database, info)
            write_samples(file, voice.sound)
            # If one of these fails, the file stays for the next start to sweep: a commit that failed while it was
            # synced may yet be found committed, and then the file must be there.
            database.execute(
                f"INSERT INTO voices ({COLUMNS}) VALUES ({VALUES})",  # noqa: S608 - names of this module's columns
                {column.name: getattr(info, column.name) for column in fields(VoiceInfo)},
            )
            database.execute("COMMIT")
        return info

    def owned_by(self, owner: str) -> list[VoiceInfo]:
        """The owner's voices, the oldest first."""
        with self._told(), self._connected() as database:
            rows = database.execute(
                f"SELECT {COLUMNS} FROM voices WHERE owner = ? ORDER BY created, rowid",  # noqa: S608 - as in add
                (owner,),
            ).fetchall()
        return [VoiceInfo(*row) for row in rows]

    def find(self, voice: str, owner: str, field: str | None = None) -> VoiceInfo:
        """A voice by its id, or by its name.

        Raises:
            ServiceError: 404; the owner has none of that name or id.
        """
        with self._told(), self._connected() as database:
            found = _select(database, voice, owner)
        if found is None:
            raise _unknown(field)
        return found

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
        with self._told(), self._writing() as database:
            found = _select(database, voice, owner)
            if found is None:
                raise _unknown(None)
            database.execute("DELETE FROM voices WHERE id = ?", (found.id,))
            database.execute("COMMIT")
            # The row first: a crash here leaves a file that the next start sweeps, not a voice without audio.
            self._file(found.id).unlink(missing_ok=True)
        return found

    def _file(self, voice_id: str) -> Path:
        return self._samples / f"{voice_id}.safetensors"

    def _check_room(self, database: sqlite3.Connection, info: VoiceInfo) -> None:
        same, count, size = database.execute(
            "SELECT total(name = ?), count(*), total(bytes) FROM voices WHERE owner = ?", (info.name, info.owner)
        ).fetchone()
        if same:
            message, remedy = "there is a voice of this name", "choose another name, or delete that voice first"
            raise ServiceError(HTTPStatus.CONFLICT, "name_taken", message, field="name", remedy=remedy)
        if count >= self._max_voices:
            what, setting = f"{count} voices are kept, which is the most", "WW_MAX_VOICES"
        elif size + info.bytes > self._max_bytes:
            what, setting = f"the voices would hold more than {self._max_bytes} bytes of audio", "WW_MAX_VOICES_MIB"
        else:
            return
        raise ServiceError(HTTPStatus.CONFLICT, "too_many_voices", what, remedy=f"delete some, or raise {setting}")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for each use: threads share nothing, and nothing is open that a test must close."""
        with closing(sqlite3.connect(self._database, timeout=LOCK_S, isolation_level=None)) as database:
            # A voice that was answered for must survive a power cut; in WAL mode NORMAL would not sync each commit.
            database.execute("PRAGMA synchronous = FULL")
            yield database

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """The write lock, until the commit; without one, all is undone."""
        with self._connected() as database:
            database.execute("BEGIN IMMEDIATE")
            yield database

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

    def _open_database(self) -> None:
        """Make the database if there is none, and see that it is ours and whole."""
        left = self._database.is_file() and self._database.stat().st_size > 0
        if not left and any(FILE.fullmatch(file.name) for file in self._samples.iterdir()):
            raise self._damaged(f"there is audio in {SAMPLES}/, and {DATABASE}, which says whose it is, is gone")
        with self._connected() as database:
            if not left:
                self._database.chmod(0o600)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("BEGIN IMMEDIATE")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (application,) = database.execute("PRAGMA application_id").fetchone()
            if version == 0 and not database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                database.execute(SCHEMA)
                database.execute(f"PRAGMA application_id = {APPLICATION}")
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif application != APPLICATION:
                raise self._damaged(f"{DATABASE} is a database, and not one of this service's voices")
            elif version != SCHEMA_VERSION:
                raise StartError(
                    f"{self._database} has version {version}, and this service knows version {SCHEMA_VERSION}",
                    remedy="start the version of the service that made it, or set WW_DATA_DIR to another folder",
                )
            database.execute("COMMIT")
            faults = [row[0] for row in database.execute("PRAGMA integrity_check(3)")]
        if faults != ["ok"]:
            raise self._damaged(f"{DATABASE}: {'; '.join(faults)}")

    def _sweep(self) -> None:
        """Remove what writers that died left behind; say which voices have lost their audio."""
        with self._writing() as database:
            known = {row[0] for row in database.execute("SELECT id FROM voices")}
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
    return None if folder is None else VoiceStore(folder, settings.max_voices, settings.max_voices_bytes)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time open the store of a folder: SQLite does not wait for a switch to WAL mode."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _select(database: sqlite3.Connection, voice: str, owner: str) -> VoiceInfo | None:
    # Python's text may hold lone surrogates, which no database takes, and no name has.
    wanted = unicodedata.normalize("NFC", voice.encode("utf-8", "replace").decode()[:LONGEST_NAME])
    row = database.execute(
        f"SELECT {COLUMNS} FROM voices WHERE owner = ? AND (id = ? OR name = ?)",  # noqa: S608 - as in add
        (owner, wanted, wanted),
    ).fetchone()
    return None if row is None else VoiceInfo(*row)


def _unknown(field: str | None) -> ServiceError:
    remedy = "GET /v1/audio/voices lists those of this key; POST makes one"
    return ServiceError(HTTPStatus.NOT_FOUND, "voice_not_found", "there is no such voice", field=field, remedy=remedy)
