"""Axes to cells: the product, less what torch never shipped and what the matrix excludes, each counted."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matrix.compat import Compat
from matrix.model import Axes, Cell, Exclusion

NO_CUDA = "torch never shipped this CUDA"
NO_PYTHON = "torch never shipped this Python"
NO_GPU = "a CPU build of torch uses no GPU"
EXCLUDED = "excluded by the matrix"


@dataclass(frozen=True, slots=True)
class Expansion:
    """The cells, and how many combinations were left out for which reason."""

    cells: tuple[Cell, ...]
    skipped: Mapping[str, int]


def expand(axes: Axes, compat: Compat, exclude: Sequence[Exclusion] = (), *, cpu: bool = True) -> Expansion:
    """Make the cells of some axes, in the axes' order.

    Args:
        cpu: whether a CPU build makes a cell (of no GPU); False where GPUs were asked for by name.
    """
    cells: dict[Cell, None] = {}
    skipped: Counter[str] = Counter()
    for torch, python, cuda, platform in itertools.product(axes.torch, axes.python, axes.cuda, axes.platform):
        gpus = (None,) if cuda.is_cpu else axes.gpu
        size = len(gpus) * len(axes.abi)
        if not compat.ships(torch, cuda, platform):
            skipped[NO_CUDA] += size
        elif python not in compat.torch_facts(torch).python:
            skipped[NO_PYTHON] += size
        elif cuda.is_cpu and not cpu:
            skipped[NO_GPU] += size
        else:
            for gpu, abi in itertools.product(gpus, axes.abi):
                name, arch = gpu or (None, None)
                cell = Cell(python, torch, cuda, abi or compat.abi(torch, cuda, platform), arch, name, platform)
                if any(exclusion.matches(cell) for exclusion in exclude):
                    skipped[EXCLUDED] += 1
                else:
                    cells[cell] = None
    return Expansion(tuple(cells), dict(sorted(skipped.items())))
