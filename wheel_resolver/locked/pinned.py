"""What the lock pins, asked by target: the common part of the verbs that read the lock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matrix import load_project
from matrix.errors import UsageError
from matrix.spec import perhaps
from wheel_resolver.lock import Lock, LockedTarget, LockedWheel, read
from wheel_resolver.locked.inputs import require_fresh
from wheel_resolver.places import Places


@dataclass(frozen=True, slots=True)
class Pinned:
    """A locked wheel, and the targets that run it."""

    wheel: LockedWheel
    targets: tuple[str, ...]


def fresh(where: Places, names: Sequence[str]) -> tuple[LockedTarget, ...]:
    """The locked targets of these names, all of them where none is named, as the matrix asks for them today.

    Raises:
        UsageError: a name is no target's.
        DataError: an entry was decided from something else.
    """
    project = load_project(where.matrix)
    found = named(read(where.lock), names)
    require_fresh(found, project, where.lock)
    return found


def named(lock: Lock, names: Sequence[str]) -> tuple[LockedTarget, ...]:
    """The locked targets of these names, all of them where none is named.

    Raises:
        UsageError: a name is no target's.
    """
    require_known(names, lock.targets)
    return tuple(target for name, target in lock.targets.items() if not names or name in names)


def require_known(names: Iterable[str], targets: Iterable[str]) -> None:
    """Refuse a name that is no target's.

    Raises:
        UsageError: it names the known ones.
    """
    known = list(targets)
    for name in names:
        if name not in known:
            raise UsageError(
                f"{name!r} is not a target{perhaps(name, known)}", remedy=f"known: {', '.join(known) or 'none'}"
            )


def pinned_wheels(targets: Iterable[LockedTarget]) -> tuple[Pinned, ...]:
    """The wheels of some targets, each once."""
    users: dict[str, list[str]] = {}
    wheels: dict[str, LockedWheel] = {}
    for target in targets:
        if target.wheel is not None:
            wheels.setdefault(target.wheel.sha256, target.wheel)
            users.setdefault(target.wheel.sha256, []).append(target.name)
    return tuple(Pinned(wheel, tuple(users[sha256])) for sha256, wheel in wheels.items())


def without_wheel(target: LockedTarget) -> str:
    """Why a target has no wheel, in a sentence."""
    if target.source_build is not None:
        build = target.source_build
        return (
            f"{target.name}: no wheel: {build.sdist} is compiled; the image's build takes it from the package index "
            f"that pip is set to, by its sha256 {build.sha256}"
        )
    return f"{target.name}: {target.attention}, no wheel: {target.reason}"
