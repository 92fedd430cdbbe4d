"""What the service asks for (``serve/requirements*.in``) and what is left out (``serve/overrides.txt``), read strictly.

uv reads more in such a file: a folder or an archive to build, a URL, options, other files. Each of these runs code of
whoever wrote the line, or takes code from where he says, on the machine that locks. So a line is a PEP 508 requirement
by name, or it is refused before uv sees it; and what uv gets is written anew from what was read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from matrix import tree
from matrix.document import display_name, read_text
from matrix.errors import DataError

# pip and uv take a name that ends so for a file of the current folder.
_ARCHIVE = re.compile(r"\.(?:whl|zip|tar|tgz|tbz|txz|tlz|gz|bz2|xz|lz|lzma|zst|egg)$", re.IGNORECASE)
_REMEDY = "write `name`, `name==version` or `name ; marker`: no path, URL, option or variable"


def read_requirements(path: Path) -> tuple[Requirement, ...]:
    """The requirements of a file, comments left out.

    Raises:
        DataError: the file is not there or cannot be read, or a line of it is no requirement by name: file, line and
            remedy.
    """
    if not tree.exists(path):
        raise DataError(
            f"{display_name(path)}: there is no such file, and the locks are computed from it",
            remedy=f"write it, a requirement a line; an empty {path.name} asks for nothing",
        )
    found = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        place = f"{display_name(path)}:{number}"
        if not line.isprintable():
            raise DataError(f"{place} {line[:60]!a} holds a control character", remedy=_REMEDY)
        text = re.split(r"(?:^| )#", line, maxsplit=1)[0].strip(" ")
        if text:
            found.append(parse_requirement(text, place))
    return tuple(found)


def parse_requirement(text: str, place: str) -> Requirement:
    """One requirement by name; ``place`` is what errors name.

    Raises:
        DataError: it is none, or names a place.
    """
    if not (text.isascii() and text.isprintable()):
        raise DataError(f"{place} {text[:60]!a} holds a character that no requirement has", remedy=_REMEDY)
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise DataError(f"{place} {text[:60]!r} is no requirement by name", remedy=_REMEDY) from None
    if requirement.url is not None or _ARCHIVE.search(requirement.name):
        raise DataError(
            f"{place} {requirement.name}: it is taken from a place that this line names, and not from a package index",
            remedy=_REMEDY,
        )
    return requirement


def write_requirements(requirements: Iterable[Requirement], path: Path) -> Path:
    """Write requirements for uv: what was read, and nothing that was not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{requirement}\n" for requirement in requirements), encoding="utf-8")
    return path
