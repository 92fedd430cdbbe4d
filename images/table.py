"""Plain tables for the terminal; the last column wraps, so that a reason is never cut off."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matrix.cli import tell
from matrix.shown import shown

_LEAST_LAST = 30


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and what a row says under it."""

    head: str
    cell: Callable[[Any], str]


def print_table(columns: Sequence[Column], rows: Sequence[Any]) -> None:
    """Print rows under their headings to stdout."""
    tell(format_table(columns, rows, shutil.get_terminal_size((120, 24)).columns))


def format_table(columns: Sequence[Column], rows: Sequence[Any], width: int) -> str:
    """The table as text, ``width`` characters wide where the last column can be wrapped to that."""
    cells = [[column.head for column in columns], *([shown(column.cell(row)) for column in columns] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    indent = sum(widths[:-1]) + 2 * (len(columns) - 1)
    last = max(_LEAST_LAST, width - indent)
    lines = []
    for row in cells:
        head = "  ".join(text.ljust(size) for text, size in zip(row[:-1], widths[:-1], strict=True))
        first, *rest = textwrap.wrap(row[-1], last) or [""]
        lines += [f"{head}  {first}".rstrip(), *(" " * indent + text for text in rest)]
    return "\n".join(lines)
