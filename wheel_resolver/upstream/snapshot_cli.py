"""``python -m wheel_resolver snapshot``: list the official releases anew and write the snapshot that the project ships.

With ``--provider`` those of another repository, whose list is shipped next to it: questions know it; none trusts it.
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

from matrix import Compat, Project, load_project, tree
from matrix.cli import Parser, path_of, say, tell, tell_json
from matrix.document import display_name
from matrix.errors import DataError, ExitCode, NetworkError, UsageError
from matrix.shown import shown
from wheel_resolver.asking.providers import providers_asked
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.wheel import Asset, Release
from wheel_resolver.files import write_atomic
from wheel_resolver.places import Places, add_root, places
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.catalogue import build_catalogue, without_usual_urls
from wheel_resolver.upstream.ladder import TIME
from wheel_resolver.upstream.snapshot import Snapshot
from wheel_resolver.upstream.snapshot_difference import Difference, compare
from wheel_resolver.upstream.source import list_anew

_KINDS = {"index": "an index", "folder": "a folder"}
#: Older releases have no wheel for any torch that compat.yaml knows.
OLDEST = Version("2.6.3")


def main(argv: Sequence[str]) -> int:
    """Run ``snapshot`` with its options; the result is an exit status of CONTRACTS."""
    options = _parser().parse_args(argv)
    where = places(options)
    project = load_project() if options.provider is None else load_project(where.matrix)
    own = project.compat.flash_attn.repository
    repository = own if options.provider is None else _repository(options.provider, project)
    path = where.writable(options.output or _shipped(where, None if repository == own else repository))
    old = snapshot.read(path, forgiving=repository != own) if tree.exists(path) else None
    listed = _listed(project.compat, repository)
    new, left_out = shipped_form(listed) if repository == own else others_form(listed)
    if not any(release.assets for release in new.releases):
        raise NetworkError(f"{new.repository}: its list of releases holds no wheel", remedy="check GITHUB_API_URL")
    for name in _conflicts(new, rebuilds=repository != own):
        say(f"note: {name}")
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
    say(f"{display_name(path)}: {_outcome(difference, options, changed=changed)}")
    return ExitCode.NEGATIVE if options.check and changed else ExitCode.OK


def _repository(name: str, project: Project) -> str:
    """The GitHub repository that ``--provider`` means: by its name in the matrix, or as owner/name.

    Raises:
        UsageError: it means none.
    """
    (provider,) = providers_asked([name], project)
    if provider.kind != "github":
        raise UsageError(
            f"--provider {name}: its wheels are in {_KINDS[provider.kind]}, and only a repository's list is shipped",
            remedy="name a provider of kind github, or owner/name",
        )
    return provider.place


def _shipped(where: Places, repository: str | None) -> Path:
    """The file that the checkout ships which is meant; ``repository``: another one than the official."""
    folder = snapshot.SHIPPED.parent if where.root is None else where.root / "wheel_resolver" / "upstream"
    if repository is None:
        return folder / snapshot.SHIPPED.name
    return snapshot.file_of(repository, snapshot.OTHERS if where.root is None else folder / snapshot.OTHERS.name)


def _conflicts(new: Snapshot, *, rebuilds: bool) -> tuple[str, ...]:
    """See that a catalogue can be made of it; the names that are not used.

    Raises:
        DataError: official files contradict each other: such a snapshot would stop every question.
    """
    return build_catalogue(
        new.releases,
        repository=new.repository,
        origin="",
        source="network",
        as_of=new.as_of,
        stale=False,
        rebuilds=rebuilds,
    ).disputed


def others_form(listed: Snapshot) -> tuple[Snapshot, tuple[str, ...]]:
    """Keep of another repository the Linux wheels of flash-attn from ``OLDEST`` on; also the names that are left out.

    Its tags are versions of its own, or none at all: they are sorted by what is known of them, then by name.
    """
    kept, left_out = [], []
    for release in listed.releases:
        wheels = []
        for asset in release.assets:
            name = WheelName.parse(asset.name)
            if name is None:
                left_out += [asset.name] if asset.name.endswith(".whl") else []
            elif "linux" in name.platform and name.flash_attn >= OLDEST:
                wheels.append(asset)
        if wheels:
            kept.append(Release(release.tag, tuple(sorted(wheels, key=_order))))
    kept.sort(key=lambda release: release.tag)
    kept.sort(key=lambda release: _version(release.tag) or Version("0"), reverse=True)
    return replace(listed, releases=tuple(kept)), tuple(sorted(left_out))


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


def _listed(compat: Compat, repository: str) -> Snapshot:
    """A repository's releases, from the network."""
    releases = list_anew(compat, repository, os.environ)
    usual = without_usual_urls(releases, repository, compat.origins["github_downloads"])
    return Snapshot(repository, datetime.now(UTC).strftime(TIME), usual)


def _outcome(difference: Difference, options: argparse.Namespace, *, changed: bool) -> str:
    if not changed:
        return "unchanged"
    counts = ", ".join(f"{count} {what}" for what, count in difference.counts.items() if count) or "another order"
    if not options.check:
        return f"written: {counts}"
    provider = "" if options.provider is None else f" --provider {options.provider}"
    return f"{counts}: run `python -m wheel_resolver snapshot{provider}`"


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
    parser.add_argument(
        "--provider", metavar="NAME", help="another repository's list: owner/name, or its name in the matrix"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it differs")
    add_root(parser)
    parser.add_argument("--output", type=path_of, metavar="FILE", help="another snapshot")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
