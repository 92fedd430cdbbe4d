"""``python -m wheel_resolver snapshot``: list the official releases anew and write the snapshot that the project ships.

The same releases give the same bytes: sorted, and with the old date where nothing else has changed.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from packaging.version import InvalidVersion, Version

from matrix import load_project, tree
from matrix.cli import Parser, path_of, say, tell, tell_json
from matrix.document import display_name
from matrix.errors import DataError, ExitCode, NetworkError
from matrix.shown import shown
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.wheel import Asset, Release
from wheel_resolver.files import write_atomic
from wheel_resolver.places import Places, add_root, places
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.catalogue import build_catalogue, without_usual_urls
from wheel_resolver.upstream.ladder import TIME
from wheel_resolver.upstream.snapshot import Snapshot
from wheel_resolver.upstream.snapshot_difference import Difference, compare
from wheel_resolver.upstream.source import list_official

#: Older releases have no wheel for any torch that compat.yaml knows.
OLDEST = Version("2.6.3")


def main(argv: Sequence[str]) -> int:
    """Run ``snapshot`` with its options; the result is an exit status of CONTRACTS."""
    options = _parser().parse_args(argv)
    where = places(options)
    path = where.writable(options.output or _shipped(where))
    old = snapshot.read(path) if tree.exists(path) else None
    new, left_out = shipped_form(_listed())
    if not any(release.assets for release in new.releases):
        raise NetworkError(f"{new.repository}: its list of releases holds no wheel", remedy="check GITHUB_API_URL")
    _refuse_conflicts(new)
    if old is not None and old.repository == new.repository and old.releases == new.releases:
        new = replace(new, as_of=old.as_of)
    difference = compare(old.releases if old else (), new.releases)
    changed = not tree.exists(path) or tree.read_text(path, "replace") != snapshot.dumps(new)
    if changed and not options.check:
        try:
            write_atomic(path, snapshot.dumps(new))
        except OSError as error:
            raise DataError(f"{display_name(path)}: cannot be written: {error.strerror}") from None
    if options.json:
        tell_json(_report(path, new, difference, left_out, written=changed and not options.check))
    elif difference.lines:
        tell(shown(f"--- {display_name(path)} ({old.as_of[:10] if old else 'absent'})"))
        tell(shown(f"+++ {new.repository} ({new.as_of[:10]})"))
        tell("\n".join(map(shown, difference.lines)))
    for name in left_out:
        say(f"left out, not a wheel name that we read: {json.dumps(name[:100])}")
    say(f"{display_name(path)}: {_outcome(difference, changed=changed, check=options.check)}")
    return ExitCode.NEGATIVE if options.check and changed else ExitCode.OK


def _shipped(where: Places) -> Path:
    """The snapshot that the checkout ships which is meant."""
    return (
        snapshot.SHIPPED if where.root is None else where.root / "wheel_resolver" / "upstream" / snapshot.SHIPPED.name
    )


def _refuse_conflicts(new: Snapshot) -> None:
    """See that a catalogue can be made of it: a snapshot with two digests for one name would stop every question."""
    build_catalogue(new.releases, repository=new.repository, origin="", source="network", as_of=new.as_of, stale=False)


def shipped_form(listed: Snapshot) -> tuple[Snapshot, tuple[str, ...]]:
    """Keep the wheels of the releases from ``OLDEST`` on, newest release first; also the names that are left out."""
    kept, left_out = [], []
    for release in listed.releases:
        version = _version(release.tag)
        if version is None or version < OLDEST:
            continue
        wheels = [asset for asset in release.assets if WheelName.parse(asset.name) is not None]
        left_out += [asset.name for asset in release.assets if asset.name.endswith(".whl") and asset not in wheels]
        kept.append((version, Release(release.tag, tuple(sorted(wheels, key=_order)))))
    kept.sort(key=lambda row: row[1].tag)
    kept.sort(key=lambda row: row[0], reverse=True)
    return replace(listed, releases=tuple(release for _, release in kept)), tuple(sorted(left_out))


def _order(asset: Asset) -> tuple[object, ...]:
    """As a person looks for a wheel: by version, CUDA, torch, ABI, Python."""
    name = WheelName.parse(asset.name)
    if name is None:
        return ()
    python = tuple(int(part) for part in (name.python[2], name.python[3:]))
    return (name.flash_attn, name.cuda, Version(name.torch), name.abi or "", python, asset.name)


def _version(tag: str) -> Version | None:
    try:
        return Version(tag)
    except InvalidVersion:
        return None


def _listed() -> Snapshot:
    """The official releases, from the network."""
    compat = load_project().compat
    repository = compat.flash_attn.repository
    releases = list_official(compat, os.environ)
    usual = without_usual_urls(releases, repository, compat.origins["github_downloads"])
    return Snapshot(repository, datetime.now(UTC).strftime(TIME), usual)


def _outcome(difference: Difference, *, changed: bool, check: bool) -> str:
    if not changed:
        return "unchanged"
    counts = ", ".join(f"{count} {what}" for what, count in difference.counts.items() if count) or "another order"
    return f"{counts}: run `python -m wheel_resolver snapshot`" if check else f"written: {counts}"


def _report(
    path: Path, new: Snapshot, difference: Difference, left_out: tuple[str, ...], *, written: bool
) -> dict[str, object]:
    return {
        "schema": 1,
        "path": str(path),
        "as_of": new.as_of,
        "written": written,
        "difference": list(difference.lines),
        "counts": dict(difference.counts),
        "left_out": list(left_out),
    }


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m wheel_resolver snapshot",
        description="List the official releases anew, write the shipped snapshot, and print what has changed.",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it differs")
    add_root(parser)
    parser.add_argument("--output", type=path_of, metavar="FILE", help="another snapshot")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
