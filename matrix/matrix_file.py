"""``matrix.yaml``: its shape, and how its text becomes ``Matrix``. What it means is judged in ``checks.py``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix.checks import check_aliases, check_axes, check_exclusions, check_export, check_target, check_trims
from matrix.compat import Compat
from matrix.document import read_document
from matrix.known import newest_patch
from matrix.model import COMPRESSIONS, Axes, Budget, DefaultAttention, Exclusion, Export, Matrix, Target
from matrix.providers import PROVIDER, read_providers
from matrix.shapes import (
    ASKED_ABI,
    ASKED_CUDA,
    ASKED_PLATFORM,
    ASKED_PYTHON,
    ASKED_SPECIFIER,
    ASKED_TORCH,
    NAME,
    TARGET,
    TIERS,
)
from matrix.spec import Choice, Entries, Flag, Items, Nullable, Record, Spec, Text, Whole, exactly, read
from matrix.trims import Trim
from matrix.typed import make_canonical
from matrix.values import Abi, Arch, Cuda, PythonVersion

_GPU = Text("a GPU's name, as in compat.yaml or as nvidia-smi prints it")
_ATTENTION = Choice(("flash_attention_2", "sdpa", "eager"))

# As the hub has it: no part begins or ends with a dot or a dash, so none is a folder's `..` either.
_HUB = "[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"

_BUDGET = dict.fromkeys(("compressed_mb", "unpacked_mb", "layers", "extra_mb"), Whole(1, 100_000))

_TARGET = Record(
    {
        "description": Text(),
        "tier": Choice(TIERS),
        "python": ASKED_PYTHON,
        "torch": ASKED_TORCH,
        "cuda": ASKED_CUDA,
        "platform": ASKED_PLATFORM,
        "gpus": Items(_GPU),
        "model": Text("a hub id: owner/name", exactly(rf"(?!.*(?:--|\.\.)){_HUB}/{_HUB}")),
        "base": Choice(("slim", "devel")),
        "flash_attn": Nullable(ASKED_SPECIFIER),
        "source_build": Flag(),
        "trims": Items(NAME),
        "budget": Record(_BUDGET, frozenset({"extra_mb"})),
        "attention": Record({"value": _ATTENTION, "because": Text(), "source": Text()}),
    },
    optional=frozenset({"trims", "budget"}),
)

_MATCH_KEYS: dict[str, Spec] = {
    "python": ASKED_PYTHON,
    "torch": ASKED_TORCH,
    "cuda": ASKED_CUDA,
    "gpu": _GPU,
    "platform": ASKED_PLATFORM,
}

#: The shape of matrix.yaml; ``python -m matrix schema`` writes it as JSON schema.
SPEC: Spec = Record(
    {
        "schema": Whole(1, 1),
        "axes": Record(
            {
                "python": Items(ASKED_PYTHON, at_least=1),
                "torch": Items(ASKED_TORCH, at_least=1),
                "cuda": Items(ASKED_CUDA, at_least=1),
                "abi": Items(ASKED_ABI, at_least=1),
                "gpu": Items(_GPU, at_least=1),
                "platform": Items(ASKED_PLATFORM, at_least=1),
            }
        ),
        "exclude": Items(
            Record({"match": Record(_MATCH_KEYS, frozenset(_MATCH_KEYS)), "because": Text(), "source": Text()})
        ),
        "providers": Items(PROVIDER),
        "reuse": Choice(("none", "measured")),
        "export": Record({"compression": Choice(tuple(COMPRESSIONS)), "level": Whole(1, 22)}),
        "targets": Entries(TARGET, _TARGET, at_least=1),
        "aliases": Entries(NAME, NAME),
    },
    optional=frozenset({"exclude", "providers", "reuse", "export", "aliases"}),
)


def load_matrix(path: Path, compat: Compat, trims: Mapping[str, Trim]) -> Matrix:
    """Read a matrix and judge it against the facts.

    Raises:
        DataError: the first mistake, with file, line, key path, reason and remedy.
    """
    document = read_document(path)
    data = read(document, SPEC)
    make_canonical(document, data, compat)
    check_axes(document, data["axes"], compat)
    for name, row in data["targets"].items():
        check_target(document, name, row, compat)
        check_trims(document, name, row, trims)
    check_export(document, data.get("export"))
    check_aliases(document, data.get("aliases", {}), data["targets"])
    axes = _axes(data["axes"], compat)
    exclude = tuple(_exclusion(row) for row in data.get("exclude", []))
    check_exclusions(document, data.get("exclude", []), exclude, axes, compat)
    return Matrix(
        axes=axes,
        exclude=exclude,
        targets={name: _target(name, row) for name, row in data["targets"].items()},
        aliases=data.get("aliases", {}),
        providers=read_providers(document, data.get("providers", []), compat),
        reuse=data.get("reuse") == "measured",
        export=Export(**data["export"]) if "export" in data else Export(),
    )


def _axes(row: dict[str, Any], compat: Compat) -> Axes:
    gpus: dict[Arch, str] = {}
    for name in row["gpu"]:
        gpus.setdefault(compat.gpus[name], name)
    return Axes(
        python=tuple(PythonVersion.parse(text) for text in row["python"]),
        torch=tuple(newest_patch(text, compat) for text in row["torch"]),
        cuda=tuple(Cuda.parse(text) for text in row["cuda"]),
        abi=tuple(None if text == "derived" else Abi(text) for text in row["abi"]),
        gpu=tuple((name, arch) for arch, name in gpus.items()),
        platform=tuple(row["platform"]),
    )


def _exclusion(row: dict[str, Any]) -> Exclusion:
    match = row["match"]
    return Exclusion(
        python=PythonVersion.parse(match["python"]) if "python" in match else None,
        torch=match.get("torch"),
        cuda=Cuda.parse(match["cuda"]) if "cuda" in match else None,
        gpu=match.get("gpu"),
        platform=match.get("platform"),
        because=row["because"],
        source=row["source"],
    )


def _target(name: str, row: dict[str, Any]) -> Target:
    attention = row["attention"]
    return Target(
        name=name,
        description=row["description"],
        tier=row["tier"],
        python=PythonVersion.parse(row["python"]),
        torch=Version(row["torch"]),
        cuda=Cuda.parse(row["cuda"]),
        platform=row["platform"],
        gpus=tuple(row["gpus"]),
        model=row["model"],
        base=row["base"],
        flash_attn=SpecifierSet(row["flash_attn"]) if row["flash_attn"] is not None else None,
        source_build=row["source_build"],
        trims=tuple(row.get("trims", [])),
        budget=Budget(**row["budget"]) if "budget" in row else None,
        attention=DefaultAttention(attention["value"], attention["because"], attention["source"]),
    )
