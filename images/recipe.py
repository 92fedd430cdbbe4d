"""Recipes: what one image needs, put together from the matrix and the locks. Pure: every input is an argument."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from images.requirement_files import RUNTIME_LISTS, StackLock
from matrix import Compat, Cuda, PythonVersion, Target, Trim
from matrix.errors import DataError
from wheel_resolver.lock import LockedTarget, LockedWheel, SourceBuild

#: The date of every file in a layer: the first that a zip can hold. Constant, or each commit would change every layer.
EPOCH = 315_532_800

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Stack:
    """All that the images of one Python, torch and CUDA share: every layer below flash-attn.

    Attributes:
        name: ``py3.12-torch2.9.1-cu128``.
        base: the base image's reference, with its digest where one is locked.
        suite: the Debian suite of that base.
        lock: the hashed requirements.
        trims: what is removed, by the locked list whose layer holds it.
    """

    name: str
    python: PythonVersion
    torch: Version
    cuda: Cuda
    platform: str
    base: str
    suite: str
    lock: StackLock
    trims: Mapping[str, tuple[Trim, ...]]

    @property
    def has_nvidia(self) -> bool:
        """Whether the stack has NVIDIA's libraries as packages of their own."""
        return "nvidia.txt" in self.lock.lists


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one image needs; targets with equal recipes are the same image under several names.

    Attributes:
        name: also the moving tag, ``py3.12-torch2.9.1-cu128-fa2.8.3``.
        stack: what it shares with the other images of its Python, torch and CUDA.
        wheel: the prebuilt flash-attn wheel; None for SDPA and for a source build.
        source_build: the flash-attn source that is compiled; cuda_devel: the image with the toolkit for that.
        archs: FLASH_ATTN_CUDA_ARCHS of a source build, ``90``; empty otherwise.
    """

    name: str
    stack: Stack
    wheel: LockedWheel | None
    source_build: SourceBuild | None
    cuda_devel: str | None
    archs: str

    @property
    def has_flash_attn(self) -> bool:
        """Whether the image holds flash-attn, prebuilt or compiled."""
        return self.wheel is not None or self.source_build is not None

    @property
    def summary(self) -> str:
        """The last part of the name: ``fa2.8.3`` or ``sdpa``."""
        return self.name.removeprefix(f"{self.stack.name}-")


def base_for(python: PythonVersion, compat: Compat) -> tuple[str, str]:
    """The slim base image of a Python, and its Debian suite.

    The suite whose own packages bring that Python comes first: there a bootstrapped base can stand in for the
    registry's under the same name and with the same glibc.
    """
    offers = [row for row in compat.bases.registry if python in row.pythons]
    if not offers:
        known = sorted({str(p) for row in compat.bases.registry for p in row.pythons})
        raise DataError(
            f"no base image has Python {python}; known: {', '.join(known)}", remedy="see compat.yaml: bases.registry"
        )
    own = [row for row in offers if compat.bases.bootstrap.get(row.suite) == python]
    chosen = (own or offers)[0]
    return chosen.image.replace("{python}", str(python)), chosen.suite


def make_stack(
    target: Target, lock: StackLock, digests: Mapping[str, str], compat: Compat, trims: Mapping[str, Trim]
) -> Stack:
    """The stack of a target.

    Args:
        target: from the matrix.
        lock: the hashed requirements of ``target.stack``.
        digests: base image reference -> ``sha256:...``; a base that is not in it is used by its tag.
        compat: the facts.
        trims: all that are known; those that are proven for the target's CUDA, and those that it asks for, are done.

    Raises:
        DataError: no base image has this Python.
    """
    base, suite = base_for(target.python, compat)
    chosen = [trim for trim in trims.values() if target.cuda in trim.proven or trim.name in target.trims]
    return Stack(
        name=target.stack,
        python=target.python,
        torch=target.torch,
        cuda=target.cuda,
        platform=target.platform,
        base=_pinned(base, digests),
        suite=suite,
        lock=lock,
        trims={name: tuple(trim for trim in chosen if trim.list == name) for name in RUNTIME_LISTS},
    )


def make_recipe(
    target: Target, locked: LockedTarget, stack: Stack, digests: Mapping[str, str], compat: Compat
) -> Recipe:
    """The recipe of a target: its stack, and the wheel decision for it from ``matrix/lock.yaml``.

    Raises:
        DataError: no CUDA toolkit image is known for a source build.
    """
    cuda_devel = None
    archs: list[str] = []
    if locked.source_build is not None:
        devel = compat.bases.cuda_devel.get(target.cuda)
        if devel is None:
            raise DataError(
                f"target {target.name}: no image with the toolkit of CUDA {target.cuda} is known",
                remedy="add it to compat.yaml: bases.cuda_devel",
            )
        cuda_devel = _pinned(devel.image, digests)
        # flash-attn builds per major: code for 8.0 and 9.0 serves every minor above.
        archs = sorted({f"{arch.major}0" for arch in locked.archs}, key=int)
    version = locked.wheel.version if locked.wheel else locked.source_build.version if locked.source_build else None
    kind = "" if locked.wheel or version is None else ".source"
    return Recipe(
        name=f"{stack.name}-" + (f"fa{version}{kind}" if version else "sdpa"),
        stack=stack,
        wheel=locked.wheel,
        source_build=locked.source_build,
        cuda_devel=cuda_devel,
        archs=";".join(archs),
    )


def _pinned(image: str, digests: Mapping[str, str]) -> str:
    digest = digests.get(image)
    return f"{image}@{digest}" if digest else image


def lock_hash(recipe: Recipe, locked: LockedTarget) -> str:
    """What all locked inputs of an image hash to: its wheel decision, base, requirements, trims; nothing else's."""
    stack = recipe.stack
    trims = {trim.name: trim.paths for chosen in stack.trims.values() for trim in chosen}
    inputs = {"base": stack.base, "requirements": stack.lock.digests(), "trims": trims, "target": locked.hash()}
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _driver_floor(target: Target, wheel: LockedWheel | None, compat: Compat) -> str | None:
    """The oldest driver that runs the image: its CUDA's floor, or its wheel's own where that asks for more."""
    floor = compat.driver_floor(target.cuda)
    if wheel is not None and wheel.driver is not None and (floor is None or not floor.reaches(wheel.driver)):
        floor = wheel.driver
    return None if floor is None else str(floor)


def image_facts(target: Target, locked: LockedTarget, recipe: Recipe, compat: Compat) -> dict[str, Any]:
    """What ``/app/image.json`` says: what the image is, by its locks. No date and no revision: it is a layer."""
    wheel = locked.wheel
    sass = [str(arch) for arch in wheel.sass] if wheel else [f"sm_{arch}" for arch in recipe.archs.split(";") if arch]
    source = locked.source_build
    version = wheel.version if wheel else source.version if source else None
    return {
        "schema": SCHEMA,
        "target": target.name,
        "recipe": recipe.name,
        "python": str(target.python),
        "torch": str(target.torch),
        "cuda": str(target.cuda),
        "abi": str(locked.abi),
        "platform": target.platform,
        "flash_attn": str(version) if version else None,
        "wheel_sass": sass,
        "wheel_sha256": wheel.sha256 if wheel else None,
        "driver_floor": _driver_floor(target, wheel, compat),
        "model": target.model,
        "attention": {
            "default": target.attention.value,
            "because": target.attention.because,
        },
        "lock_hash": lock_hash(recipe, locked),
    }
