"""The hashed requirements of a stack: files in ``dockerfiles/locks/<stack>/``, one per layer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from matrix import tree
from matrix.errors import DataError

# Layer order: what changes least, and weighs most, first.
RUNTIME_LISTS = ("nvidia.txt", "torch.txt", "model.txt")
# What a builder needs beside them, and no image holds.
BUILD_LISTS = ("toolkit.txt", "build.txt")
LISTS = (*RUNTIME_LISTS, *BUILD_LISTS)
_INPUTS = re.compile(r"^# inputs: sha256:([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pin:
    """One locked distribution: its name (normalized), version and the sha256 of each of its files."""

    name: str
    version: str
    hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StackLock:
    """The requirement files of one stack.

    Attributes:
        lists: file name -> text.
        inputs: sha256 of what they were computed from (see ``images.lock``).
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


def parse_pins(text: str) -> list[Pin]:
    """Read ``name==version`` lines with their ``--hash=sha256:`` continuation lines.

    Raises:
        DataError: a line that is neither, or a requirement without a hash or an exact version.
    """
    pins = []
    for block in re.split(r"\n(?=[A-Za-z0-9])", "\n" + re.sub(r"^\s*#.*\n?", "", text, flags=re.MULTILINE)):
        if not block.strip():
            continue
        head, *rest = block.replace("\\\n", "\n").split()
        hashes = tuple(word.removeprefix("--hash=sha256:") for word in rest if word.startswith("--hash=sha256:"))
        try:
            requirement = Requirement(head)
        except InvalidRequirement as error:
            raise DataError(f"locked requirements: {head!r} is not a requirement", remedy="make lock") from error
        exact = [spec.version for spec in requirement.specifier if spec.operator == "=="]
        if len(exact) != 1 or not hashes:
            raise DataError(f"locked requirements: {head!r} has no exact version or no hash", remedy="make lock")
        pins.append(Pin(canonicalize_name(requirement.name), exact[0], hashes))
    return pins


def read_stack_lock(folder: Path) -> StackLock:
    """Read ``dockerfiles/locks/<stack>/``.

    Raises:
        DataError: the folder, a needed file or the ``# inputs:`` line is missing.
    """
    lists = {name: tree.read_text(folder / name) for name in LISTS if tree.is_file(folder / name)}
    found = _INPUTS.search(lists.get("model.txt", ""))
    if "torch.txt" not in lists or found is None:
        raise DataError(f"{folder}: no locked requirements for this stack", remedy="make lock")
    return StackLock(folder.name, lists, found[1])
