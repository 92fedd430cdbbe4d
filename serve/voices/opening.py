"""How a store is opened: it is checked, and what a crash or a database from another day left is put right.

Nothing that could be somebody's voice is removed, unless its owner deleted it: audio that the database does not know
goes into quarantine. A file that was never finished was never promised to anybody.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serve.errors import SettingsError, StartError
from serve.ownership import refusal
from serve.voices.database import DamagedDatabase, Rows
from serve.voices.folder import DATABASE, FILE, SAMPLES, Folder
from serve.voices.samples import finish, is_partial, sync_folder
from serve.voices.shelf import Shelf

log = logging.getLogger(__name__)


def open_shelf(root: Path, days: int, *, without_database: bool = False) -> Shelf:
    """Open a store.

    Args:
        root: its folder; made if it is not there.
        days: how long the quarantine keeps a file.
        without_database: begin a new database where there is audio and none; all of it goes into quarantine.

    Raises:
        SettingsError: the folder cannot be written.
        StartError: what is in it is damaged or from a newer version; nothing was changed.
    """
    with _told(root):
        folder = Folder(root)
        folder.make()
        shelf = Shelf(folder, days)
        with folder.alone():
            if not without_database:
                _refuse_loss(shelf)
            shelf.database.open()
            _Sweep(shelf).run()
    return shelf


def open_as_it_is(root: Path, days: int) -> Shelf:
    """Open a store that is there, and put nothing right; for who wants to look at it.

    Raises:
        SettingsError: there is none.
        StartError: as of ``open_shelf``.
    """
    if not (root / DATABASE).is_file():
        raise SettingsError(f"there are no voices in {root}", remedy="set WW_DATA_DIR to the folder of the voices")
    with _told(root):
        shelf = Shelf(Folder(root), days)
        shelf.database.open()
    return shelf


@contextmanager
def _told(root: Path) -> Iterator[None]:
    """Turn what a disk or a database may do into what is told to an operator."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        what = f"WW_DATA_DIR={str(root)!r} cannot be: {getattr(error, 'strerror', None) or error}"
        raise SettingsError(what, remedy="set it to a local folder that this user can write") from error
    except DamagedDatabase as error:
        raise _damaged(root, str(error)) from error
    except sqlite3.Error as error:
        raise _damaged(root, f"{DATABASE}: {error}") from error


def _damaged(root: Path, what: str) -> StartError:
    return StartError(
        f"the store of voices in {root} is damaged: {what}; nothing was changed",
        remedy=f"put {DATABASE} back from a copy; or move it away alone (all of its files), and `python -m serve voices"
        f" restore BACKUP`, which keeps the audio that is there; or move {root} away as a whole to begin with an empty"
        " store",
    )


def _refuse_loss(shelf: Shelf) -> None:
    if not shelf.database.is_there and shelf.folder.has_audio():
        raise DamagedDatabase(f"there is audio in {SAMPLES}/, and {DATABASE}, which says whose it is, is gone")


@dataclass(frozen=True, slots=True)
class _Found:
    """A file of audio: whose, whether it was never finished, and where."""

    id: str
    unfinished: bool
    file: Path


