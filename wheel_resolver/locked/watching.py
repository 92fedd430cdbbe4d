"""Compare upstream with what is committed, the lock and the snapshot, and say what changed for us. Pure.

    listings        one name, two digests                           against each other
    locked wheels   vanished, another digest or place, superseded   against lock.yaml
    targets         a better wheel; can move to flash_attention_2   against lock.yaml, and the snapshot
    cells           can move, fall back, get a newer flash-attn     against the snapshot

The snapshot is the memory of what was known when somebody last looked: a target that runs sdpa by choice, with a wheel
that was known then, is no news. A new snapshot and a new lock, committed, make the next run silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from matrix import Cell, Project, Target
from matrix.compat import minor_of
from matrix.errors import DataError
from matrix.expand import expand
from wheel_resolver.asking.cells_text import where
from wheel_resolver.core.facts import Facts, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.resolve import FLASH_ATTENTION, Match, Resolution, resolve
from wheel_resolver.core.wheel import Release, Wheel
from wheel_resolver.lock import Lock, LockedTarget, LockedWheel
from wheel_resolver.locked.choosing import Tools
from wheel_resolver.locked.locking import make_lock
from wheel_resolver.locked.pinned import pinned_wheels
from wheel_resolver.upstream.catalogue import Catalogue

#: Each kind of change, and whether somebody should act on it.
KINDS = {
    "conflict": True,
    "digest": True,
    "vanished": True,
    "replaced": True,
    "unfit": True,
    "superseded": False,
    "better": True,
    "movable": True,
    "fallback": True,
    "unreached": True,
    "place": False,
    "newer": False,
    "uploads": False,
}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was. ``subject``: a target, a torch, or a wheel; ``command``: what to do next."""

    kind: str
    subject: str
    text: str
    command: str | None = None
    cells: tuple[Cell, ...] = ()

    @property
    def attention(self) -> bool:
        """Whether somebody should act on it."""
        return KINDS[self.kind]


def compare(project: Project, lock: Lock, before: Catalogue, now: Catalogue) -> tuple[Change, ...]:
    """What changed for us between ``lock`` with the catalogue ``before``, and the catalogue ``now``."""
    official = project.compat.flash_attn.repository
    others = tuple(wheel for wheel in now.wheels if wheel.provider != official)
    before = replace(before, wheels=(*before.wheels, *others))  # the snapshot remembers the official releases only
    changes = [*_locked(lock, now)]
    for name, target in project.matrix.targets.items():
        if (locked := lock.targets.get(name)) is not None:
            changes += _target(target, locked, project, before, now)
    changes += _cells(project, before, now)
    changes += _uploads(before, now)
    order = list(KINDS)
    return tuple(sorted(changes, key=lambda change: order.index(change.kind)))


def settle(
    releases: Iterable[Release], lock: Lock, before: Catalogue
) -> tuple[tuple[Release, ...], tuple[Change, ...]]:
    """Leave of each name that is listed with two digests the known one, so that the rest can be compared.

    Known is what the lock has, else the catalogue ``before``; a new name that is disputed is left out.
    """
    releases = tuple(releases)
    tags: dict[str, dict[str, str]] = {}  # name: digest: the first tag that has it
    for release in releases:
        for asset in release.assets:
            if asset.sha256 is not None and WheelName.parse(asset.name) is not None:
                tags.setdefault(asset.name, {}).setdefault(asset.sha256, release.tag)
    disputed = {name: digests for name, digests in tags.items() if len(digests) > 1}
    pins = {pin.wheel.name: pin for pin in pinned_wheels(lock.targets.values())}
    known = {**_digests(before), **{name: pin.wheel.sha256 for name, pin in pins.items()}}
    taken = {
        name: known[name] if known[name] in digests else next(iter(digests))
        for name, digests in disputed.items()
        if name in known
    }
    changes = []
    for name, digests in disputed.items():
        listed = ", ".join(f"{sha256} on tag {tag}" for sha256, tag in digests.items())
        text = f"{name} has {len(digests)} digests: {listed}; use none before the maintainers explain it"
        changes.append(Change("conflict", ", ".join(pins[name].targets) if name in pins else name, text))
    kept = tuple(
        replace(
            release,
            assets=tuple(
                asset
                for asset in release.assets
                if asset.name not in disputed or asset.sha256 == taken.get(asset.name, "none of them")
            ),
        )
        for release in releases
    )
    return kept, tuple(changes)


def _locked(lock: Lock, now: Catalogue) -> Iterator[Change]:
    """Does each locked asset still stand upstream as it was locked?"""
    unreached = {provider.name for provider in now.providers if provider.source == "none"}
    listed = {(wheel.provider, wheel.filename): wheel for wheel in now.wheels}
    older = {(each.old.provider, each.old.filename, each.old.sha256): each for each in now.superseded}
    for pin in pinned_wheels(lock.targets.values()):
        users, wheel = ", ".join(pin.targets), pin.wheel
        found = listed.get((wheel.provider, wheel.name))
        upgrade = f"python -m wheel_resolver lock --upgrade {' '.join(pin.targets)}"
        if found is None and wheel.provider in unreached:
            yield Change("unreached", users, f"{wheel.provider} could not be listed: {wheel.name} was not compared")
        elif found is None:
            yield Change("vanished", users, f"the locked asset {wheel.name} vanished from {wheel.provider}", upgrade)
        elif (known := older.get((wheel.provider, wheel.name, wheel.sha256))) is not None:
            yield Change("superseded", users, f"{wheel.name}: {known.detail}", upgrade)
        elif found.sha256 is not None and found.sha256 != wheel.sha256:
            text = f"the digest of {wheel.name} changed: {found.sha256} upstream, {wheel.sha256} in the lock"
            yield Change("digest", users, f"{text}; ask the maintainers before you lock it again")
        elif found.sha256 is None and _touched(found, wheel):
            yield Change("replaced", users, f"{wheel.name} was uploaded again, without a digest", upgrade)
        elif found.url != wheel.url:
            yield Change("place", users, f"{wheel.name} is listed at {found.url} now, with the same digest")


