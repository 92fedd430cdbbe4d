"""``trims.yaml``: what can go from an image without harm, where that was seen, and what notices if it is not so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matrix.document import read_document
from matrix.shapes import CUDA, NAME
from matrix.spec import Choice, Entries, Items, Record, Spec, Text, Whole, exactly, read
from matrix.values import Cuda

_PATH = Text(
    "a path below site-packages, with * and ? below its first folder", exactly(r"[\w.+-]*\w[\w.+-]*(?:/[\w.*?+-]+)*")
)

_TRIM = Record(
    {
        "list": Choice(("nvidia.txt", "torch.txt", "model.txt")),
        "paths": Items(_PATH, at_least=1),
        "because": Text(),
        "source": Text(),
        "proven": Items(CUDA),
        "inferred": Items(CUDA),
        "check": Text("a Python statement that fails in an image where something is missing"),
    }
)

#: The shape of trims.yaml.
SPEC: Spec = Record({"schema": Whole(1, 1), "trims": Entries(NAME, _TRIM)})


@dataclass(frozen=True, slots=True)
class Trim:
    """Files that an image can be without.

    Attributes:
        list: the locked list whose layer holds them.
        paths: patterns below site-packages; ``*`` matches ``/`` too (find's -path).
        proven, inferred: the CUDA versions for which it is on, or may be asked for.
        check: a Python statement that runs in the image.
    """

    name: str
    list: str
    paths: tuple[str, ...]
    because: str
    source: str
    proven: tuple[Cuda, ...]
    inferred: tuple[Cuda, ...]
    check: str


def load_trims(path: Path) -> dict[str, Trim]:
    """Read the trims.

    Raises:
        DataError: the file's structure is wrong.
    """
    rows = read(read_document(path), SPEC)["trims"]
    return {
        name: Trim(
            name=name,
            list=row["list"],
            paths=tuple(row["paths"]),
            because=row["because"],
            source=row["source"],
            proven=tuple(map(Cuda.parse, row["proven"])),
            inferred=tuple(map(Cuda.parse, row["inferred"])),
            check=row["check"],
        )
        for name, row in rows.items()
    }
