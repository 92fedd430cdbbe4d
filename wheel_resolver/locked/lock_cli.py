"""``python -m wheel_resolver lock``: write ``matrix/lock.yaml``, or check that it is what would be written."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

from matrix import Project, load_project, tree
from matrix.cli import Parser, path_of, say, tell, tell_json
from matrix.difference import difference
from matrix.document import display_name
from matrix.errors import DataError, ExitCode, UsageError
from matrix.seal import broken_seal
from matrix.shown import shown
from wheel_resolver.core.facts import Inspection
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.fetching.fetch import fetch, fetch_unpinned
from wheel_resolver.files import write_atomic
from wheel_resolver.inside.inspection import at_hand
from wheel_resolver.lock import Lock, dumps, read
from wheel_resolver.locked.choosing import Tools
from wheel_resolver.locked.locking import make_lock
from wheel_resolver.locked.pinned import pinned_wheels, require_known
from wheel_resolver.places import add_root, places
from wheel_resolver.upstream.catalogue import Catalogue
from wheel_resolver.upstream.logins import Logins
from wheel_resolver.upstream.source import Mode, load_catalogue


def main(argv: Sequence[str]) -> int:
    """Run ``lock`` with its options; the result is an exit status of CONTRACTS."""
    options = _parser().parse_args(argv)
    if options.inspect and (options.check or options.offline):
        raise UsageError(
            f"--inspect downloads, and {'--check' if options.check else '--offline'} was given too",
            remedy="leave one out",
        )
    where = places(options)
    path = where.writable(options.output or where.lock)
    project = load_project(where.matrix)
    if options.upgrade:
        require_known(options.upgrade, project.matrix.targets)
    before = _text(path)
    old = _old(path, lenient=options.upgrade == [], checking=options.check)
    moving: Collection[str] | bool = options.upgrade == [] or tuple(options.upgrade or ())
    _refuse_strangers(old, moving, project, display_name(path))
    offline = options.offline or (options.check and not options.refresh)

    @cache
    def catalogue() -> Catalogue:
        mode = Mode.REFRESH if options.refresh else Mode.OFFLINE if offline else Mode.AUTO
        loaded = load_catalogue(
            project.compat, mode, environment=os.environ, now=datetime.now(UTC), providers=project.matrix.providers
        )
        for note in loaded.notes:
            say(f"note: {note}")
        return loaded.catalogue

    # What a check says must not depend on what the cache of this machine holds.
    logins = Logins(os.environ, project.matrix.providers)
    inspect = _unseen if options.check else _inspector(logins, download=options.inspect)
    compute = None if offline else partial(_compute, logins)
    lock = make_lock(project, old, Tools(catalogue, compute, say, inspect), upgrade=moving)
    after = dumps(lock)
    changed = before != after
    if changed and not options.check:
        _write(path, before, after)
    moved = _moved(project, lock, catalogue()) if options.check and options.refresh else None
    if options.json:
        report = _report(path, lock, changed=changed, written=changed and not options.check)
        tell_json(report | ({} if moved is None else {"upstream": moved.rows}))
    else:
        name = display_name(path)
        said = (
            difference(before, after, f"{name} (now)", f"{name} (would be)")
            if options.check and changed
            else _summary(lock)
        )
        tell(said + (f"\n\nupstream:\n{moved.text}" if moved else ""))
    if options.check and changed:
        if fault := broken_seal(before):
            say(f"{display_name(path)}: {fault}")
        say(f"{display_name(path)} is not what would be written: run `python -m wheel_resolver lock`")
        return ExitCode.NEGATIVE
    say(f"{display_name(path)}: {'written' if changed else 'unchanged'}")
    return ExitCode.NEGATIVE if moved and moved.attention else ExitCode.OK


def _old(path: Path, *, lenient: bool, checking: bool) -> Lock | None:
    """The lock as it is; one that cannot be read is as good as none where every target is decided anew.

    A check shows what was edited by hand; nothing else takes such a lock.
    """
    if not tree.exists(path):
        return None
    try:
        return read(path, unsealed=checking)
    except DataError:
        if lenient:
            return None
        raise


def _write(path: Path, before: str, after: str) -> None:
    if _text(path) != before:
        raise DataError(f"{display_name(path)}: another run wrote it meanwhile", remedy="run this one again")
    try:
        write_atomic(path, after)
    except OSError as error:
        raise DataError(f"{display_name(path)}: cannot be written: {error.strerror}") from None


def _unseen(wheel: Wheel) -> Inspection | None:  # noqa: ARG001 - stands where an inspector would
    return None


def _inspector(logins: Logins, *, download: bool) -> Callable[[Wheel], Inspection | None]:
    """Look into wheels whose bytes are at hand: in the cache, or in a provider's folder; ``download``: in all."""

    def inspect(wheel: Wheel) -> Inspection | None:
        if wheel.sha256 is not None and (download or wheel.url.startswith("file:")):
            fetch(wheel.url, wheel.sha256, wheel.filename, size=wheel.size, logins=logins)
        return at_hand(wheel)

    return inspect


