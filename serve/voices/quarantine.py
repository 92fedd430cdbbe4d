"""Audio that the database does not know: kept apart, until an operator decides or its time is over.

An empty ``.since`` file records when audio came: only its owner may change the time of the audio itself. A clock
that is wrong once must cost nothing, so a file whose time seems to be over is only marked then (``.due``), and is
removed a day later, if its time still seems to be over.
"""

from __future__ import annotations

import errno
import filecmp
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serve.voices.folder import FILE, FULL, Folder
from serve.voices.samples import sync_folder

log = logging.getLogger(__name__)

SINCE: Final = ".since"
DUE: Final = ".due"
DAY_S: Final = 86_400.0
LOOK_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Held:
    """A file in quarantine.

    Attributes:
        id: of its voice.
        file: where it is.
        bytes: its size.
        since: seconds since 1970, when it was put there.
    """

    id: str
    file: Path
    bytes: int
    since: float


class Quarantine:
    """The quarantine of one store. Whoever changes it has the write lock of the database.

    Args:
        folder: of the store.
        days: how long a file is kept.
    """

    def __init__(self, folder: Folder, days: int) -> None:
        self.path = folder.quarantine
        self.days = days
        self._folder = folder
        self._looked = time.monotonic()

    def held(self) -> list[Held]:
        """What is there, the oldest first."""
        if not self.path.is_dir():
            return []
        found = []
        with os.scandir(self.path) as entries:
            for entry in entries:
                match = FILE.fullmatch(entry.name)
                if match and not match[2] and entry.is_file(follow_symlinks=False):
                    size = entry.stat(follow_symlinks=False).st_size
                    found.append(Held(match[1], Path(entry.path), size, self._since(match[1])))
        return sorted(found, key=lambda held: (held.since, held.id))

    def size(self) -> tuple[int, int]:
        """How many files are there, and their bytes."""
        held = self.held()
        return len(held), sum(file.bytes for file in held)

    def find(self, voice_id: str) -> Path:
        """Where the audio of a voice is, if it is here."""
        return self.path / f"{voice_id}.safetensors"

    def take(self, file: Path) -> bool:
        """Put a file here, from now on; False: one of this voice is here that differs, and both stay where they are."""
        here = self.path / file.name
        if here.exists():
            if not filecmp.cmp(file, here, shallow=False):
                log.warning("%s and %s are not the same: adopt or discard the latter, or move one away", file, here)
                return False
            file.unlink()
            return True
        self._begin(file.stem)
        file.rename(here)
        return True

    def give(self, voice_id: str) -> None:
        """Give the audio of a voice back to the others.

        Raises:
            FileExistsError: there is audio of this voice already.
        """
        file = self._folder.audio(voice_id)
        if file.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file))
        self.find(voice_id).rename(file)
        self._forget(voice_id)
        sync_folder(self._folder.samples)
        sync_folder(self.path)

    def drop(self, voice_id: str) -> None:
        """Remove the audio of a voice."""
        self.find(voice_id).unlink(missing_ok=True)
        self._forget(voice_id)

    @property
    def is_due(self) -> bool:
        """Whether it is time for another look."""
        return time.monotonic() - self._looked >= LOOK_S

    def look(self) -> None:
        """Remove what was kept for its time; mark what seems to have been, and say so."""
        self._looked = time.monotonic()
        now, marked, removed = time.time(), [], []
        for held in self.held():
            mark = self.path / f"{held.id}{DUE}"
            if not (self.path / f"{held.id}{SINCE}").exists():
                self._begin(held.id)  # put there by hand
            elif now - held.since < self.days * DAY_S:
                mark.unlink(missing_ok=True)
            elif not mark.exists() or mark.stat().st_mtime > now:
                _stamp(mark, now)
                marked.append(held.id)
            elif now - mark.stat().st_mtime >= DAY_S:
                self.drop(held.id)
                removed.append(held.id)
        if marked:
            what = "%s files in %s were kept for WW_QUARANTINE_DAYS=%s, and are removed in a day: %s"
            log.warning(what, len(marked), self.path, self.days, ", ".join(marked))
        if removed:
            log.warning("%s files in %s were kept for their time, and are removed", len(removed), self.path)

    def _since(self, voice_id: str) -> float:
        try:
            return (self.path / f"{voice_id}{SINCE}").stat().st_mtime
        except FileNotFoundError:
            return time.time()

    def _begin(self, voice_id: str) -> None:
        # A clock that is behind the last write is wrong, and would make the file look old when it is right again.
        now = max(time.time(), self._folder.database.stat().st_mtime)
        try:
            _stamp(self.path / f"{voice_id}{SINCE}", now)
        except OSError as error:
            if error.errno not in FULL:
                raise  # on a full disk, its time begins with the first look that has room for this

    def _forget(self, voice_id: str) -> None:
        for ending in (SINCE, DUE):
            (self.path / f"{voice_id}{ending}").unlink(missing_ok=True)


def _stamp(file: Path, when: float) -> None:
    """An empty file of this time; made anew, as only its owner may set the time of one that is there."""
    file.unlink(missing_ok=True)
    file.touch(0o600)
    os.utime(file, (when, when))
