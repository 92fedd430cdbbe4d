"""Whether the disk has room for a build, by the target's budget: looked at before, and not when 7 GB have come."""

from __future__ import annotations

from collections.abc import Iterable

from docker.models.images import Image

from images.engine import Engine
from matrix import Budget
from matrix.errors import WheelwrightError

_MB = 1_000_000


def look_for_room(engine: Engine, budget: Budget | None, of_its_stack: Iterable[Image]) -> str | None:
    """What to tell of the room for a build; None where there is enough, or nothing is known.

    A build puts an image's layers down packed and unpacked. Where the engine has an image of the same stack, most of
    them are there, and what it adds is counted.

    Args:
        engine: whose disk it is.
        budget: the target's.
        of_its_stack: images that share its layers.

    Raises:
        WheelwrightError: there is surely not enough.
    """
    free = engine.free_bytes
    if free is None or budget is None:
        return None
    whole = (budget.compressed_mb + budget.unpacked_mb) * _MB
    shared = any(True for _ in of_its_stack)
    least = (budget.extra_mb or 0) * _MB if shared else budget.compressed_mb * _MB
    needed = f"{whole / 1e9:.1f} GB for its layers, packed and unpacked" if not shared else f"{least / 1e9:.1f} GB more"
    what = f"{free / 1e9:.1f} GB are free in {engine.root}, and the image needs about {needed}"
    if free < least:
        raise WheelwrightError(what, remedy="make room: docker builder prune, docker image prune, or a larger disk")
    return what if free < whole and not shared else None
