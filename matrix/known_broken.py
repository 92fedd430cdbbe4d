"""``known_broken.yaml``: wheels that every other rule accepts and that do not work."""

from __future__ import annotations

from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from matrix.document import read_document
from matrix.model import KnownBroken
from matrix.shapes import MINOR, PYTHON, SPECIFIER
from matrix.spec import Entries, Items, Record, Spec, Text, Whole, exactly, read

_MATCH: dict[str, Spec] = {
    "torch": SPECIFIER,
    "flash_attn": SPECIFIER,
    "wheel_torch": MINOR,
    "wheel_python": PYTHON,
    "installed": Entries(Text("a project's name", exactly(r"[a-z0-9]+(?:-[a-z0-9]+)*")), SPECIFIER, at_least=1),
}

#: The shape of known_broken.yaml.
SPEC: Spec = Record(
    {
        "schema": Whole(1, 1),
        "known_broken": Items(
            Record(
                {
                    "match": Record(_MATCH, frozenset(_MATCH)),
                    "because": Text(),
                    "workaround": Text(),
                    "source": Text(),
                }
            )
        ),
    }
)


def load_known_broken(path: Path) -> tuple[KnownBroken, ...]:
    """Read the list.

    Raises:
        DataError: the structure is wrong, a specifier is not one, or a match is empty.
    """
    document = read_document(path)
    result = []
    for index, row in enumerate(read(document, SPEC)["known_broken"]):
        match, keys = row["match"], ("known_broken", index, "match")
        if not match:
            raise document.error(keys, "an empty match would condemn every wheel", remedy="name what is broken")
        try:
            torch, flash_attn = (SpecifierSet(match[key]) if key in match else None for key in ("torch", "flash_attn"))
            installed = {name: SpecifierSet(wanted) for name, wanted in match.get("installed", {}).items()}
        except InvalidSpecifier as error:
            raise document.error(keys, str(error)) from None
        result.append(
            KnownBroken(
                torch,
                flash_attn,
                match.get("wheel_torch"),
                match.get("wheel_python"),
                row["because"],
                row["workaround"],
                row["source"],
                installed,
            )
        )
    return tuple(result)
