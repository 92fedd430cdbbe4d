"""What was deleted, outside of the database: an older database, put back, must not bring a deleted voice back with it.

One empty file for each deleted voice, named by its id, which is random and says nothing of anybody. They are kept for
ever, as backups are kept for nobody knows how long. A disk without room for one more file must let voices be deleted,
too: one spare is there, and takes the name.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from serve.ownership import hand_over
from serve.voices.folder import FULL, VOICE_ID
from serve.voices.samples import sync_folder

SPARE: Final = "spare"


class Tombstones:
    """The marks in one folder; each is there, and survives a crash, before anything of its voice goes.

    Args:
        folder: where they are.
        mode: of a file there.
    """

    def __init__(self, folder: Path, mode: int) -> None:
        self._folder = folder
        self._mode = mode

    def ids(self) -> set[str]:
        """The ids of all voices that were deleted."""
        if not self._folder.is_dir():
            return set()
        return {mark.name for mark in self._folder.iterdir() if VOICE_ID.fullmatch(mark.name)}

    def __contains__(self, voice_id: str) -> bool:
        """Whether a voice was deleted."""
        return os.path.lexists(self._folder / voice_id)

    def mark(self, voice_id: str) -> None:
        """Mark a voice as deleted.

        Raises:
            OSError: it cannot be marked, and is not.
        """
        try:
            self._make(voice_id)
        except OSError as error:
            if error.errno not in FULL or not (self._folder / SPARE).exists():
                raise
            (self._folder / SPARE).rename(self._folder / voice_id)
        sync_folder(self._folder)

    def withdraw(self, voice_id: str) -> None:
        """Take a mark back: its voice could not be deleted."""
        (self._folder / voice_id).unlink(missing_ok=True)
        self.keep_spare()
        sync_folder(self._folder)

    def keep_spare(self) -> None:
        """See that there is a spare, if there is room: after a voice's audio is removed, there is."""
        with suppress(OSError):
            self._make(SPARE)

    def _make(self, name: str) -> None:
        mark = self._folder / name
        with suppress(FileExistsError):
            handle = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._mode)
            os.fchmod(handle, self._mode)  # whatever the umask is
            os.close(handle)
            hand_over(mark)
