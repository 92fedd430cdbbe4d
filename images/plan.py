"""``python -m images plan``: what would be built, from which locks, without building. Opens no socket."""

from __future__ import annotations

import argparse
from typing import Any

from images.planned import Planned, Workspace, image_tag, load_planned, split_names
from images.table import Column, print_table
from matrix.cli import tell_json
from matrix.errors import ExitCode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's command line."""
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="targets (all of the matrix)")
    parser.add_argument("--tier", help="only targets of this tier")


def run(args: argparse.Namespace, workspace: Workspace) -> int:
    """Print the plan as a table or as JSON; ``include`` is what a GitHub Actions matrix takes."""
    names = split_names(args.targets)
    planned = [item for item in load_planned(workspace, names) if args.tier in (None, item.target.tier)]
    if args.json:
        rows = [_row(item) for item in planned]
        tell_json({"schema": 1, "include": rows})
    else:
        print_table(_COLUMNS, planned)
    return ExitCode.OK


def _row(item: Planned) -> dict[str, Any]:
    return {
        "target": item.target.name,
        "tier": item.target.tier,
        "recipe": item.recipe.name,
        "stack": item.recipe.stack.name,
        "base": item.recipe.stack.base,
        "attention": item.facts["attention"]["default"],
        "because": item.locked.reason,
        "wheel": item.recipe.wheel.name if item.recipe.wheel else None,
        "tags": list(item.tags),
        "lock_hash": item.facts["lock_hash"],
    }


_COLUMNS = (
    Column("target", lambda item: item.target.name),
    Column("tier", lambda item: item.target.tier),
    Column("recipe", lambda item: item.recipe.name),
    Column("attention", lambda item: item.facts["attention"]["default"]),
    Column("tag", lambda item: image_tag(item.target.name)),
    Column("why", lambda item: item.locked.reason),
)
