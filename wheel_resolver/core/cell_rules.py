"""The rules on a cell itself, judged before any wheel: can torch run there at all?

Each returns None, or why not and what to do. A cell that breaks one is ``Unsupported``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matrix import Cell, Driver
from matrix.compat import GpuFacts, Shipped, minor_of
from wheel_resolver.core.facts import Facts, Policy

Verdict = tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class CellRule:
    """A rule on cells: all that any part of the resolver says of it stands in its row.

    Attributes:
        name: in traces and in the JSON.
        because, source: why it holds, and who says so.
        accepts, refuses: options of a cell of each kind, for Python 3.12, torch 2.9.1, CUDA 12.8 and an A10G where they
            do not say.
        check: None, or reason and remedy.
        short: why nothing runs, in the words of a table.
    """

    name: str
    because: str
    source: str
    accepts: str
    refuses: str
    check: Callable[[Cell, Facts, Policy], Verdict]
    short: str


def machine_has_gpu(cell: Cell, facts: Facts, policy: Policy) -> Verdict:  # noqa: ARG001 - one signature for all rules
    """The GPU is built into machines of the cell's platform.

    A GH200 and a GB10 share their board with an Arm CPU: a wheel for x86_64 is for another machine.
    """
    if cell.arch is None:
        return None
    known = tuple(facts.compat.like(cell.gpu, cell.arch))
    if not known or any(cell.platform in gpu.platforms for gpu in known):
        return None
    platforms = list(dict.fromkeys(platform for gpu in known for platform in gpu.platforms))
    return (
        f"no {cell.platform} machine has {cell.gpu_text}: it comes with {' or '.join(platforms)} only",
        f"use --platform {platforms[0]}",
    )


def torch_ships(cell: Cell, facts: Facts, policy: Policy) -> Verdict:
    """PyTorch published this torch for this CUDA, Python and platform, or it is not known that it did not.

    Torch 2.9 was never built for CUDA 12.4; torch 2.15 was never built for Python 3.10. Pre-releases such as NGC's are
    built elsewhere: nothing is known against them. A torch that is installed exists, whatever is listed.
    """
    if cell.torch.is_prerelease or policy.installed:
        return None
    compat = facts.compat
    if compat.shipped(cell.torch, cell.cuda, cell.platform) is Shipped.NO:
        builds = ", ".join(map(str, compat.builds(cell.torch, cell.platform)))
        return (
            f"torch {cell.torch} was never built for CUDA {cell.cuda} on {cell.platform}",
            f"use one of its builds: CUDA {builds}, or cpu" if builds else "use --cuda cpu",
        )
    if cell.python not in compat.pythons(cell.torch):
        pythons = ", ".join(map(str, compat.pythons(cell.torch)))
        return f"torch {cell.torch} was never built for Python {cell.python}", f"use one of its Pythons: {pythons}"
    return None


def torch_has_code(cell: Cell, facts: Facts, policy: Policy) -> Verdict:
    """This build of torch holds machine code for the GPU, or PTX that its driver can translate.

    torch 2.6 for CUDA 12.4 ends at sm_90: on a B200 (sm_100) every kernel launch fails.
    """
    if cell.arch is None or cell.torch.is_prerelease:
        return None
    code = facts.compat.torch_code(cell.torch, cell.cuda, cell.platform)
    if code is None:
        return None
    if code.serves(cell.arch):
        return None if code.without_ptx().serves(cell.arch) else _ptx(cell, facts, policy)
    held = ", ".join(map(str, code.sass))
    reason = f"torch {cell.torch} for CUDA {cell.cuda} has no code for {cell.gpu_text}: it holds {held}"
    return reason, _newer(cell, facts)


def _ptx(cell: Cell, facts: Facts, policy: Policy) -> Verdict:
    """Only PTX serves the GPU: its driver must be as new as the toolkit that wrote it."""
    needed = facts.compat.toolkit_drivers.get(cell.cuda)
    if policy.driver is None or needed is None or policy.driver.reaches(needed):
        return None
    reason = f"torch {cell.torch} for CUDA {cell.cuda} has PTX only for {cell.gpu_text}"
    reason += f", and the driver {policy.driver} is older than {needed}, the first that translates it"
    return reason, f"update the driver to {needed} or newer"


def _newer(cell: Cell, facts: Facts) -> str:
    """Name the build nearest to the cell's torch that has code for its GPU and exists for its Python."""
    compat = facts.compat
    minors = list(compat.torch)
    here = minors.index(minor_of(cell.torch))
    for minor in sorted(minors, key=lambda minor: abs(minors.index(minor) - here)):
        known = compat.torch[minor]
        for cuda in known.cuda if cell.python in known.python else ():
            code = compat.torch_code(known.patches[-1], cuda, cell.platform)
            if code is not None and cell.arch is not None and code.serves(cell.arch):
                return f"use torch {minor} for CUDA {cuda}"
    return f"no torch for Python {cell.python} on {cell.platform} has code for {cell.gpu_text}: use another GPU"


