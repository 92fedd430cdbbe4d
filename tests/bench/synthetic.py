"""Cells and wheels in any number, always the same ones, for measuring the resolver."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from matrix import Abi, Cell, Compat
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.wheel import Wheel

_OFFICIAL = "Dao-AILab/flash-attention"
_VERSIONS = [f"2.{minor}.{patch}" for minor in (6, 7, 8) for patch in range(5)] + ["2.8.3.post1", "2.8.3.post2"]


def wheels(compat: Compat, count: int) -> list[Wheel]:
    """Wheels under the official grammar, spread over versions, CUDAs, torches, ABIs, Pythons and platforms."""
    combinations = itertools.product(
        _VERSIONS,
        ("11", "12", "13", "126", "128", "130"),
        compat.torch,
        (Abi.TRUE, Abi.FALSE),
        ("cp39", "cp310", "cp311", "cp312", "cp313", "cp314"),
        compat.platforms,
    )
    made: list[Wheel] = []
    for version, cuda, torch, abi, python, platform in combinations:
        name = WheelName(version, cuda, torch, abi, python, python, platform)
        text = name.format()
        digest = f"{len(made):064x}"
        made.append(Wheel(name, text, f"https://example.org/{text}", digest, 1, "v" + version, _OFFICIAL, None))
    # Every n-th of them, so that each value of each axis is there; which ones fit a cell is then left to chance.
    return [made[number * len(made) // count] for number in range(count)]


def cells(compat: Compat, count: int) -> Iterator[Cell]:
    """Cells that torch ships, over all that compat.yaml knows, mixed; from the start again when they are used up."""
    known = all_cells(compat)
    random.Random(0).shuffle(known)
    return itertools.islice(itertools.cycle(known), count)


def all_cells(compat: Compat) -> list[Cell]:
    """Every torch patch, CUDA build, Python, GPU by name, ABI and platform that compat.yaml knows."""
    return [
        Cell(python, torch, cuda, abi, arch, gpu, platform)
        for platform, known in itertools.product(compat.platforms, compat.torch.values())
        for torch, cuda in itertools.product(known.patches, known.cuda)
        if compat.ships(torch, cuda, platform)
        for python in compat.pythons(torch)
        for abi, (gpu, arch) in itertools.product(Abi, compat.gpus.items())
    ]
