"""The hashed requirements of a stack: files in ``dockerfiles/locks/<stack>/``, one per layer.

A build hands them to uv, which knows much more than we want of them: options, URLs, other files, variables. So each is
read by a grammar that has none of these, whole, before anything uses it:

    # comments, among them `# inputs: sha256:...` and `# content: sha256:...` (see matrix.seal)
    name==version [; marker] \\
        --hash=sha256:<64 hex digits> [\\]
        # via ...
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from packaging.markers import InvalidMarker, Marker
from packaging.version import InvalidVersion, Version

from matrix.document import display_name
from matrix.errors import DataError
from matrix.seal import broken_seal

# Layer order: what changes least, and weighs most, first.
RUNTIME_LISTS = ("nvidia.txt", "torch.txt", "model.txt")
# What a builder needs beside them, and no image holds.
BUILD_LISTS = ("toolkit.txt", "build.txt")
LISTS = (*RUNTIME_LISTS, *BUILD_LISTS)

_INPUTS = re.compile(r"^# inputs: sha256:([0-9a-f]{64})$", re.MULTILINE)
# No backslash: pip joins a line that ends in one with the next, comments too.
_COMMENT = re.compile(r"#[ -\[\]-~]*")
_PIN = re.compile(
    r"(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)==(?P<version>[0-9][0-9a-z.+!]*)(?: ; (?P<marker>[\w.'\"<>=!~() -]+))? \\",
    re.ASCII,
)
_HASH = re.compile(r"    --hash=sha256:(?P<digest>[0-9a-f]{64})(?P<more> \\)?")
_VIA = re.compile(rf"    {_COMMENT.pattern}")


@dataclass(frozen=True, slots=True)
class Pin:
    """One locked distribution: its name (normalized), version and the sha256 of each of its files."""

    name: str
    version: str
    hashes: tuple[str, ...]
    marker: str = ""


@dataclass(frozen=True, slots=True)
class StackLock:
    """The requirement files of one stack.

    Attributes:
        lists: file name -> text.
        inputs: sha256 of what they were computed from (see ``images.lock_inputs``).
    """

    stack: str
    lists: Mapping[str, str]
    inputs: str

    def digests(self, names: Iterable[str] = RUNTIME_LISTS) -> dict[str, str]:
        """File name -> sha256 of its text, for what reaches the runtime or for the named files."""
        return {name: hashlib.sha256(self.lists[name].encode()).hexdigest() for name in names if name in self.lists}

    def pins(self) -> list[Pin]:
        """Every locked distribution."""
        return [pin for text in self.lists.values() for pin in parse_pins(text)]


class _Reader:
    """Reads one file line by line; what fits no rule is refused with its line."""

    def __init__(self, text: str, place: str) -> None:
        self._lines = text.split("\n")
        self._place = place
        self._at = 0
        if self._lines.pop() != "" or not self._lines:
            self._at = len(self._lines)
            self.refuse("the file does not end in a whole line")

    def refuse(self, why: str) -> NoReturn:
        raise DataError(f"{self._place}:{self._at + 1} {why}", remedy="restore it, or lock anew: make lock")

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.fullmatch(self._lines[self._at]) if self._at < len(self._lines) else None
        self._at += found is not None
        return found

    def pins(self) -> list[Pin]:
        while self.take(_COMMENT):
            pass
        pins: list[Pin] = []
        markers: dict[str, set[str]] = {}
        while self._at < len(self._lines):
            pin = self._pin()
            known = markers.setdefault(pin.name, set())
            if known and ("" in known or pin.marker in known or not pin.marker):
                self.refuse(f"{pin.name} stands in this file twice, the second time above this line")
            known.add(pin.marker)
            pins.append(pin)
        return pins

    def _pin(self) -> Pin:
        found = self.take(_PIN)
        if found is None:
            shown = ascii(self._lines[self._at][:60])
            self.refuse(f"{shown} is no `name==version \\`: a lock holds pins with their hashes, and nothing else")
        name, version, marker = found["name"], found["version"], found["marker"] or ""
        try:
            Version(version)
            _ = Marker(marker) if marker else None
        except (InvalidVersion, InvalidMarker) as error:
            self._at -= 1
            self.refuse(f"{name}: {' '.join(str(error).split())[:100]}")
        hashes = []
        more = True
        while more:
            line = self.take(_HASH)
            if line is None:
                self.refuse(f"{name} needs `    --hash=sha256:` and 64 hex digits here")
            hashes.append(line["digest"])
            more = line["more"] is not None
        while self.take(_VIA):
            pass
        return Pin(name, version, tuple(hashes), marker)


def parse_pins(text: str, place: str = "locked requirements") -> list[Pin]:
    """Read a file of locked requirements; ``place`` is what errors name.

    Raises:
        DataError: a line that does not fit the grammar, or a name that stands twice.
    """
    return _Reader(text, place).pins()


def read_stack_lock(folder: Path) -> StackLock:
    """Read ``dockerfiles/locks/<stack>/``: each file is in the grammar, and what its own digest says.

    Raises:
        DataError: the folder or a needed file is missing, a file is no lock or was edited by hand, or the files are not
            of one run.
    """
    lists = {name: _read(folder / name) for name in LISTS if (folder / name).is_file() or (folder / name).is_symlink()}
    if not {"torch.txt", "model.txt"} <= lists.keys():
        raise DataError(f"{display_name(folder)}: no locked requirements for this stack", remedy="make lock")
    pins: dict[str, Pin] = {}
    for name, text in lists.items():
        place = display_name(folder / name)
        for pin in parse_pins(text, place):  # the grammar first: it says which line is wrong
            if pins.setdefault(f"{pin.name};{pin.marker}", pin) != pin:
                raise DataError(f"{place}: another list of this stack pins another {pin.name}", remedy="make lock")
        if (fault := broken_seal(text)) is not None:
            raise DataError(f"{place}:1 {fault}", remedy="restore it, or lock anew: make lock")
    inputs = {digest for text in lists.values() for digest in _INPUTS.findall(text) or ["none"]}
    if len(inputs) != 1 or "none" in inputs:
        raise DataError(f"{display_name(folder)}: its files are not of one run (`# inputs:`)", remedy="make lock")
    return StackLock(folder.name, lists, inputs.pop())


def _read(path: Path) -> str:
    if path.is_symlink() or path.parent.is_symlink():  # an error would show a line of whatever it leads to
        raise DataError(f"{display_name(path.parent)}/{path.name}: is a link, and no file of ours", remedy="restore it")
    try:
        return path.read_bytes().decode("utf-8")  # as it is: no newline is translated
    except UnicodeDecodeError as error:
        raise DataError(f"{display_name(path)}: byte {error.start} is not UTF-8", remedy="make lock") from None
    except OSError as error:
        raise DataError(f"{display_name(path)}: cannot be read: {error.strerror}", remedy="make lock") from None