def driver_reaches_floor(cell: Cell, facts: Facts, policy: Policy) -> Verdict:
    """The host's driver, where it is known, reaches the floor of the cell's CUDA major.

    Driver 535 runs every CUDA 12 program, and none of CUDA 13 (floor 580). The guide's exception is the forward
    compatibility package, on data center GPUs: nothing of ours installs it, so that it is a remedy and no excuse.
    """
    floor = facts.compat.driver_floor(cell.cuda)
    if policy.driver is None or floor is None or policy.driver.reaches(floor):
        return None
    remedy = f"update the driver to {floor} or newer, or use a build for an older CUDA major"
    remedy += f"; on a data center GPU NVIDIA's cuda-compat package for CUDA {cell.cuda.major} can stand in"
    return f"the driver {policy.driver} is older than {floor}, the floor of CUDA {cell.cuda.major}", remedy


def driver_knows_gpu(cell: Cell, facts: Facts, policy: Policy) -> Verdict:
    """The host's driver, where it is known, is neither older than the GPU nor from after its end.

    An RTX 50 needs driver 570; driver 590 does not know a V100, which NVIDIA ended with branch 580.
    """
    driver = policy.driver
    if driver is None or cell.arch is None:
        return None
    known: list[GpuFacts] = list(facts.compat.like(cell.gpu, cell.arch))
    firsts = [gpu.first for gpu in known if gpu.first is not None]
    if firsts and len(firsts) == len(known) and not any(map(driver.reaches, firsts)):
        first = min(firsts, key=_age)
        return (
            f"the driver {driver} is older than {first}, the first that knows {cell.gpu_text}",
            f"update the driver to {first} or newer",
        )
    ended = [gpu.last for gpu in known if gpu.last is not None and driver.branch > gpu.last.branch]
    if known and len(ended) == len(known):
        last = max(ended, key=_age)
        return (
            f"the driver {driver} no longer knows {cell.gpu_text}: {last} is the last branch that does",
            f"use a driver of branch {last}",
        )
    return None


def _age(driver: Driver) -> tuple[int, int, int]:
    return driver.branch, driver.minor, driver.patch


CELL_RULES = (
    CellRule(
        "machine",
        "some GPUs share their board with an Arm CPU",
        "NVIDIA's product pages (compat.yaml: gpus.*.platforms)",
        "--gpu GH200 --platform linux_aarch64",
        "--gpu GH200 --platform linux_x86_64",
        machine_has_gpu,
        "no such machine has it",
    ),
    CellRule(
        "torch",
        "a build that was never published cannot be installed",
        "PyTorch's wheel indexes and release notes (compat.yaml: torch)",
        "--torch 2.9 --cuda 12.9",
        "--torch 2.9 --cuda 12.4",
        torch_ships,
        "torch was never built so",
    ),
    CellRule(
        "torch_code",
        "a GPU runs machine code of its own major version only, and a Tegra only its own",
        "CUDA C++ Programming Guide, binary compatibility (compat.yaml: torch_sass)",
        "--torch 2.7 --cuda 12.8 --gpu B200",
        "--torch 2.6 --cuda 12.4 --gpu B200",
        torch_has_code,
        "torch has no code for it",
    ),
    CellRule(
        "driver",
        "a driver runs no program of a CUDA major newer than itself",
        "NVIDIA CUDA compatibility guide (compat.yaml: driver_floors)",
        "--cuda 12.8 --driver 535.104.05",
        "--cuda 13.0 --driver 535.104.05",
        driver_reaches_floor,
        "the driver is too old",
    ),
    CellRule(
        "gpu_driver",
        "a driver knows the GPUs of its time: none that came later, and none that NVIDIA has ended",
        "NVIDIA's driver release notes (compat.yaml: gpus.*.driver, gpus.*.last_driver)",
        "--gpu B200 --driver 570.124.06",
        "--gpu B200 --driver 550.54.14",
        driver_knows_gpu,
        "the driver does not know it",
    ),
)


def judge_cell(cell: Cell, facts: Facts, policy: Policy) -> tuple[CellRule, str, str] | None:
    """The first rule that the cell breaks, with reason and remedy; None when torch can run there."""
    for rule in CELL_RULES:
        verdict = rule.check(cell, facts, policy)
        if verdict is not None:
            return rule, *verdict
    return None
