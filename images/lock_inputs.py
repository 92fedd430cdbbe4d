"""What a stack's requirements are computed from; whoever uses a lock can see whether it still fits that."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from images.recipe import base_for
from images.requirement_files import StackLock, read_stack_lock
from images.requirements_in import parse_requirement, read_requirements
from matrix import Target, tree
from matrix.document import display_name
from matrix.errors import DataError
from matrix.origins import PYTORCH_VARIABLE

if TYPE_CHECKING:
    from images.planned import Workspace

OVERRIDES = Path("serve/overrides.txt")
# What flash-attn's setup.py needs, and pip.
BUILD_TOOLS = ("ninja", "packaging", "pip", "psutil", "setuptools", "wheel")
MANYLINUX = {"linux_x86_64": "x86_64-manylinux_2_28", "linux_aarch64": "aarch64-manylinux_2_28"}


def inputs_digest(workspace: Workspace, target: Target) -> str:
    """What a stack's requirements are computed from, as one sha256.

    Raises:
        DataError: a file that asks for packages asks in another way than by name.
    """
    files = [workspace.root / path for path in (*asked(target), OVERRIDES)]
    for path in files:
        read_requirements(path)
    parts = [target.stack, torch_requirement(workspace, target), *MANYLINUX[target.platform].split()]
    parts += [tree.read_text(path) for path in files]
    parts += build_requirements(workspace, target)
    return _digest(parts)


def fresh_stack_lock(workspace: Workspace, target: Target) -> StackLock:
    """The locked requirements of a target's stack: as they were written, and computed from what stands there now.

    Raises:
        DataError: they are not.
    """
    found = read_stack_lock(workspace.locks / target.stack)
    if found.inputs != inputs_digest(workspace, target):
        raise DataError(
            f"{display_name(workspace.locks / target.stack)}: computed from other inputs than serve/requirements*.in, "
            "serve/overrides.txt and the matrix are now",
            remedy="make lock, look at the difference, commit it",
        )
    return found


def asked(target: Target) -> list[Path]:
    """What the service asks for in an image of this target: files below the root."""
    names = ["requirements.in"] if target.cuda.is_cpu else ["requirements.in", "requirements-gpu.in"]
    return [Path("serve") / name for name in names]


def left_out(workspace: Workspace) -> dict[str, Requirement]:
    """What no runtime gets: name -> its line of overrides.txt."""
    return {requirement.name: requirement for requirement in read_requirements(workspace.root / OVERRIDES)}


def torch_requirement(workspace: Workspace, target: Target) -> str:
    """How to ask an index for the torch of a stack.

    The default index carries one CUDA build per torch, under the public version: ``torch==2.9.1+cu128`` does not
    resolve there. Every other build has its CUDA in the version.
    """
    facts = workspace.project.compat.torch_facts(target.torch)
    local = "" if facts.default_cuda == target.cuda else f"+{target.cuda.tag}"
    return f"torch=={target.torch}{local}"


def origin_for(workspace: Workspace, target: Target) -> str | None:
    """PyTorch's own index (or ``$WHEELWRIGHT_PYTORCH_WHEELS``), for a torch that the default index does not carry.

    It may hold a password: it goes into no command line and no log.
    """
    if "+" not in torch_requirement(workspace, target):
        return None
    base = os.environ.get(PYTORCH_VARIABLE) or workspace.project.compat.origins["pytorch_wheels"]
    return f"{base.rstrip('/')}/{target.cuda.tag}"


def build_requirements(workspace: Workspace, target: Target) -> tuple[str, ...]:
    """What a builder needs in addition to its stack: tools, and the CUDA toolkit if there are packages of it."""
    if not any(t.source_build for t in workspace.project.matrix.targets.values() if t.stack == target.stack):
        return ()
    devel = workspace.project.compat.bases.cuda_devel.get(target.cuda)
    if devel is None or devel.packages is None:
        return BUILD_TOOLS
    parse_requirement(devel.packages, f"compat.yaml bases.cuda_devel.{target.cuda}.packages")
    return (*BUILD_TOOLS, devel.packages)


def base_images(workspace: Workspace) -> set[str]:
    """The base images of all targets, and the builders' of those that compile."""
    compat = workspace.project.compat
    targets = workspace.project.matrix.targets.values()
    return {base_for(target.python, compat)[0] for target in targets} | {
        compat.bases.cuda_devel[t.cuda].image for t in targets if t.source_build and t.cuda in compat.bases.cuda_devel
    }


def bases_digest(images: Iterable[str]) -> str:
    """The inputs of ``bases.yaml``, as one sha256: the images that are asked for."""
    return _digest(sorted(images))


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