class _Sweep:
    """One look at all files, with the write lock: nobody is in the middle of anything."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._folder = shelf.folder

    def run(self) -> None:
        shelf = self._shelf
        with shelf.database.writing() as rows:
            known, dead = rows.ids(), shelf.tombstones.ids()
            shelf.tombstones.keep_spare()
            self._bury(rows, known & dead, dead)
            known -= dead
            back = self._bring_back(known)
            found = self._found()
            whole = {audio.id for audio in found if not audio.unfinished}
            self._finish(known, whole, found)
            self._part_with(rows, [audio for audio in found if not audio.unfinished and audio.id not in known])
            shelf.quarantine.look()
            rows.commit()
        if back:
            log.warning("the audio of %s voices was in quarantine, and is theirs again: the database knows them", back)
        for voice in sorted(known - {audio.id for audio in found}):
            log.warning("the audio of %s is missing in %s", voice, self._folder.samples)
        self._tell_strangers(found)

    def _found(self) -> list[_Found]:
        with os.scandir(self._folder.samples) as entries:
            return [
                _Found(match[1], bool(match[2]), Path(entry.path))
                for entry in entries
                if (match := FILE.fullmatch(entry.name)) and entry.is_file()
            ]

    def _bury(self, rows: Rows, listed: set[str], dead: set[str]) -> None:
        """Go on with what was being deleted, and with what an older database brought back."""
        held = {audio.id for audio in self._found()} | {audio.id for audio in self._shelf.quarantine.held()}
        for voice in dead & (held | listed):
            self._shelf.bury(voice)
        for voice in listed:
            rows.delete(voice)
        if listed:
            what = "%s voices that were deleted are in %s, which is older or was being changed: they stay deleted"
            log.warning(what, len(listed), self._folder.database)
        elif dead & held:
            log.info("%s files of voices that were deleted are removed", len(dead & held))

    def _bring_back(self, known: set[str]) -> int:
        """Give voices that are known again the audio that was kept for them."""
        back = [
            audio.id
            for audio in self._shelf.quarantine.held()
            if audio.id in known and not self._folder.audio(audio.id).exists()
        ]
        for voice in back:
            self._shelf.quarantine.give(voice)
        return len(back)

    def _finish(self, known: set[str], whole: set[str], found: list[_Found]) -> None:
        """Name what was written and is known; remove what nobody was told is kept."""
        removed = 0
        for audio in found:
            if audio.unfinished and audio.id in known - whole:
                finish(self._folder.audio(audio.id))
            elif audio.unfinished or (audio.id not in known and _is_partial(audio.file)):
                audio.file.unlink(missing_ok=True)
                removed += 1
        if removed:
            sync_folder(self._folder.samples)
            log.info("%s files of voices whose making was cut off are removed", removed)

    def _part_with(self, rows: Rows, unknown: list[_Found]) -> None:
        """Put what the database does not know into quarantine, and say what that means."""
        quarantine, newest, strangers, last = self._shelf.quarantine, 0.0, 0, rows.newest()
        for file in (audio.file for audio in unknown if audio.file.exists()):
            made_at = file.stat().st_mtime
            if quarantine.take(file):
                newest, strangers = max(newest, made_at), strangers + 1
                log.info("%s is in quarantine", file.stem)
        if not strangers:
            return
        sync_folder(quarantine.path)
        sync_folder(self._folder.samples)
        made = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(newest))
        if last is None:
            why = "the database is older than they are, for it holds no voice at all"
        elif last < newest:
            ended = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(last))
            why = f"the database is older than they are: its last voice was made at {ended} UTC"
        else:
            why = "it may be another store's"
        log.warning(
            "%s does not know the audio of %s voices in %s, the newest of %s UTC: %s. Nothing is lost: it is in %s, and"
            " is kept for %s days (WW_QUARANTINE_DAYS). To have the voices back: stop the service, put the right"
            " database back and start it; or `python -m serve voices restore BACKUP`, or `... adopt`",
            DATABASE, strangers, self._folder.samples, made, why, quarantine.path, quarantine.days,
        )  # fmt: skip

    def _tell_strangers(self, found: list[_Found]) -> None:
        """Say which audio another user wrote, so that this one cannot read it."""
        told = [
            (audio.id, why)
            for audio in found
            if not audio.unfinished and not os.access(audio.file, os.R_OK) and (why := refusal(audio.file))
        ]
        if told:
            log.warning("the audio of %s voices cannot be read; of %s, because %s", len(told), *told[0])


def _is_partial(file: Path) -> bool:
    try:
        return is_partial(file)
    except PermissionError:  # what cannot be looked at is not removed
        return False
