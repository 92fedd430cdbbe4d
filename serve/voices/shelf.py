"""One store's folder, database, tombstones and quarantine, and how a voice gets in and out: a crash harms neither.

In: the audio is written under an unfinished name, then the row, then the audio gets its name. An unfinished file is a
voice's if there is a row, and nobody's if there is none: a crash leaves nothing in between.

Out: the tombstone is written, then the row goes, then the audio. A crash after the first step is a voice that the next
start goes on deleting, whatever database it finds.

Each step is taken with the database's write lock, so that several processes of one host can share a folder. (Not over a
network file system, whose locks cannot be relied on.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress

from serve.voices.database import Database, Rows
from serve.voices.folder import Folder, unfinished
from serve.voices.quarantine import Quarantine
from serve.voices.records import VoiceInfo
from serve.voices.samples import finish, remove, write_samples
from serve.voices.tombstones import Tombstones


class Shelf:
    """The parts of one store, opened by ``opening.open_shelf``. Any thread may call any method.

    Args:
        folder: of the store.
        days: how long the quarantine keeps a file.
    """

    def __init__(self, folder: Folder, days: int) -> None:
        self.folder = folder
        self.database = Database(folder.database, folder.modes.file)
        self.tombstones = Tombstones(folder.deleted, folder.modes.file)
        self.quarantine = Quarantine(folder, days)

    def put(self, info: VoiceInfo, content: bytes, check: Callable[[Rows], None]) -> None:
        """Keep a voice. When this returns, it survives a crash.

        Args:
            info: of the voice.
            content: of its file.
            check: raises where it may not be kept; called with the write lock.

        Raises:
            OSError: the disk; nothing is kept.
            sqlite3.Error: the database; nothing is kept, unless a commit that failed is found done.
        """
        file = self.folder.audio(info.id)
        try:
            with self.database.writing() as rows:
                if self.quarantine.is_due:
                    self.quarantine.look()
                check(rows)
                unfinished(file).unlink(missing_ok=True)  # of a restore that was killed
                write_samples(file, content, self.folder.modes.file)
                rows.insert(info)
                rows.commit()
        except (OSError, sqlite3.Error):
            self._drop_orphan(info.id)
            raise
        finish(file)

    def mend(self, info: VoiceInfo, content: bytes) -> None:
        """Write the audio of a voice that has a row once more; called with the write lock."""
        file = self.folder.audio(info.id)
        unfinished(file).unlink(missing_ok=True)
        write_samples(file, content, self.folder.modes.file)
        finish(file)

    def forget(self, find: Callable[[Rows], VoiceInfo]) -> VoiceInfo:
        """Delete a voice, its audio too, for good: no older database brings it back.

        Args:
            find: finds it, or raises; called with the write lock.

        Raises:
            OSError: the disk; the voice stays.
            sqlite3.Error: the database; the voice stays, unless the database cannot even be asked whether it has it:
                then the next start deletes it.
        """
        found = None
        try:
            with self.database.writing() as rows:
                found = find(rows)
                self.tombstones.mark(found.id)
                rows.delete(found.id)
                rows.commit()
        except (OSError, sqlite3.Error):
            if found is not None:
                self._keep_after_all(found.id)
            raise
        self.bury(found.id)
        return found

    def adopt(self, info: VoiceInfo, check: Callable[[Rows], None]) -> None:
        """Make audio in quarantine a voice again.

        Args:
            info: of the voice.
            check: as for ``put``.

        Raises:
            OSError: as of ``put``; the audio is in quarantine, or is put there by the next start.
            sqlite3.Error: likewise.
        """
        with self.database.writing() as rows:
            check(rows)
            # The audio first: a crash leaves audio without a row, which goes back to the quarantine.
            self.quarantine.give(info.id)
            try:
                rows.insert(info)
                rows.commit()
            except BaseException:
                self.quarantine.take(self.folder.audio(info.id))
                raise

    def discard(self, voice_id: str) -> None:
        """Delete audio that is in quarantine, for good."""
        with self.database.writing():
            self.tombstones.mark(voice_id)
            self.bury(voice_id)

    def bury(self, voice_id: str) -> None:
        """Remove the audio of a voice that is marked as deleted, wherever it is."""
        remove(self.folder.audio(voice_id))
        self.quarantine.drop(voice_id)
        self.tombstones.keep_spare()

    def _keep_after_all(self, voice_id: str) -> None:
        """Take the tombstone of a voice back whose row could not be deleted."""
        with suppress(OSError, sqlite3.Error), self.database.writing() as rows:
            if rows.get(voice_id) is not None:
                self.tombstones.withdraw(voice_id)

    def _drop_orphan(self, voice_id: str) -> None:
        """Remove the file of a voice whose row could not be written: on a full disk it would take what is left.

        A commit that failed may yet be found done: the database is asked. If it does not answer, the next start sweeps.
        """
        file = self.folder.audio(voice_id)
        with suppress(OSError, sqlite3.Error):
            if unfinished(file).exists():
                with self.database.writing() as rows:
                    known = rows.get(voice_id) is not None
                    if not known:
                        unfinished(file).unlink(missing_ok=True)
                if known:
                    finish(file)
