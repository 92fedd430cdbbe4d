"""Whose a file is, and who else may use it: a service runs as one user, or as any of a group, as in OpenShift."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Modes:
    """What is made below a folder: the mode of a file, and that of a folder."""

    file: int
    folder: int


PRIVATE: Final = Modes(0o600, 0o700)
SHARED: Final = Modes(0o660, 0o2770)
_GROUPS_OWN: Final = stat.S_ISGID | stat.S_IWGRP


def modes_below(folder: Path) -> Modes:
    """The group's, too, where a folder is given to its group (2770, as an image makes it), else this user's alone."""
    return SHARED if folder.stat().st_mode & _GROUPS_OWN == _GROUPS_OWN else PRIVATE


def make_folder(folder: Path, modes: Modes) -> None:
    """Make a folder, if it is not there; called before there are other threads.

    The mode is not set afterwards: ``chmod`` of a folder of a group that this process is not in takes the group's bit
    away, while ``mkdir`` inherits it.
    """
    before = os.umask(0)
    try:
        folder.mkdir(modes.folder & 0o777)
        hand_over(folder)
    except FileExistsError:
        pass
    finally:
        os.umask(before)


def hand_over(path: Path) -> None:
    """Give what root has made to whom the folder belongs: the service, which is not root, must be able to use it."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def refusal(path: Path) -> str | None:
    """That another user wrote a file or folder, if that is why this process may not read and write it; else None."""
    try:
        found = path.stat()
    except (PermissionError, FileNotFoundError):  # what may not be looked at, or made, is its folder's matter
        return refusal(path.parent) if path.parent != path else None
    except OSError:
        return None
    need = os.R_OK | os.W_OK | (os.X_OK if stat.S_ISDIR(found.st_mode) else 0)
    read_only = os.statvfs(path).f_flag & os.ST_RDONLY
    if found.st_uid == os.geteuid() or read_only or os.access(path, need):
        return None
    groups = ", ".join(str(group) for group in sorted({os.getegid(), *os.getgroups()}))
    return (
        f"{path} was written by uid {found.st_uid} (group {found.st_gid}, mode {stat.S_IMODE(found.st_mode):o}),"
        f" and this process is uid {os.geteuid()} (groups {groups}), which may not read and write it"
    )


def let_in(folder: Path) -> str:
    """The remedy where `refusal` says something."""
    commands = f"chgrp -R 0 {folder}; chmod -R g+rwX {folder}; chmod g+s {folder}"
    return f"run as that user; or, as that user or root: {commands}; and run with group 0"
