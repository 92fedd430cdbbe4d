"""Axes to cells: the product, less what torch never shipped and what the matrix excludes, each counted."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from matrix.compat import Compat, Shipped
from matrix.model import Axes, Cell, Exclusion
from matrix.values import Cuda, PythonVersion

NO_CUDA = "torch never shipped this CUDA"
UNKNOWN_CUDA = "not known whether torch shipped this CUDA"
NO_PYTHON = "torch never shipped this Python"
NO_GPU = "a CPU build of torch uses no GPU"
NO_ROCM_GPU = "a ROCm build of torch uses no NVIDIA GPU"
NO_MACOS_CUDA = "macOS has no CUDA"
EXCLUDED = "excluded by the matrix"


@dataclass(frozen=True, slots=True)
class Expansion:
    """The cells, and how many combinations were left out for which reason."""

    cells: tuple[Cell, ...]
    skipped: Mapping[str, int]


def expand(
    axes: Axes, compat: Compat, exclude: Sequence[Exclusion] = (), *, cpu: bool = True, unlisted: bool = False
) -> Expansion:
    """Make the cells of some axes, in the axes' order.

    Args:
        cpu: whether a build without CUDA makes a cell (of no GPU); False where GPUs were asked for by name.
        unlisted: whether a CUDA build makes a cell of which it is not known whether it was published.
    """
    cells: dict[Cell, None] = {}
    skipped: Counter[str] = Counter()
    for torch, python, cuda, platform in itertools.product(axes.torch, axes.python, axes.cuda, axes.platform):
        gpus = (None,) if cuda.is_cpu or cuda.is_rocm else axes.gpu
        size = len(gpus) * len(axes.abi)
        reason = _left_out(torch, python, cuda, platform, compat, unlisted=unlisted)
        if reason is None and gpus == (None,) and not cpu:
            reason = NO_GPU if cuda.is_cpu else NO_ROCM_GPU
        if reason is not None:
            skipped[reason] += size
            continue
        for gpu, abi in itertools.product(gpus, axes.abi):
            name, arch = gpu or (None, None)
            cell = Cell(python, torch, cuda, abi or compat.abi(torch, cuda, platform), arch, name, platform)
            if any(exclusion.matches(cell) for exclusion in exclude):
                skipped[EXCLUDED] += 1
            else:
                cells[cell] = None
    return Expansion(tuple(cells), dict(sorted(skipped.items())))


def _left_out(
    torch: Version, python: PythonVersion, cuda: Cuda, platform: str, compat: Compat, *, unlisted: bool
) -> str | None:
    """Why torch makes no cell there; None where it does. Windows' builds are those of x86_64."""
    if platform.startswith("macosx") and not cuda.is_cpu:
        return NO_MACOS_CUDA
    known = platform if platform in compat.platforms else compat.platforms[0]
    shipped = Shipped.YES if cuda.is_rocm else compat.shipped(torch, cuda, known)
    if shipped is Shipped.NO:
        return NO_CUDA
    if shipped is Shipped.UNKNOWN and not unlisted:
        return UNKNOWN_CUDA
    return None if python in compat.pythons(torch) else NO_PYTHON