def _touched(found: Wheel, locked: LockedWheel) -> bool:
    """Whether size or date, where both are known, differ."""
    pairs = ((found.size, locked.size), (found.updated_at, locked.updated_at))
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def _target(
    target: Target, locked: LockedTarget, project: Project, before: Catalogue, now: Catalogue
) -> Iterator[Change]:
    best = _best(target, project, now)
    name = target.name
    if locked.wheel is not None:
        if isinstance(best, DataError):
            yield Change("unfit", name, f"no wheel that is listed now can be locked for {name}: {best.what}")
        elif best.name != locked.wheel.name:
            text = f"a better wheel for {name}: {best.name} ({_why(best, locked.wheel)})"
            yield Change("better", name, text, f"python -m wheel_resolver lock --upgrade {name}")
    elif not isinstance(best, DataError) and isinstance(_best(target, project, before), DataError):
        how = "being compiled" if locked.source_build else locked.attention
        text = f"target {name} can move from {how} to flash_attention_2 with a wheel: {best.name}"
        yield Change("movable", name, text, "set its attention (or source_build) in matrix.yaml, then make lock")


def _best(target: Target, project: Project, catalogue: Catalogue) -> LockedWheel | DataError:
    """The wheel with a published digest that ``lock`` would choose if the target asked for one; else why there is
    none."""
    asking = replace(target, source_build=False, attention=replace(target.attention, value=FLASH_ATTENTION))
    alone = replace(project, matrix=replace(project.matrix, targets={target.name: asking}))
    try:
        made = make_lock(alone, None, Tools(lambda: catalogue, None, lambda _: None), upgrade=True)
    except DataError as error:
        return error
    wheel = made.targets[target.name].wheel
    return DataError(f"{target.name} needs no wheel") if wheel is None else wheel


def _why(new: LockedWheel, old: LockedWheel) -> str:
    if new.provider != old.provider:
        return f"from {new.provider}, which is trusted more than {old.provider}"
    if new.version != old.version:
        return f"flash-attn {new.version} instead of {old.version}"
    return f"uploaded {new.updated_at or 'at an unknown date'}, instead of {old.name}"


def _cells(project: Project, before: Catalogue, now: Catalogue) -> Iterator[Change]:
    """Each cell of the matrix, resolved with what was known and with what is."""
    facts = Facts(project.compat, project.known_broken)
    policy = default_policy(project.compat, trust=project.matrix.trust)
    then, today = (WheelIndex(catalogue.wheels, facts, policy) for catalogue in (before, now))
    moved: dict[tuple[str, str], list[tuple[Resolution, Resolution]]] = {}
    for cell in expand(project.matrix.axes, project.compat, project.matrix.exclude).cells:
        was, is_now = resolve(cell, then), resolve(cell, today)
        if (kind := _kind(was, is_now)) is not None:
            moved.setdefault((kind, minor_of(cell.torch)), []).append((was, is_now))
    for (kind, torch), pairs in moved.items():
        cells = tuple(is_now.cell for _, is_now in pairs)
        wheels = sorted({is_now.wheel.filename for _, is_now in pairs if isinstance(is_now, Match)})
        what = {
            "movable": "can move from sdpa to flash_attention_2",
            "fallback": "fall back from flash_attention_2 to sdpa: their wheel is gone",
            "newer": "get a newer flash-attn",
        }[kind]
        text = f"torch {torch} cells {what}: {where(cells)}{': ' if wheels else ''}{', '.join(wheels)}"
        yield Change(kind, f"torch {torch}", text, f"python -m wheel_resolver --torch {torch}", cells)


def _kind(was: Resolution, is_now: Resolution) -> str | None:
    match was, is_now:
        case Match(), Match():
            return "newer" if was.wheel.name.flash_attn < is_now.wheel.name.flash_attn else None
        case Match(), _:
            return "fallback"
        case _, Match():
            return "movable"
    return None


def _uploads(before: Catalogue, now: Catalogue) -> Iterator[Change]:
    """How the list as a whole moved since the snapshot."""
    old, new = _digests(before), _digests(now)
    other = sorted(
        name for name in old.keys() & new.keys() if None not in {old[name], new[name]} and old[name] != new[name]
    )
    added, gone = len(new.keys() - old.keys()), len(old.keys() - new.keys())
    if added or gone or other:
        text = f"since the snapshot of {before.as_of[:10]}: {added} wheels more, {gone} gone"
        text += f", {len(other)} with another digest"
        yield Change(
            "uploads",
            "catalogue",
            text + (f" ({', '.join(other[:3])}{', ...' if len(other) > 3 else ''})" if other else ""),  # noqa: PLR2004
            "python -m wheel_resolver snapshot",
        )


def _digests(catalogue: Catalogue) -> Mapping[str, str | None]:
    return {wheel.filename: wheel.sha256 for wheel in catalogue.wheels}
