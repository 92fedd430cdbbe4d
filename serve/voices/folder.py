"""Where a store of voices has what: the names in its folder."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from serve.errors import SettingsError
from serve.ownership import Modes, let_in, make_folder, modes_below, refusal

log = logging.getLogger(__name__)
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
DATABASE: Final = "voices.sqlite"
SAMPLES: Final = "voices"
DELETED: Final = "deleted"
QUARANTINE: Final = "quarantine"
UNFINISHED: Final = ".part"
VOICE_ID: Final = re.compile(r"voice_[0-9a-f]{24}")
FILE: Final = re.compile(rf"({VOICE_ID.pattern})\.safetensors({re.escape(UNFINISHED)})?")


class Folder:
    """The paths of one store.

    Args:
        root: ``WW_DATA_DIR``; made if it is not there.

    Raises:
        OSError: it cannot be made.
        SettingsError: another user wrote it, and this one may not use it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = root / DATABASE
        self.samples = root / SAMPLES
        self.deleted = root / DELETED
        self.quarantine = root / QUARANTINE
        root.mkdir(0o700, parents=True, exist_ok=True)
        for path in (root, self.database, Path(f"{self.database}-journal"), *self._folders):
            self.refuse(path)
        self.modes: Modes = modes_below(root)

    @property
    def _folders(self) -> tuple[Path, ...]:
        return self.samples, self.deleted, self.quarantine

    def make(self) -> None:
        """Make the folders within, those for what may come later, too: a full disk has no room for them then."""
        make_folder(self.samples, self.modes)
        for folder in (self.deleted, self.quarantine):
            try:
                make_folder(folder, self.modes)
            except OSError as error:  # a store from before there were these is not kept from speaking
                if error.errno not in FULL:
                    raise
                log.warning("the disk is full: %s cannot be made, and no voice be deleted until it can", folder)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one process at a time open the store: of two that make the table, one would fail."""
        handle = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def audio(self, voice_id: str) -> Path:
        """The audio of a voice."""
        return self.samples / f"{voice_id}.safetensors"

    def has_audio(self) -> bool:
        """Whether there is audio of any voice."""
        return self.samples.is_dir() and any(FILE.fullmatch(file.name) for file in self.samples.iterdir())

    def refuse(self, path: Path) -> None:
        """Say so where another user wrote a file or folder, and this process may not use it.

        Raises:
            SettingsError: it is so.
        """
        if (why := refusal(path)) is not None:
            raise SettingsError(why, remedy=let_in(self.root))


def unfinished(file: Path) -> Path:
    """What a file is named until the database knows its voice."""
    return file.with_name(file.name + UNFINISHED)
