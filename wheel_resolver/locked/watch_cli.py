"""``python -m wheel_resolver watch``: one run lists the releases anew and says what changed for us."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matrix import Compat, Project, load_project
from matrix.cli import Parser, path_of, say, tell, tell_json
from matrix.errors import DataError, ExitCode
from matrix.origins import operator
from matrix.shown import shown
from wheel_resolver.asking.answer import cell_to_json
from wheel_resolver.lock import Lock, read
from wheel_resolver.locked.inputs import require_fresh
from wheel_resolver.locked.watching import Change, compare, settle
from wheel_resolver.places import add_lock, places
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.catalogue import Catalogue, Listed, at_allowed_places, build_catalogue
from wheel_resolver.upstream.ladder import TIME
from wheel_resolver.upstream.source import Mode, list_official, load_catalogue


def main(argv: Sequence[str]) -> int:
    """Run ``watch`` with its options; the result is an exit status of CONTRACTS."""
    options = _parser().parse_args(argv)
    where = places(options)
    project = load_project(where.matrix)
    lock = read(where.lock)
    require_fresh(lock.targets.values(), project, where.lock)
    before = shipped_catalogue(project.compat, options.snapshot)
    now, conflicts = _listed_now(project, lock, before)
    changes = (*conflicts, *compare(project, lock, before, now))
    if options.json:
        tell_json(to_json(before, now, changes))
    else:
        tell(render(changes))
    attention = any(change.attention for change in changes)
    say(f"{now.listed} wheels listed now, {before.listed} in the snapshot of {before.as_of[:10]}")
    return ExitCode.NEGATIVE if attention else ExitCode.OK


def _listed_now(project: Project, lock: Lock, before: Catalogue) -> tuple[Catalogue, tuple[Change, ...]]:
    """The catalogue of now; also the official listings that contradict each other, which stop every other verb."""
    providers = project.matrix.providers
    try:
        loaded = load_catalogue(
            project.compat, Mode.REFRESH, environment=os.environ, now=datetime.now(UTC), providers=providers
        )
    except DataError:
        found = _settled(project, lock, before)
        if not found[1]:
            raise
        return found
    for note in loaded.notes:
        say(f"note: {note}")
    return loaded.catalogue, ()


def _settled(project: Project, lock: Lock, before: Catalogue) -> tuple[Catalogue, tuple[Change, ...]]:
    """List the official releases again (their pages are cached) and settle what is disputed; no other provider's."""
    compat, repository = project.compat, project.compat.flash_attn.repository
    releases, conflicts = settle(list_official(compat, os.environ), lock, before)
    catalogue = build_catalogue(
        releases,
        repository=repository,
        origin=compat.origins["github_downloads"],
        source="network",
        as_of=datetime.now(UTC).strftime(TIME),
        stale=False,
    )
    others = [provider.name for provider in project.matrix.providers if provider.name != repository]
    silent = tuple(Listed(name, "none", "", stale=True, wheels=0) for name in others)
    return replace(catalogue, providers=(*catalogue.providers, *silent)), conflicts


def shipped_catalogue(compat: Compat, path: Path = snapshot.SHIPPED) -> Catalogue:
    """The catalogue as it was known when the snapshot was made.

    Raises:
        DataError: the snapshot cannot be read.
    """
    known = snapshot.read(path)
    return build_catalogue(
        at_allowed_places(known.releases, operator().allows_download, usual=True),
        repository=known.repository,
        origin=compat.origins["github_downloads"],
        source="snapshot",
        as_of=known.as_of,
        stale=True,
    )


def render(changes: Sequence[Change]) -> str:
    """One line a change, what needs attention first; below it the command."""
    if not changes:
        return "nothing changed for us"
    lines = []
    for change in changes:
        lines.append(f"{'!' if change.attention else ' '} {change.kind.ljust(9)}  {shown(change.text)}")
        lines += [f"             {shown(change.command)}"] if change.command else []
    return "\n".join(lines)


def to_json(before: Catalogue, now: Catalogue, changes: Sequence[Change]) -> dict[str, Any]:
    """The whole answer, ready for ``json.dumps``; the same inputs give the same."""
    return {
        "schema": 1,
        "attention": any(change.attention for change in changes),
        "catalogue": {"source": now.source, "as_of": now.as_of, "wheels": now.listed},
        "snapshot": {"as_of": before.as_of, "wheels": before.listed},
        "changes": [
            {
                "kind": change.kind,
                "attention": change.attention,
                "subject": change.subject,
                "text": shown(change.text),  # a workflow writes it into a pull request
                "command": change.command,
                "cells": [cell_to_json(cell) for cell in change.cells],
            }
            for change in changes
        ],
    }


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m wheel_resolver watch",
        description="Compare upstream with the lock and the snapshot, and say what changed for us.",
        epilog="Exit codes: 0 nothing to do, 1 something needs attention (marked !), 2 usage or data, 3 network.",
    )
    add_lock(parser)
    parser.add_argument("--snapshot", type=path_of, default=snapshot.SHIPPED, metavar="FILE", help="another snapshot")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
