"""Before a locked wheel goes into an image: is the file what its name, its recipe and the lock say?"""

from __future__ import annotations

import shlex
from pathlib import Path

from matrix import Project
from matrix.errors import DataError
from wheel_resolver.core.facts import Facts
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.inside.inspection import against_lock, against_recipe, inspect
from wheel_resolver.locked.entries import LockedWheel


def require_as_locked(path: Path, locked: LockedWheel, project: Project, target: str, *, root: Path | None) -> None:
    """Look into a fetched wheel, and stop on what contradicts its name, its recipe or the lock. Writes no lock.

    Args:
        path: the file in the cache; its sha256 was checked.
        target: whose wheel it is.
        root: the folder with the lock, where it is not this checkout.

    Raises:
        DataError: names what is said and what was found, and the command that records it.
    """
    name = WheelName.parse(locked.name)
    if name is None:
        return
    wheel = Wheel(name, locked.name, locked.url, locked.sha256, locked.size, locked.tag, locked.provider, None)
    seen = inspect(path, locked.sha256)
    against = against_recipe(seen, wheel, Facts(project.compat, project.known_broken)) or against_lock(seen, locked)
    if against is None:
        return
    words = ["python", "-m", "wheel_resolver", "lock", "--inspect", *(("--root", str(root)) if root else ())]
    raise DataError(
        f"{locked.name}, locked for {target}, is not what it says: {against}",
        remedy=f"record it, and lock another wheel where there is one: {shlex.join(words)}",
    )
