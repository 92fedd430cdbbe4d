"""``python -m wheel_resolver coverage``: a table for the terminal, JSON, or one self-contained HTML page."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from packaging.version import Version

from matrix import load_project, tree
from matrix.cli import Parser, path_of, say, tell, tell_json
from matrix.errors import DataError, ExitCode, UsageError
from matrix.shown import shown
from matrix.words import platform_of
from wheel_resolver.asking.answer import attention_of, backend_of
from wheel_resolver.asking.coverage import MARKS, Group, Square, coverage
from wheel_resolver.asking.options import (
    add_network,
    add_policy,
    catalogue_asked,
    parse,
    policy_asked,
    project_policy,
)
from wheel_resolver.asking.providers import suggestions_asked
from wheel_resolver.asking.table import describe_catalogue
from wheel_resolver.core.facts import Facts
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.resolve import Match
from wheel_resolver.files import write_atomic
from wheel_resolver.inside.records import recorded
from wheel_resolver.places import add_root, places
from wheel_resolver.upstream.catalogue import Catalogue

_TEMPLATE = "coverage.html.j2"
_LEGEND = "FA2: a wheel fits; src: it can be compiled; sdpa: torch's own attention; none: nothing runs; .: never built"


def main(argv: Sequence[str]) -> int:
    """Run ``coverage`` with its options; the result is an exit status of CONTRACTS."""
    options = parse(_parser(), argv)
    where = places(options)
    project = load_project(where.matrix)
    compat = project.compat
    platform = platform_of(options.platform)
    if platform not in compat.platforms:
        raise UsageError(f"--platform {options.platform}: not known", remedy=f"known: {', '.join(compat.platforms)}")
    loaded = catalogue_asked(options, project)
    policy = policy_asked(options, project_policy(options, project))
    index = WheelIndex(loaded.catalogue.wheels, Facts(compat, project.known_broken, recorded()), policy)
    gpus = [(name or str(arch), arch) for name, arch in project.matrix.axes.gpu]
    groups = coverage(index, gpus, platform, suggestions_asked(options, project, index))
    for note in loaded.notes:
        say(f"note: {note}")
    if options.html is not None:
        try:
            write_atomic(where.writable(options.html), render_html(groups, loaded.catalogue, platform))
        except OSError as error:
            raise DataError(f"{options.html}: cannot be written: {error.strerror}") from None
        say(f"{options.html}: written")
    if options.json:
        tell_json(to_json(groups, loaded.catalogue, platform))
    elif options.html is None:
        tell(render_text(groups))
    say(describe_catalogue(loaded.catalogue))
    return ExitCode.OK


def to_json(groups: Sequence[Group], catalogue: Catalogue, platform: str) -> dict[str, Any]:
    """The coverage, ready for ``json.dumps``."""
    return {
        "schema": 1,
        "catalogue": {"source": catalogue.source, "as_of": catalogue.as_of, "wheels": catalogue.listed},
        "platform": platform,
        "groups": [
            {
                "gpus": [{"gpu": name, "arch": str(arch)} for name, arch in group.gpus],
                "cells": len(group.squares),
                "counts": {mark: group.count(mark) for mark in MARKS},
                "answers": [
                    {
                        "torch": str(square.cell.torch),
                        "cuda": str(square.cell.cuda),
                        "python": str(square.cell.python),
                        "attention": attention_of(square.answer.resolution),
                        "backend": backend_of(square.answer.resolution),
                        "wheel": resolution.wheel.filename
                        if isinstance(resolution := square.answer.resolution, Match)
                        else None,
                        "reason": square.reason,
                    }
                    for square in group.squares
                ],
            }
            for group in groups
        ],
    }


def render_text(groups: Sequence[Group]) -> str:
    """A table for each group, torch and CUDA down, Python across; none where all cells have one answer."""
    parts = []
    for group in groups:
        lines = [f"{title(group)}: {tally(group)}"]
        if len({square.mark for square in group.squares}) > 1:
            lines += ["", _line("torch", "CUDA", map(str, group.pythons)), *_rows(group)]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, _LEGEND])


def _rows(group: Group) -> list[str]:
    """The rows of all panels, torch by torch: the suggestions in the table are what one would change."""
    rows = [(Version(torch), panel.cuda, row) for panel in group.panels for torch, row in panel.rows]
    return [
        _line(str(torch), str(cuda), (square.mark if square else "." for square in row))
        for torch, cuda, row in sorted(rows, key=lambda row: (row[0], str(row[1])))
    ]


def _line(torch: str, cuda: str, marks: Iterable[str]) -> str:
    return f"{torch:<5}  {cuda:<4}  {'  '.join(f'{mark:<4}' for mark in marks)}".rstrip()


def title(group: Group) -> str:
    """The GPUs of a group, and their architectures."""
    archs = dict.fromkeys(str(arch) for _, arch in group.gpus)
    return f"{', '.join(name for name, _ in group.gpus)} ({', '.join(archs)})"


def tally(group: Group) -> str:
    """How many of a group's cells have which answer."""
    counts = [(group.count(mark), meaning) for mark, meaning in MARKS.items()]
    return f"of {len(group.squares)} cells " + ", ".join(f"{number} {meaning}" for number, meaning in counts if number)


def heading(square: Square) -> str:
    """What was asked and what runs: ``torch 2.9.1, CUDA 12.8, Python 3.11: sdpa (flash)``."""
    attention, backend = attention_of(square.answer.resolution), backend_of(square.answer.resolution)
    runs = attention if attention == backend else f"{attention} ({backend})"
    return f"torch {square.cell.torch}, CUDA {square.cell.cuda}, Python {square.cell.python}: {runs or 'unsupported'}"


def render_html(groups: Sequence[Group], catalogue: Catalogue, platform: str) -> str:
    """One page without any other file; everything that is filled in is escaped."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415 - only the page needs it

    environment = Environment(
        loader=FunctionLoader(lambda name: tree.read_text(Path(__file__).with_name(name))),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: shown(value) if type(value) is str else value,
    )  # fmt: skip
    return environment.get_template(_TEMPLATE).render(
        groups=groups,
        catalogue=describe_catalogue(catalogue),
        platform=platform,
        allows_source=any(group.count("src") for group in groups),
        title=title,
        tally=tally,
        heading=heading,
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m wheel_resolver coverage",
        description="Which of all shipped torch, CUDA and Python have a flash-attn wheel, for each GPU of the matrix.",
        allow_abbrev=False,
    )
    parser.add_argument("--html", type=path_of, metavar="FILE", help="write one self-contained page")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--platform", default="linux_x86_64", help="such as linux_aarch64")
    add_root(parser)
    add_policy(parser)
    add_network(parser)
    return parser
