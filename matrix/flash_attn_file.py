"""The part of ``compat.yaml`` on flash-attn: its shape, and how its text becomes ``FlashAttnFacts``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix.document import Document, KeyPath
from matrix.flash_attn_facts import (
    BuildRecipe,
    CodeFor,
    FlashAttnFacts,
    GlibcNeed,
    LaterUploads,
    RecipeTorch,
    Reuse,
    RuntimeGate,
    Sdist,
    SourceBuildFacts,
    WheelSass,
)
from matrix.shapes import CAPABILITY, CUDA, DRIVER, MINOR, PYTHON, SHA256, SPECIFIER, VERSION
from matrix.spec import Entries, Flag, Items, Record, Spec, Text, Whole, exactly
from matrix.values import Arch, Cuda, Driver, PythonVersion

_TAG = Text("a release tag such as v2.8.3", exactly(r"v\d[\w.]*"))
_RUNNER = Text("a runner such as ubuntu-22.04", exactly(r"[a-z]+-[\d.]+"))

#: Machine code: the archs, and the arch whose PTX is there too.
CODE: dict[str, Spec] = {"sass": Items(CAPABILITY, at_least=1), "ptx": CAPABILITY}

_RECIPE = Record(
    {
        "tags": Items(_TAG, at_least=1),
        "runner": _RUNNER,
        "python": Items(PYTHON, at_least=1),
        "toolkits": Items(VERSION, at_least=1),
        "torch": Entries(VERSION, Items(CUDA), at_least=1),
        "archs": Items(CAPABILITY, at_least=1),
        "compressed": Flag(),
    },
    optional=frozenset({"compressed"}),
)

#: The shape of ``compat.yaml: flash_attn``.
SPEC = Record(
    {
        "repository": Text("owner/name", exactly(r"[\w.-]+/[\w.-]+")),
        "recipes_source": Text(),
        "recipes": Items(_RECIPE, at_least=1),
        "nvcc_source": Text(),
        "nvcc": Entries(CAPABILITY, MINOR, at_least=1),
        "runners_source": Text(),
        "runners": Entries(_RUNNER, MINOR, at_least=1),
        "compressed": Record({"driver": DRIVER, "source": Text()}),
        "later_uploads": Record({"glibc": MINOR, "source": Text()}),
        "sass": Items(Record({"version": SPECIFIER, **CODE, "source": Text()}, frozenset({"ptx"})), at_least=1),
        "runtime_gate": Items(
            Record(
                {"version": SPECIFIER, "least": CAPABILITY, "most": CAPABILITY, "source": Text()},
                frozenset({"most"}),
            )
        ),
        "glibc": Items(Record({"version": SPECIFIER, "glibc": MINOR, "source": Text()})),
        "reuse": Items(
            Record({"wheel_torch": MINOR, "loads_on": Items(MINOR), "fails_on": Items(MINOR), "source": Text()})
        ),
        "source_build": Record(
            {
                "max_torch": MINOR,
                "source": Text(),
                "sdists": Items(
                    Record({"version": VERSION, "name": Text(), "sha256": SHA256, "size": Whole(1, 10**12)}),
                    at_least=1,
                ),
            }
        ),
    }
)


def check(document: Document, row: Mapping[str, Any]) -> None:
    """Each recipe names a known runner, and for each torch one build a toolkit, or none where that is not known.

    Raises:
        DataError: one does not.
    """
    for index, recipe in enumerate(row["recipes"]):
        keys: KeyPath = ("flash_attn", "recipes", index)
        if recipe["runner"] not in row["runners"]:
            raise document.error(
                (*keys, "runner"), f"{recipe['runner']!r} has no glibc below", remedy="add it to flash_attn.runners"
            )
        for torch, builds in recipe["torch"].items():
            if builds and len(builds) != len(recipe["toolkits"]):
                raise document.error(
                    (*keys, "torch", torch),
                    f"names {len(builds)} builds of torch for {len(recipe['toolkits'])} toolkits",
                    remedy="write one CUDA for each toolkit, or []",
                )


def code(row: dict[str, Any]) -> CodeFor:
    """A row's machine code."""
    return CodeFor(tuple(map(Arch.parse, row["sass"])), Arch.parse(row["ptx"]) if "ptx" in row else None)


def build(row: dict[str, Any]) -> FlashAttnFacts:
    """Make the facts of what ``SPEC`` read."""
    later = row["later_uploads"]
    return FlashAttnFacts(
        repository=row["repository"],
        recipes={tag: recipe for each in row["recipes"] for recipe in (_recipe(each),) for tag in each["tags"]},
        nvcc={Arch.parse(arch): Version(toolkit) for arch, toolkit in row["nvcc"].items()},
        runners={name: Version(glibc) for name, glibc in row["runners"].items()},
        compressed_driver=Driver.parse(row["compressed"]["driver"]),
        later_uploads=LaterUploads(Version(later["glibc"]), later["source"]),
        sass=tuple(WheelSass(SpecifierSet(each["version"]), code(each)) for each in row["sass"]),
        runtime_gate=tuple(
            RuntimeGate(
                SpecifierSet(each["version"]),
                Arch.parse(each["least"]),
                Arch.parse(each["most"]) if "most" in each else None,
            )
            for each in row["runtime_gate"]
        ),
        glibc=tuple(GlibcNeed(SpecifierSet(each["version"]), Version(each["glibc"])) for each in row["glibc"]),
        reuse=tuple(
            Reuse(each["wheel_torch"], tuple(each["loads_on"]), tuple(each["fails_on"]), each["source"])
            for each in row["reuse"]
        ),
        source_build=_source_build(row["source_build"]),
    )


def _recipe(row: dict[str, Any]) -> BuildRecipe:
    toolkits = [Version(text) for text in row["toolkits"]]
    return BuildRecipe(
        runner=row["runner"],
        pythons=frozenset(PythonVersion.parse(text).tag for text in row["python"]),
        toolkits={toolkit.major: toolkit for toolkit in toolkits},
        torch={
            f"{version.major}.{version.minor}": RecipeTorch(
                version,
                {toolkit.major: Cuda.parse(cuda) for toolkit, cuda in zip(toolkits, cudas, strict=False)},
            )
            for version, cudas in ((Version(text), cudas) for text, cudas in row["torch"].items())
        },
        archs=tuple(map(Arch.parse, row["archs"])),
        compressed=row.get("compressed", False),
    )


def _source_build(row: dict[str, Any]) -> SourceBuildFacts:
    return SourceBuildFacts(
        Version(row["max_torch"]),
        row["source"],
        tuple(Sdist(Version(each["version"]), each["name"], each["sha256"], each["size"]) for each in row["sdists"]),
    )
