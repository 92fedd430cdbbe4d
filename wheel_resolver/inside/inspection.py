"""Look into a wheel before it is used, once for each sha256: what it is, and what that contradicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from matrix.errors import DataError
from matrix.shown import some
from wheel_resolver.core.build import Evidence, judged
from wheel_resolver.core.facts import Facts, Inspection
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.fetching.fetch import cached
from wheel_resolver.inside.records import read_record, write_record
from wheel_resolver.inside.verifying import contradictions
from wheel_resolver.inside.wheel_inside import Inside, look_inside
from wheel_resolver.locked.entries import LockedWheel


def inspect(path: Path, sha256: str) -> Inspection:
    """What is inside a wheel whose sha256 was checked; it is opened once, and the record answers from then on.

    What the file contradicts of its own name is the ``refusal``. A record that cannot be kept costs the next one time.
    """
    if (known := read_record(path, sha256)) is not None:
        return known
    try:
        seen = _of(look_inside(path))
    except DataError as error:
        seen = Inspection(refusal=error.what.removeprefix(f"{path}: "))
    write_record(path, sha256, seen)
    return seen


def remember_loading(name: str, sha256: str, where: str) -> None:
    """Keep, next to a wheel of the cache, that it was imported; ``where``: ``Python 3.12, torch 2.9.1, CUDA 12.8``."""
    if (path := cached(sha256, name)) is not None:
        write_record(path, sha256, replace(inspect(path, sha256), loaded=where))


def _of(inside: Inside) -> Inspection:
    against = [*inside.faults, *inside.dangers, *map(str, contradictions(inside))]
    return Inspection(
        abi=inside.abi[0] if len(inside.abi) == 1 else None,
        glibc=inside.glibc,
        cuda=inside.cuda[0] if len(inside.cuda) == 1 else None,
        sass=inside.sass.archs,
        compressed=None if inside.sass.archs is None else inside.sass.compressed,
        refusal=some(against, "; ") or None,  # a lock keeps it
    )


def at_hand(wheel: Wheel) -> Inspection | None:
    """What is inside a wheel whose bytes are in the cache; None where they are not."""
    if wheel.sha256 is None or (path := cached(wheel.sha256, wheel.filename)) is None:
        return None
    return inspect(path, wheel.sha256)


def against_recipe(seen: Inspection, wheel: Wheel, facts: Facts) -> str | None:
    """What a wheel's bytes contradict: their own name, or the recipe that is said to have built it."""
    if seen.refusal is not None:
        return seen.refusal
    build = judged(wheel, replace(facts, inspected={})).build
    if seen.abi is not None and build.abi is not None and seen.abi is not build.abi:
        return f"abi: by what is known of its build it is {build.abi}, and the file calls torch with {seen.abi}"
    if build.evidence is not Evidence.RECIPE:  # the rest was inferred, and what was seen stands in its place
        return None
    if seen.glibc is not None and build.glibc is not None and seen.glibc > build.glibc:
        return f"glibc: its build recipe says {build.glibc} at most, and the file needs {seen.glibc}"
    if seen.sass is not None and build.code is not None and not set(build.code.sass) <= set(seen.sass):
        lacking = ", ".join(str(arch) for arch in build.code.sass if arch not in seen.sass)
        return f"GPU code: its build recipe says that it holds {lacking}, the file does not"
    return None


def against_lock(seen: Inspection, locked: LockedWheel) -> str | None:
    """What a wheel's bytes contradict of its locked entry."""
    if seen.sass is not None and tuple(locked.sass) != seen.sass:
        held, said = (", ".join(map(str, archs)) for archs in (seen.sass, locked.sass))
        return f"GPU code: the lock says {said}, the file holds {held}"
    known = locked.inspection
    for what in ("abi", "glibc", "cuda") if known is not None else ():
        said, found = getattr(known, what), getattr(seen, what)
        if None not in {said, found} and said != found:
            return f"{what}: the lock says {said}, the file {found}"
    return None
