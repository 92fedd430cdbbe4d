"""Read a YAML file into plain values that remember their lines: the edge between files and the loader.

The one reader of YAML that the project has. Its subset is small on purpose: one document, UTF-8, no tabs, no control
or invisible characters, no anchors, aliases, tags, directives or merge keys, no duplicate keys, and limits on bytes,
depth, values and the length of each. What is left cannot expand (no "billion laughs"), takes no more time than its
bytes, and means the same to people, to this reader and to every other one (``matrix/scalars.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from matrix import tree
from matrix.errors import DataError
from matrix.scalars import Kind, kind_of
from matrix.shown import escaped, is_plain, shown

KeyPath = tuple[str | int, ...]

#: A data file of ours is some ten kilobytes; a megabyte is a wrong file, and is not read on.
MAX_BYTES = 1_000_000
#: Ours are five levels deep, have two thousand values, and the longest of these has some hundred characters.
_MAX_DEPTH = 50
_MAX_NODES = 50_000
_MAX_SCALAR = 20_000
_SHOWN_KEY = 200

# The C parser is ten times faster and gives the same marks; PyYAML may be installed without it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NOT_OURS = "so not one of our data files"


def show_path(keys: KeyPath) -> str:
    """Write a key path as a person does: ``axes.torch[2]``."""
    text = ""
    for key in keys:
        name = f"[{key}]" if isinstance(key, int) else shown(key, _SHOWN_KEY)
        text += name if isinstance(key, int) or not text else f".{name}"
    return text or "(document)"


@dataclass(slots=True)
class Node:
    """A value of a file, and its line.

    Attributes:
        text: of a scalar.
        items: of a list its nodes; of a mapping key, value, key, value.
        surprise: what other readers of YAML take the text for, where that is not what it looks like.
    """

    kind: Kind
    line: int
    text: str = ""
    items: Sequence[Node] = ()
    surprise: str | None = None

    def pairs(self) -> Iterator[tuple[Node, Node]]:
        """The keys and values of a mapping."""
        return zip(self.items[::2], self.items[1::2], strict=True)


@dataclass(slots=True)
class Document:
    """A YAML file, its root node, and (once a spec has read it) the line of every key path."""

    path: Path
    root: Node
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
    return Document(path, compose_text(read_text(path), display_name(path)))


def compose_text(text: str, name: str) -> Node:
    """Compose a text of YAML; ``name`` is what errors call it.

    Raises:
        DataError: it is empty, not YAML, or outside the subset.
    """
    _refuse_characters(name, text)
    try:
        return _compose(name, yaml.parse(text, Loader=_LOADER))
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


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """Read a file of text, with ``\\n`` at the end of its lines.

    Raises:
        DataError: it cannot be read, has more than ``limit`` bytes, or is not UTF-8.
    """
    name = display_name(path)
    try:
        raw = tree.read_bytes(path, limit + 1)
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}", remedy="check the path") from None
    if len(raw) > limit:
        raise DataError(f"{name}: larger than {limit:,} bytes, {_NOT_OURS}")
    try:
        return raw.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name}:{line} byte {error.start} is not UTF-8", remedy="save the file in UTF-8 encoding"
        ) from None


def _refuse_characters(name: str, text: str) -> None:
    """Refuse what a reader cannot see, in comments too, and what PyYAML takes for a line's end and an editor does not.

    Directives as well: nobody needs one, and the parser compares each with all before it.
    """
    strange = {char for char in set(text) if char != "\n" and not is_plain(char)}
    directive = re.search(r"^%", text, re.MULTILINE)
    if not strange and not directive:
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if "\t" in line:
            raise DataError(
                f"{name}:{number} there is a tab in column {line.index(chr(9)) + 1}: YAML forbids tabs as indentation",
                remedy="replace each tab by spaces",
            )
        if found := next((char for char in line if char in strange), None):
            raise DataError(
                f"{name}:{number} character {escaped(found)} in column {line.index(found) + 1} is not allowed: it is a"
                " control character, or cannot be seen",
                remedy="remove it",
            )
        if line.startswith("%"):
            raise DataError(
                f"{name}:{number} a directive (%) is not allowed in our data files",
                remedy="remove the line; a text that begins with % goes into quotes",
            )


def _compose(name: str, events: Iterator[yaml.Event]) -> Node:
    """Make nodes of events, within the limits, one event at a time: the parser is never let run ahead of them."""
    top: list[Node] = []
    open_: list[list[Node]] = [top]  # the items of every list and mapping that has begun and not ended
    count = 0
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            open_.pop()
        elif isinstance(event, yaml.NodeEvent):
            count += 1
            node = _node(name, event)
            if count > _MAX_NODES or len(open_) > _MAX_DEPTH:
                much = f"more than {_MAX_NODES:,} values"
                deep = f"nested deeper than {_MAX_DEPTH} levels"
                raise DataError(f"{name}:{node.line} {much if count > _MAX_NODES else deep}, {_NOT_OURS}")
            open_[-1].append(node)
            if isinstance(event, yaml.CollectionStartEvent):
                items: list[Node] = []
                node.items = items
                open_.append(items)
        elif isinstance(event, yaml.DocumentStartEvent) and top:
            raise DataError(
                f"{name}:{_line(event)} not valid YAML for us: a second document begins", remedy="remove the '---'"
            )
    if not top:
        raise DataError(f"{name}:1 the file is empty", remedy="restore it from version control")
    return top[0]


def _node(name: str, event: yaml.NodeEvent) -> Node:
    line = _line(event)
    if event.anchor is not None:
        kind = "an alias (*" if isinstance(event, yaml.AliasEvent) else "an anchor (&"
        raise DataError(
            f"{name}:{line} {kind}{shown(event.anchor, _SHOWN_KEY)}) is not allowed in our data files",
            remedy="write the value out; a reader sees then what it is",
        )
    if (tag := getattr(event, "tag", None)) is not None:
        raise DataError(
            f"{name}:{line} a tag ({shown(tag, _SHOWN_KEY)}) is not allowed in our data files",
            remedy="remove it; a text goes into quotes",
        )
    if not isinstance(event, yaml.ScalarEvent):
        return Node(Kind.LIST if isinstance(event, yaml.SequenceStartEvent) else Kind.MAPPING, line)
    if len(event.value) > _MAX_SCALAR:
        raise DataError(f"{name}:{line} a text of {len(event.value):,} characters, {_NOT_OURS}")
    if not event.implicit[0]:  # in quotes, or a block
        return Node(Kind.TEXT, line, event.value)
    found, surprise = kind_of(event.value)
    return Node(found, line, event.value, surprise=surprise)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
