"""Read a YAML file into plain values that remember their lines: the edge between files and the loader.

The subset is small on purpose: one document, UTF-8, no tabs, no anchors, no aliases, no merge keys, no
duplicate keys. What is left cannot expand (no "billion laughs") and means the same to people and to PyYAML.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from matrix import tree
from matrix.errors import DataError

KeyPath = tuple[str | int, ...]

#: A data file of ours is some ten kilobytes; a megabyte is a wrong file, and is not read on.
MAX_BYTES = 1_000_000

#: Ours are five levels deep.
_MAX_DEPTH = 50
#: Only a text with one of these can hold an anchor or an alias, which begins a node (a ``*`` within a word, as in
#: ``13.0.*``, is none), or nest deeper than its lines are long.
_SUSPICIOUS = re.compile(r"""(?:^|[\s\[\]{},:?"'])[&*]|^\s*(?:[-?]\s+){20}""", re.MULTILINE)
_MANY_BRACKETS = 2000

# The C parser is ten times faster and gives the same marks; PyYAML may be installed without it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def show_path(keys: KeyPath) -> str:
    """Write a key path as a person does: ``axes.torch[2]``."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text or "(document)"


@dataclass(slots=True)
class Document:
    """A YAML file, its root node, and (once a spec has read it) the line of every key path."""

    path: Path
    root: yaml.Node
    lines: dict[KeyPath, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file as errors name it: relative to the current folder when it lies under it."""
        return display_name(self.path)

    def error(self, keys: KeyPath, reason: str, *, remedy: str | None = None) -> DataError:
        """Make the error for a key path; a path without a line takes its nearest parent's."""
        known = keys
        while known and known not in self.lines:
            known = known[:-1]
        return self.error_at(self.lines.get(known, 1), keys, reason, remedy=remedy)

    def error_at(self, line: int, keys: KeyPath, reason: str, *, remedy: str | None = None) -> DataError:
        """Make the error for a line (counted from 1)."""
        return DataError(f"{self.name}:{line} {show_path(keys)}: {reason}", remedy=remedy)


def display_name(path: Path) -> str:
    """Name a file relative to the current folder when it lies under it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def read_document(path: Path) -> Document:
    """Read and compose a YAML file.

    Raises:
        DataError: the file is missing, too large, not UTF-8, empty, not YAML, or outside the subset.
    """
    text = _read_text(path)
    name = display_name(path)
    _refuse_tabs(name, text)
    try:
        if _SUSPICIOUS.search(text) or text.count("[") + text.count("{") > _MANY_BRACKETS:
            _scan(name, text)
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise DataError(f"{name}:{line} not valid YAML: {what}", remedy="correct the syntax near that line") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DataError(
            f"{name}:{line} character {error.character!r} is not allowed: {error.reason}", remedy="remove it"
        ) from None
    except yaml.YAMLError as error:
        raise DataError(f"{name}: not valid YAML: {error}") from None
    if root is None:
        raise DataError(f"{name}:1 the file is empty", remedy="restore it from version control")
    return Document(path, root)


def _read_text(path: Path) -> str:
    name = display_name(path)
    try:
        raw = tree.read_bytes(path, MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}", remedy="check the path") from None
    if len(raw) > MAX_BYTES:
        raise DataError(f"{name}: larger than {MAX_BYTES:,} bytes, so not one of our data files")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name}:{line} byte {error.start} is not UTF-8", remedy="save the file in UTF-8 encoding"
        ) from None


def _refuse_tabs(name: str, text: str) -> None:
    for number, line in enumerate(text.splitlines(), start=1):
        if "\t" in line:
            raise DataError(
                f"{name}:{number} there is a tab in column {line.index(chr(9)) + 1}: YAML forbids tabs as indentation",
                remedy="replace each tab by spaces",
            )


def _scan(name: str, text: str) -> None:
    """Refuse anchors, aliases and deep nesting, event by event: compose() resolves the first without a trace, and the
    C parser's compose() overflows the stack on the last."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line = event.start_mark.line + 1 if event.start_mark else 1
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            kind = "an alias (*" if isinstance(event, yaml.AliasEvent) else "an anchor (&"
            raise DataError(
                f"{name}:{line} {kind}{anchor}) is not allowed in our data files",
                remedy="write the value out; a reader sees then what it is",
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise DataError(f"{name}:{line} nested deeper than {_MAX_DEPTH} levels, so not one of our data files")
