"""What a lock holds: the decision of each target, its wheel with the evidence, and the wheels that were refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from matrix import Abi, Arch, Cuda, Driver, PythonVersion
from wheel_resolver.core.facts import Inspection
from wheel_resolver.inside.records import inspection_of, inspection_row


@dataclass(frozen=True, slots=True)
class LockedWheel:
    """A pinned wheel.

    Attributes:
        size: bytes, where it is known.
        digest: whether the sha256 was ``published`` by the provider or ``computed`` by us.
        sass: the GPU code that it holds.
        driver: the first driver that loads it, where its code asks for more than its CUDA does.
        evidence: what that rests on: ``label``, ``recipe``, ``inspected``, ``loaded``.
        inspection: what was found inside, where it was looked into.
    """

    name: str
    url: str
    sha256: str
    size: int | None
    version: str
    tag: str
    provider: str
    updated_at: str | None
    sass: tuple[Arch, ...]
    evidence: str
    digest: str = "published"
    driver: Driver | None = None
    inspection: Inspection | None = None


@dataclass(frozen=True, slots=True)
class RefusedWheel:
    """A wheel that was looked into and is not what it says."""

    name: str
    sha256: str
    because: str


@dataclass(frozen=True, slots=True)
class SourceBuild:
    """The pinned source that a source build compiles; ``size`` in bytes."""

    version: str
    sdist: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class LockedTarget:
    """One target's decision.

    Attributes:
        inputs: the sha256 of all that it was decided from; another matrix, fact or rule gives another.
        archs: those of the target's GPUs (none for cpu).
        refused: wheels that would have been chosen, and are not what they say.
    """

    name: str
    inputs: str
    python: PythonVersion
    torch: Version
    cuda: Cuda
    abi: Abi
    platform: str
    archs: tuple[Arch, ...]
    attention: str
    backend: str
    reason: str
    wheel: LockedWheel | None
    source_build: SourceBuild | None
    refused: tuple[RefusedWheel, ...] = ()

    def hash(self) -> str:
        """The sha256 of the decision, in a canonical form that no other target and no question moves."""
        row = {name: value for name, value in to_row(self).items() if name != "inputs"}
        text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def inspections(targets: Iterable[LockedTarget]) -> Mapping[str, Inspection]:
    """What locked targets know of the insides of wheels, by their sha256."""
    found: dict[str, Inspection] = {}
    for target in targets:
        found |= {refused.sha256: Inspection(refusal=refused.because) for refused in target.refused}
        if target.wheel is not None and target.wheel.inspection is not None:
            found[target.wheel.sha256] = target.wheel.inspection
    return found


def to_row(target: LockedTarget) -> dict[str, Any]:
    """A target as the lock's YAML has it."""
    build = target.source_build
    return {
        "inputs": f"sha256:{target.inputs}",
        "python": str(target.python),
        "torch": str(target.torch),
        "cuda": str(target.cuda),
        "abi": str(target.abi),
        "platform": target.platform,
        "archs": [arch.capability for arch in target.archs],
        "attention": target.attention,
        "backend": target.backend,
        "reason": target.reason,
        "wheel": None if target.wheel is None else _wheel_row(target.wheel),
        "source_build": build
        and {"version": build.version, "sdist": build.sdist, "sha256": build.sha256, "size": build.size},
        "refused": [{"name": each.name, "sha256": each.sha256, "because": each.because} for each in target.refused],
    }


def _wheel_row(wheel: LockedWheel) -> dict[str, Any]:
    return {
        "name": wheel.name,
        "url": wheel.url,
        "sha256": wheel.sha256,
        "digest": wheel.digest,
        "size": wheel.size,
        "version": wheel.version,
        "tag": wheel.tag,
        "provider": wheel.provider,
        "updated_at": wheel.updated_at,
        "evidence": wheel.evidence,
        "sass": [arch.capability for arch in wheel.sass],
        "driver": str(wheel.driver) if wheel.driver else None,
        "inspection": None if wheel.inspection is None else inspection_row(wheel.inspection),
    }


def from_row(name: str, row: dict[str, Any]) -> LockedTarget:
    """The other way."""
    wheel, build = row["wheel"], row["source_build"]
    return LockedTarget(
        name=name,
        inputs=row.get("inputs", "").removeprefix("sha256:"),
        python=PythonVersion.parse(row["python"]),
        torch=Version(row["torch"]),
        cuda=Cuda.parse(row["cuda"]),
        abi=Abi(row["abi"]),
        platform=row["platform"],
        archs=tuple(map(Arch.parse, row["archs"])),
        attention=row["attention"],
        backend=row["backend"],
        reason=row["reason"],
        wheel=wheel and _wheel(wheel),
        source_build=build and SourceBuild(**build),
        refused=tuple(RefusedWheel(**each) for each in row.get("refused", ())),
    )


def _wheel(row: dict[str, Any]) -> LockedWheel:
    driver, seen = row.get("driver"), row.get("inspection")
    changed: dict[str, Any] = {
        "sass": tuple(map(Arch.parse, row["sass"])),
        "evidence": row.get("evidence", "label"),
        "driver": Driver.parse(driver) if driver else None,
        "inspection": None if seen is None else inspection_of(seen),
    }
    return LockedWheel(**{**row, **changed})
