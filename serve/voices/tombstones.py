"""What was deleted, outside of the database: an older database, put back, must not bring a deleted voice back with it.

One empty file for each deleted voice, named by its id, which is random and says nothing of anybody. They are kept for
ever, as backups are kept for nobody knows how long.
"""

from __future__ import annotations

import os
from pathlib import Path

from serve.voices.folder import FULL, VOICE_ID
from serve.voices.samples import sync_folder


class Tombstones:
    """The marks in one folder; each is there, and survives a crash, before anything of its voice goes."""

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

    def mark(self, voice_id: str, audio: Path) -> None:
        """Mark a voice as deleted.

        Args:
            voice_id: of the voice.
            audio: its file. A disk without room for one more file has room for a second name of that one; ``settle``
                empties it.

        Raises:
            OSError: it cannot be marked, and is not.
        """
        mark = self._folder / voice_id
        try:
            os.close(os.open(mark, os.O_WRONLY | os.O_CREAT, self._mode))
        except OSError as error:
            if error.errno not in FULL or not audio.is_file():
                raise
            os.link(audio, mark)
        sync_folder(self._folder)

    def settle(self, voice_id: str) -> None:
        """Free what a mark may still hold, once its voice is gone."""
        mark = self._folder / voice_id
        if mark.stat().st_size:
            os.truncate(mark, 0)

    def withdraw(self, voice_id: str) -> None:
        """Take a mark back: its voice could not be deleted."""
        (self._folder / voice_id).unlink(missing_ok=True)
        sync_folder(self._folder)
