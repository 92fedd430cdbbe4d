"""``python -m matrix check``: judge the data files. ``python -m matrix schema``: write ``schema.json`` for editors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from matrix import DATA_DIR, load_project, tree
from matrix.cli import Parser, path_of, run, say, tell, tell_json
from matrix.errors import ExitCode
from matrix.expand import expand
from matrix.schema import matrix_schema


def main(argv: Sequence[str]) -> int:
    """Run one verb."""
    parser = Parser(prog="python -m matrix", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    check = verbs.add_parser("check", help="judge matrix.yaml, compat.yaml and known_broken.yaml")
    check.add_argument("--matrix", type=path_of, metavar="FILE", help="another matrix")
    check.add_argument("--json", action="store_true", help="print JSON")
    schema = verbs.add_parser("schema", help="write matrix/schema.json")
    schema.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is not fresh")
    options = parser.parse_args(argv)
    return _schema(check=options.check) if options.verb == "schema" else _check(options.matrix, as_json=options.json)


def _schema(*, check: bool) -> int:
    path = DATA_DIR / "schema.json"
    text = matrix_schema()
    if check:
        fresh = tree.exists(path) and tree.read_text(path, "replace") == text
        say("schema.json is fresh" if fresh else "schema.json is not fresh: run `python -m matrix schema`")
        return ExitCode.OK if fresh else ExitCode.NEGATIVE
    tree.write(path, text)
    return ExitCode.OK


def _check(matrix_file: Path | None, *, as_json: bool) -> int:
    project = load_project(matrix_file)
    found = expand(project.matrix.axes, project.compat, project.matrix.exclude)
    if as_json:
        report = {
            "schema": 1,
            "cells": len(found.cells),
            "skipped": dict(found.skipped),
            "targets": {
                name: {"tier": target.tier, "stack": target.stack, "gpus": list(target.gpus)}
                for name, target in project.matrix.targets.items()
            },
        }
        tell_json(report)
    else:
        tell(f"{len(project.matrix.targets)} targets, {len(found.cells)} cells")
        for reason, count in found.skipped.items():
            tell(f"{count} combinations left out: {reason}")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(run(lambda: main(sys.argv[1:])))
