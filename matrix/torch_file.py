"""The part of ``compat.yaml`` on torch: its shape, and how its text becomes facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix import flash_attn_file
from matrix.compat import AbiException, CudaSpan, NotBuilt, TorchFacts
from matrix.document import Document
from matrix.flash_attn_facts import CodeFor
from matrix.shapes import ABI, CUDA, PLATFORM, PYTHON, SPECIFIER, VERSION
from matrix.spec import Items, Record, Spec, Text, exactly
from matrix.values import Abi, Cuda, PythonVersion

_NOT_BUILT: dict[str, Spec] = {"patch": VERSION, "cuda": CUDA, "platform": PLATFORM, "python": PYTHON}

#: The shape of a torch minor.
SPEC = Record(
    {
        "patches": Items(VERSION, at_least=1),
        "cuda": Items(CUDA, at_least=1),
        "cuda_unannounced": Items(CUDA),
        "cuda_inferred": Items(CUDA),
        "not_built": Items(Record(_NOT_BUILT, frozenset(_NOT_BUILT))),
        "default_cuda": CUDA,
        "python": Items(PYTHON, at_least=1),
        "abi": ABI,
        "abi_exceptions": Items(
            Record({"cuda": CUDA, "platform": PLATFORM, "abi": ABI}, frozenset({"cuda", "platform"}))
        ),
        "triton": Items(VERSION, at_least=1),
        "manylinux": Text(),
        "cxx": Text("a C++ standard such as 17", exactly(r"\d\d"), version=True),
    },
    optional=frozenset({"cuda_unannounced", "cuda_inferred", "not_built", "abi_exceptions"}),
)

#: The shape of a row on the GPU code in builds of torch.
SASS = Record(
    {"cuda": Items(CUDA, at_least=1), "torch": SPECIFIER, "platform": PLATFORM, **flash_attn_file.CODE},
    frozenset({"ptx"}),
)


def check(document: Document, rows: Mapping[str, Any]) -> None:
    """A CUDA build that is known is announced or not: one of them.

    Raises:
        DataError: one stands in both lists.
    """
    for minor, row in rows.items():
        for index, cuda in enumerate(row.get("cuda_unannounced", ())):
            if cuda in row["cuda"]:
                raise document.error(
                    ("torch", minor, "cuda_unannounced", index),
                    f"{cuda!r} stands in cuda, too",
                    remedy="leave it where the release notes have it: in cuda",
                )


def build(minor: str, row: dict[str, Any]) -> TorchFacts:
    """Make the facts of a torch minor of what ``SPEC`` read."""
    return TorchFacts(
        minor=minor,
        patches=tuple(sorted(map(Version, row["patches"]))),
        cuda=tuple(sorted(map(Cuda.parse, (*row["cuda"], *row.get("cuda_unannounced", ()))))),
        unannounced=frozenset(map(Cuda.parse, row.get("cuda_unannounced", ()))),
        not_built=tuple(map(_not_built, row.get("not_built", ()))),
        default_cuda=Cuda.parse(row["default_cuda"]),
        python=tuple(map(PythonVersion.parse, row["python"])),
        abi=Abi(row["abi"]),
        abi_exceptions=tuple(
            AbiException(
                Cuda.parse(exception["cuda"]) if "cuda" in exception else None,
                exception.get("platform"),
                Abi(exception["abi"]),
            )
            for exception in row.get("abi_exceptions", [])
        ),
        triton=tuple(row["triton"]),
        manylinux=row["manylinux"],
        cxx=row["cxx"],
    )


def _not_built(row: dict[str, Any]) -> NotBuilt:
    return NotBuilt(
        patch=Version(row["patch"]) if "patch" in row else None,
        cuda=Cuda.parse(row["cuda"]) if "cuda" in row else None,
        platform=row.get("platform"),
        python=PythonVersion.parse(row["python"]) if "python" in row else None,
    )


def code_by_build(rows: list[dict[str, Any]], minors: Iterable[str]) -> dict[tuple[str, Cuda, str], CodeFor]:
    """The GPU code of each torch minor, CUDA and platform.

    A row is for several minors; of two rows that name the same build the first holds.
    """
    builds: dict[tuple[str, Cuda, str], CodeFor] = {}
    versions = {minor: Version(minor) for minor in minors}
    for row in rows:
        code, torch = flash_attn_file.code(row), SpecifierSet(row["torch"])
        for minor, version in versions.items():
            if torch.contains(version):
                for cuda in map(Cuda.parse, row["cuda"]):
                    builds.setdefault((minor, cuda, row["platform"]), code)
    return builds


def cuda_spans(torches: Iterable[TorchFacts]) -> dict[Cuda, CudaSpan]:
    """Of each CUDA the torches that are known to have builds for it; the oldest torch first."""
    places: dict[Cuda, list[int]] = {}
    unannounced: set[Cuda] = set()
    for place, facts in enumerate(torches):
        unannounced |= facts.unannounced
        for cuda in facts.cuda:
            places.setdefault(cuda, []).append(place)
    return {cuda: CudaSpan(having[0], having[-1], cuda not in unannounced) for cuda, having in places.items()}
