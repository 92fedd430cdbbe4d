"""One provider's list of wheels: a fresh cache, else one refresh, else an old cache, else the shipped snapshot."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

from matrix.errors import DataError, NetworkError
from wheel_resolver.core.wheel import Release
from wheel_resolver.files import write_atomic
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.access import RefusedError
from wheel_resolver.upstream.pages import Background
from wheel_resolver.upstream.snapshot import Snapshot

#: A cache younger than this is used without asking.
FRESH = timedelta(hours=24)
#: Seconds that one refresh may take, all pages together, another process's refresh included.
REFRESH_S = 10.0
#: A listing may be so much younger than the question: another process began later and was faster.
_SKEW = timedelta(minutes=1)
#: How a listing writes its time.
TIME = "%Y-%m-%dT%H:%M:%SZ"


class Mode(Enum):
    """What the asker allows."""

    AUTO = "auto"
    OFFLINE = "offline"  # opens no socket
    REFRESH = "refresh"  # demands the network


@dataclass(frozen=True, slots=True)
class Rungs:
    """What the ladder needs to know of a provider.

    ``place``: the repository or URL, which the cache file must name; ``shown`` is how errors name it.
    ``cache``: that file. ``ask``: list the releases
    within some seconds. ``shipped``: the list that comes with the project, None where none does.
    """

    place: str
    shown: str
    cache: Path
    ask: Callable[[float], tuple[Release, ...]]
    shipped: Callable[[], Snapshot] | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """A provider's releases, and where they were had: network, cache, snapshot or folder."""

    known: Snapshot
    source: str
    stale: bool


def climb(rungs: Rungs, mode: Mode, now: datetime, notes: list[str]) -> Listing | None:
    """Get a provider's list; None when there is no way to have one. What went wrong on the way goes into ``notes``.

    Raises:
        RefusedError: the place does not answer this identity, and there is nothing else to answer from.
        NetworkError: ``mode`` demands the network and it failed.
    """
    cached = _read_cache(rungs, notes)
    if mode is not Mode.REFRESH and cached is not None and age_of(cached, now) < FRESH:
        return _listing(cached, "cache", now)
    if mode is not Mode.OFFLINE:
        try:
            return _refresh(rungs, mode, now, notes)
        except NetworkError as error:
            nothing_else = cached is None and rungs.shipped is None
            if mode is Mode.REFRESH or (nothing_else and isinstance(error, RefusedError)):
                raise
            remedy = f" ({error.remedy})" if error.remedy else ""
            notes.append(f"cannot list the releases now: {error.what}{remedy}")
    if cached is not None:
        return _listing(cached, "cache", now)
    return None if rungs.shipped is None else _listing(rungs.shipped(), "snapshot", now)


def _refresh(rungs: Rungs, mode: Mode, now: datetime, notes: list[str]) -> Listing:
    """Ask once for all processes: who waited takes what the first one got."""
    until = time.monotonic() + REFRESH_S
    with _alone(rungs.cache) as alone:
        if mode is Mode.AUTO and (other := _read_cache(rungs, [])) is not None and age_of(other, now) < FRESH:
            return _listing(other, "cache", now)
        left = max(0.0, until - time.monotonic())
        releases = Background(lambda: rungs.ask(left)).result(until, f"{rungs.shown}: no full answer in time")
        # A list without a single wheel, cached, would turn every answer into SDPA for a day.
        if not any(asset.name.endswith(".whl") for release in releases for asset in release.assets):
            raise NetworkError(
                f"{rungs.shown}: its list of releases holds no wheel", remedy="check GITHUB_API_URL and matrix.yaml"
            )
        fresh = Snapshot(rungs.place, now.strftime(TIME), releases)
        _write_cache(rungs.cache, fresh, notes, alone=alone)
    return _listing(fresh, "network", now)


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[bool]:
    """Hold the one right to refresh a cache file; False where it cannot be had: then each asks for itself.

    The system gives it back when a process dies, however it dies.
    """
    import filelock  # noqa: PLC0415 - what the cache answers needs no lock

    lock = filelock.FileLock(cache.parent.parent / "locks" / f"{cache.stem}.lock")
    held = False
    with contextlib.suppress(OSError):  # its Timeout is one, too
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=REFRESH_S)
        held = True
    try:
        yield held
    finally:
        if held:
            lock.release()


def age_of(known: Snapshot, now: datetime) -> timedelta:
    """How old a listing is; one from the future (a clock was wrong) counts as old."""
    try:
        age = now - datetime.strptime(known.as_of, TIME).replace(tzinfo=UTC)
    except ValueError:  # month 13, in a file edited by hand
        return timedelta.max
    return age if age >= -_SKEW else timedelta.max


def _listing(known: Snapshot, source: str, now: datetime) -> Listing:
    return Listing(known, source, stale=age_of(known, now) >= FRESH)


def _read_cache(rungs: Rungs, notes: list[str]) -> Snapshot | None:
    path = rungs.cache
    try:
        if not path.exists():
            return None
        cached = snapshot.read(path)
    except OSError as error:  # a folder that may not be entered
        notes.append(f"the cached catalogue {path} cannot be read: {error.strerror}")
        return None
    except (DataError, UnicodeDecodeError):
        notes.append(f"the cached catalogue {path} is damaged: not used")
        return None
    return cached if cached.repository == rungs.place else None


def _write_cache(path: Path, fresh: Snapshot, notes: list[str], *, alone: bool) -> None:
    try:
        if alone:  # then whatever lies half-written there is of a process that was killed
            for left in path.parent.glob(f".{path.name}.*"):
                left.unlink(missing_ok=True)
        write_atomic(path, snapshot.dumps(fresh))
    except OSError as error:
        notes.append(f"the list of releases could not be cached in {path.parent}: {error.strerror}")
