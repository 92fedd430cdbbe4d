"""The rules on a cell itself, judged before any wheel: can torch run there at all?

Each returns None, or why not and what to do. A cell that breaks one is ``Unsupported``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from packaging.version import Version

from matrix import Cell
from matrix.compat import minor_of
from wheel_resolver.core.facts import Facts, Policy

Verdict = tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class CellRule:
    """A rule on cells: its name in traces, why it holds, who says so, its function, and options of a cell that it
    accepts and of one that it refuses, for Python 3.12, torch 2.9.1, CUDA 12.8 and an A10G where they do not say."""

    name: str
    because: str
    source: str
    accepts: str
    refuses: str
    check: Callable[[Cell, Facts, Policy], Verdict]


def torch_ships(cell: Cell, facts: Facts, policy: Policy) -> Verdict:  # noqa: ARG001 - one signature for all rules
    """PyTorch published this torch for this CUDA, Python and platform.

    Torch 2.9 was never built for CUDA 12.4; torch 2.15 was never built for Python 3.10. Pre-releases such as NGC's are
    built elsewhere: nothing is known against them.
    """
    if cell.torch.is_prerelease:
        return None
    known = facts.compat.torch_facts(cell.torch)
    if not facts.compat.ships(cell.torch, cell.cuda, cell.platform):
        builds = ", ".join(str(cuda) for cuda in known.cuda if facts.compat.ships(cell.torch, cuda, cell.platform))
        return (
            f"torch {cell.torch} was never built for CUDA {cell.cuda} on {cell.platform}",
            f"use one of its builds: CUDA {builds}, or cpu" if builds else "use --cuda cpu",
        )
    if cell.python not in known.python:
        pythons = ", ".join(map(str, known.python))
        return f"torch {cell.torch} was never built for Python {cell.python}", f"use one of its Pythons: {pythons}"
    return None


def torch_has_code(cell: Cell, facts: Facts, policy: Policy) -> Verdict:  # noqa: ARG001
    """This build of torch holds machine code for the GPU, or PTX that its driver can translate.

    torch 2.6 for CUDA 12.4 ends at sm_90: on a B200 (sm_100) every kernel launch fails.
    """
    if cell.arch is None or cell.torch.is_prerelease:
        return None
    code = facts.compat.torch_code(cell.torch, cell.cuda, cell.platform)
    if code is None or code.serves(cell.arch):
        return None
    held = ", ".join(map(str, code.sass))
    return f"torch {cell.torch} for CUDA {cell.cuda} has no code for {cell.gpu_text}: it holds {held}", _newer(
        cell, facts
    )


def _newer(cell: Cell, facts: Facts) -> str:
    """Name the build nearest to the cell's torch that has code for its GPU and exists for its Python."""
    compat = facts.compat
    minors = list(compat.torch)
    here = minors.index(minor_of(cell.torch))
    for minor in sorted(minors, key=lambda minor: abs(minors.index(minor) - here)):
        known = compat.torch[minor]
        for cuda in sorted(known.cuda) if cell.python in known.python else ():
            code = compat.torch_code(known.patches[-1], cuda, cell.platform)
            if code is not None and cell.arch is not None and code.serves(cell.arch):
                return f"use torch {minor} for CUDA {cuda}"
    return f"no torch for Python {cell.python} on {cell.platform} has code for {cell.gpu_text}: use another GPU"


def driver_reaches_floor(cell: Cell, facts: Facts, policy: Policy) -> Verdict:
    """The host's driver, where it is known, reaches the floor of the cell's CUDA major.

    Driver 535 runs every CUDA 12 program, and none of CUDA 13 (floor 580).
    """
    floor = facts.compat.driver_floor(cell.cuda)
    if policy.driver is None or floor is None or policy.driver >= Version(floor):
        return None
    return (
        f"the driver {policy.driver} is older than {floor}, the floor of CUDA {cell.cuda.major}",
        f"update the driver to {floor} or newer, or use a build for an older CUDA major",
    )


CELL_RULES = (
    CellRule(
        "torch",
        "a build that was never published cannot be installed",
        "PyTorch's wheel indexes (compat.yaml: torch)",
        "--torch 2.9 --cuda 12.6",
        "--torch 2.9 --cuda 12.4",
        torch_ships,
    ),
    CellRule(
        "torch_code",
        "a GPU runs machine code of its own major version only",
        "CUDA C++ Programming Guide, binary compatibility (compat.yaml: torch_sass)",
        "--torch 2.7 --cuda 12.8 --gpu B200",
        "--torch 2.6 --cuda 12.4 --gpu B200",
        torch_has_code,
    ),
    CellRule(
        "driver",
        "a driver runs no program of a CUDA major newer than itself",
        "NVIDIA CUDA compatibility guide (compat.yaml: driver_floors)",
        "--cuda 12.8 --driver 535.104.05",
        "--cuda 13.0 --driver 535.104.05",
        driver_reaches_floor,
    ),
)


def judge_cell(cell: Cell, facts: Facts, policy: Policy) -> tuple[CellRule, str, str] | None:
    """The first rule that the cell breaks, with reason and remedy; None when torch can run there."""
    for rule in CELL_RULES:
        verdict = rule.check(cell, facts, policy)
        if verdict is not None:
            return rule, *verdict
    return None