@dataclass(frozen=True, slots=True)
class _Moved:
    """What ``watch`` says of upstream: as text, as rows, and whether somebody should act on it."""

    text: str
    rows: object
    attention: bool


def _moved(project: Project, lock: Lock, now: Catalogue) -> _Moved:
    from wheel_resolver.locked.watch_cli import render, shipped_catalogue, to_json  # noqa: PLC0415 - where it is asked for
    from wheel_resolver.locked.watching import compare  # noqa: PLC0415

    before = shipped_catalogue(project.compat)
    changes = compare(project, lock, before, now)
    return _Moved(render(changes), to_json(before, now, changes)["changes"], any(each.attention for each in changes))


def _refuse_strangers(old: Lock | None, moving: Collection[str] | bool, project: Project, place: str) -> None:
    """Refuse a pin that is to stay, and whose digest is not the one that was known when the snapshot was made.

    Raises:
        DataError: the lock was edited by hand, or upstream replaced a file.
    """
    from wheel_resolver.locked.watch_cli import shipped_catalogue  # noqa: PLC0415 - where there is a pin

    kept = [] if old is None or moving is True else [
        entry for entry in old.targets.values() if not isinstance(moving, bool) and entry.name not in moving
    ]  # fmt: skip
    pins = pinned_wheels(kept)
    known = {(wheel.provider, wheel.filename): wheel.sha256 for wheel in shipped_catalogue(project.compat).wheels}
    for pin in pins:
        wheel, users = pin.wheel, " ".join(pin.targets)
        listed = known.get((wheel.provider, wheel.name)) or wheel.sha256
        if listed != wheel.sha256:
            raise DataError(
                f"{place}: {users}: the sha256 of {wheel.name} is {wheel.sha256}, and {wheel.provider} lists {listed}",
                remedy=f"restore the lock, or take what is listed: python -m wheel_resolver lock --upgrade {users}; "
                "where upstream replaced the file, ask its maintainers, and renew the snapshot first",
            )


def _text(path: Path) -> str:
    """What stands in the file now; nothing where there is none, and a damaged one differs from any lock."""
    return tree.read_text(path, errors="replace") if tree.exists(path) else ""


def _compute(logins: Logins, wheel: Wheel) -> str:
    return fetch_unpinned(wheel.url, wheel.filename, logins=logins)


def _report(path: Path, lock: Lock, *, changed: bool, written: bool) -> dict[str, object]:
    return {
        "schema": 1,
        "path": str(path),
        "changed": changed,
        "written": written,
        "targets": {
            name: {
                "attention": target.attention,
                "backend": target.backend,
                "reason": target.reason,
                "wheel": target.wheel.name if target.wheel else None,
                "sha256": target.wheel.sha256 if target.wheel else None,
                "evidence": target.wheel.evidence if target.wheel else None,
                "source_build": target.source_build.sdist if target.source_build else None,
                "refused": [asdict(each) for each in target.refused],
                "inputs": target.inputs,
                "hash": target.hash(),
            }
            for name, target in lock.targets.items()
        },
    }


def _summary(lock: Lock) -> str:
    width = max(map(len, lock.targets), default=0)
    lines = []
    for name, target in lock.targets.items():
        pinned = target.wheel.name if target.wheel else target.source_build.sdist if target.source_build else ""
        lines.append(f"{name.ljust(width)}  {target.attention.ljust(17)}  {shown(pinned or target.reason)}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m wheel_resolver lock", description="Write the wheel decision of every target of the matrix."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 and show the difference if it differs"
    )
    parser.add_argument(
        "--upgrade",
        nargs="*",
        metavar="TARGET",
        help="move these targets to the best wheels, all where none is named; else what is pinned stays",
    )
    parser.add_argument(
        "--inspect",
        action="store_true",
        help="download each wheel that is locked and look into it (else where its bytes are at hand)",
    )
    add_root(parser)
    parser.add_argument("--output", type=path_of, metavar="FILE", help="another lock than the one next to the matrix")
    network = parser.add_mutually_exclusive_group()
    network.add_argument("--offline", action="store_true", help="open no socket (--check does not, by itself)")
    network.add_argument(
        "--refresh",
        action="store_true",
        help="list the releases now; exit 3 if that fails. With --check: tell what moved upstream, too",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
