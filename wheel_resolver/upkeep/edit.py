"""Changes of ``compat.yaml`` as changes of its lines: comments, order and quoting of all else stay as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matrix.errors import DataError

_MINOR = re.compile(r'^  "(\d{1,2}\.\d{1,3})":\s*$')
_TOP = re.compile(r"^[a-z_]+:")
_WIDTH = 118


def flow(values: Iterable[str]) -> str:
    """A list of versions on one line: ``["2.9.0", "2.9.1"]``."""
    return f"[{', '.join(json.dumps(value) for value in values)}]"


@dataclass(slots=True)
class Editor:
    """The lines of the file."""

    lines: list[str]

    @classmethod
    def of(cls, text: str) -> Editor:
        """Take a file's text."""
        return cls(text.split("\n"))

    @property
    def text(self) -> str:
        """The file's text now."""
        return "\n".join(self.lines)

    def set_list(self, minor: str, key: str, values: Sequence[str], *, after: str) -> None:
        """Give a torch minor's key this list; a comment after the old one stays, an empty list takes the line away.

        Args:
            after: where the key is not there yet: the key below which it goes.
        """
        start, end = self._block(minor)
        for at in range(start, end):
            if (found := re.match(rf"^    {key}: \[[^\]]*\](.*)$", self.lines[at])) is not None:
                self.lines[at : at + 1] = [f"    {key}: {flow(values)}{found[1]}"] if values else []
                return
        at = self._key(minor, after)
        self.lines.insert(at + 1, f"    {key}: {flow(values)}")

    def add_rows(self, minor: str, key: str, rows: Sequence[str], *, after: str) -> None:
        """Add rows to a torch minor's list of rows."""
        start, end = self._block(minor)
        place = next((at for at in range(start, end) if self.lines[at] == f"    {key}:"), None)
        if place is None:
            place = self._key(minor, after) + 1
            self.lines.insert(place, f"    {key}:")
        last = place
        while self.lines[last + 1].startswith("      - "):
            last += 1
        self.lines[last + 1 : last + 1] = [f"      - {row}" for row in rows]

    def add_minor(self, minor: str, rows: Sequence[str]) -> None:
        """Add a torch minor behind the last one."""
        last = [at for at, line in enumerate(self.lines) if _MINOR.match(line)][-1]
        end = next(at for at in range(last + 1, len(self.lines)) if not self.lines[at].startswith("    "))
        self.lines[end:end] = [f'  "{minor}":', *(f"    {row}" for row in rows)]

    def add_tag(self, tag: str) -> None:
        """Add a tag to the last recipe, which is its recipe, too."""
        at = self._last_recipe()
        self.lines[at] = self.lines[at].rstrip()[:-1] + f", {tag}]"

    def add_recipe(self, rows: Sequence[str]) -> None:
        """Add a recipe behind the last one."""
        at = self._last_recipe() + 1
        while self.lines[at].startswith("      "):
            at += 1
        self.lines[at:at] = [f"    {'- ' if index == 0 else '  '}{row}" for index, row in enumerate(rows)]

    def set_day(self, day: str) -> None:
        """Say on which day the facts were looked at."""
        at = next(at for at, line in enumerate(self.lines) if line.startswith("as_of: "))
        self.lines[at] = f'as_of: "{day}"'

    def _last_recipe(self) -> int:
        return max(at for at, line in enumerate(self.lines) if line.startswith("    - tags: ["))

    def _block(self, minor: str) -> tuple[int, int]:
        try:
            start = self.lines.index(f'  "{minor}":')
        except ValueError:
            raise DataError(f"compat.yaml: torch {minor} is not written as `facts` can change it") from None
        end = next(at for at in range(start + 1, len(self.lines)) if not self.lines[at].startswith("    "))
        return start, end

    def _key(self, minor: str, key: str) -> int:
        start, end = self._block(minor)
        for at in range(start, end):
            if self.lines[at].startswith(f"    {key}:"):
                return at
        raise DataError(
            f"compat.yaml: torch {minor} has no line for {key} that `facts` can change", remedy="change it by hand"
        )


def folded(name: str, rows: Sequence[str]) -> list[str]:
    """A mapping in braces over as many lines as it needs."""
    lines, current = [], f"{name}: {{"
    indent = " " * len(current)
    for index, row in enumerate(rows):
        part = row + ("," if index + 1 < len(rows) else "}")
        if len(current) + len(part) + 7 > _WIDTH and current.strip() != f"{name}: {{":
            lines.append(current.rstrip())
            current = indent
        current += part + (" " if index + 1 < len(rows) else "")
    return [*lines, current]
