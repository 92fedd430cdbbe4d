"""What is known of the voices, in one SQLite file: its schema, its connections, its queries.

It keeps a rollback journal and no write-ahead log: to read needs no space then, so that what is kept can be spoken
with on a full disk. The journal's file stays (``PERSIST``), so that a voice can be deleted there, too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Final

from serve.errors import StartError
from serve.ownership import PRIVATE, hand_over
from serve.voices.records import VoiceInfo, normalized

VERSION: Final = 1
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
_COLUMNS: Final = ", ".join(column.name for column in fields(VoiceInfo))
_VALUES: Final = ", ".join(f":{column.name}" for column in fields(VoiceInfo))


class DamagedDatabase(Exception):  # noqa: N818 - it names a state of a file
    """The file is not what this service wrote; the message says in which way."""


class Rows:
    """The voices' rows, through one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def ids(self) -> set[str]:
        """The ids of all voices of all owners."""
        return {row[0] for row in self._connection.execute("SELECT id FROM voices")}

    def all(self) -> list[VoiceInfo]:
        """All voices of all owners, the oldest first."""
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM voices ORDER BY rowid")  # noqa: S608 - see below
        return [VoiceInfo(*row) for row in rows]

    def get(self, voice_id: str) -> VoiceInfo | None:
        """The voice of this id, whoever owns it."""
        row = self._connection.execute(
            f"SELECT {_COLUMNS} FROM voices WHERE id = ?",  # noqa: S608 - see below
            (voice_id,),
        ).fetchone()
        return None if row is None else VoiceInfo(*row)

    def newest(self) -> int | None:
        """When the last voice was made, seconds since 1970; None: there is none."""
        found: int | None = self._connection.execute("SELECT max(created) FROM voices").fetchone()[0]
        return found

    def owned_by(self, owner: str) -> list[VoiceInfo]:
        """The owner's voices, the oldest first, whatever the clock did."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM voices WHERE owner = ? ORDER BY rowid",  # noqa: S608 - columns of this module
            (owner,),
        )
        return [VoiceInfo(*row) for row in rows]

    def find(self, voice: str, owner: str) -> VoiceInfo | None:
        """The owner's voice of this id or name; no name is an id."""
        # Python's text may hold lone surrogates, which no database takes, and no name has.
        wanted = normalized(voice.encode("utf-8", "replace").decode())
        row = self._connection.execute(
            f"SELECT {_COLUMNS} FROM voices WHERE owner = ? AND (id = ? OR name = ?)",  # noqa: S608 - as above
            (owner, wanted, wanted),
        ).fetchone()
        return None if row is None else VoiceInfo(*row)

    def usage(self, owner: str) -> tuple[int, int]:
        """How many voices the owner has, and the bytes of their audio."""
        count, size = self._connection.execute(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM voices WHERE owner = ?", (owner,)
        ).fetchone()
        return count, size

    def size(self) -> int:
        """Bytes of the audio of all owners."""
        size: int = self._connection.execute("SELECT coalesce(sum(bytes), 0) FROM voices").fetchone()[0]
        return size

    def insert(self, info: VoiceInfo) -> None:
        """Add a row; kept when ``commit`` has returned."""
        self._connection.execute(
            f"INSERT INTO voices ({_COLUMNS}) VALUES ({_VALUES})",  # noqa: S608 - as above
            asdict(info),
        )

    def delete(self, voice_id: str) -> None:
        """Take a row out; gone when ``commit`` has returned."""
        self._connection.execute("DELETE FROM voices WHERE id = ?", (voice_id,))

    def commit(self) -> None:
        """End the transaction: when this returns, it survives a crash. One that is never ended is undone."""
        self._connection.execute("COMMIT")


class Database:
    """The file. A connection of its own for each use: threads share nothing, and nothing stays open."""

    def __init__(self, file: Path, mode: int = PRIVATE.file) -> None:
        self.file = file
        self._mode = mode

    @property
    def is_there(self) -> bool:
        """Whether there is anything in it."""
        return self.file.is_file() and self.file.stat().st_size > 0

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """The rows as they are."""
        with self._connected() as connection:
            yield Rows(connection)

    @contextmanager
    def writing(self) -> Iterator[Rows]:
        """The rows, with the write lock, until the commit; without one, all is undone."""
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield Rows(connection)

    def open(self) -> None:
        """Make the table if there is nothing, and see that the file is ours and whole; one process at a time.

        Raises:
            DamagedDatabase: it is not; nothing was changed.
            StartError: it is from a newer version.
            sqlite3.Error: the disk, or a file that is no database.
        """
        new = not self.is_there
        with self._connected() as connection:
            if new:
                self.file.chmod(self._mode)  # SQLite gives its journal the same
                hand_over(self.file)
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            if version == 0 and not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                connection.execute(SCHEMA)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            elif application != APPLICATION:
                raise DamagedDatabase(f"{self.file.name} is a database, and not one of this service's voices")
            elif version != VERSION:
                raise StartError(
                    f"{self.file} has version {version}, and this service knows version {VERSION}",
                    remedy="start the version of the service that made it, or set WW_DATA_DIR to another folder",
                )
            connection.execute("COMMIT")
            faults = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
        if faults != ["ok"]:
            raise DamagedDatabase(f"{self.file.name}: {'; '.join(faults)}")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.file, timeout=LOCK_S, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = PERSIST")
            # What was answered for must survive a power cut.
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
