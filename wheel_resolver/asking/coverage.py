"""What has a wheel and what has not, over every torch, CUDA and Python that was shipped: the data of the coverage page.

GPUs whose every cell has the same answer share a group: A100, A10G, L4 and H100 run the same wheels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from matrix import Arch, Cell, Compat, Cuda, PythonVersion
from matrix.compat import minor_of
from wheel_resolver.asking.answer import Answer, answer_cells
from wheel_resolver.asking.suggestions import Suggestions
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.resolve import Match, Resolution, Unsupported

#: What a square says, legible without colour, and what it means of the cells that it counts.
MARKS = {"FA2": "have a wheel", "src": "can be compiled", "sdpa": "run SDPA", "none": "cannot run"}


@dataclass(frozen=True, slots=True)
class Square:
    """One cell of the coverage: its answer in a word (``MARKS``), and why."""

    answer: Answer
    mark: str
    reason: str

    @property
    def cell(self) -> Cell:
        """The cell that was asked for."""
        return self.answer.resolution.cell

    @property
    def detail(self) -> str:
        """The wheel's name, or the command of the cheapest change; nothing where there is neither."""
        if isinstance(self.answer.resolution, Match):
            return self.answer.resolution.wheel.filename
        return self.answer.alternatives[0].command if self.answer.alternatives else ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One CUDA: torch minors down, Pythons across; None where torch was never shipped so."""

    cuda: Cuda
    rows: tuple[tuple[str, tuple[Square | None, ...]], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """GPUs with the same answers, and the panels of all CUDAs."""

    gpus: tuple[tuple[str, Arch], ...]
    pythons: tuple[PythonVersion, ...]
    panels: tuple[Panel, ...]

    @property
    def squares(self) -> list[Square]:
        """Every cell, panel by panel."""
        return [square for panel in self.panels for _, row in panel.rows for square in row if square is not None]

    def count(self, mark: str) -> int:
        """How many cells have this answer."""
        return sum(square.mark == mark for square in self.squares)


def coverage(
    index: WheelIndex, gpus: Sequence[tuple[str, Arch]], platform: str, suggestions: Suggestions | None = None
) -> list[Group]:
    """Answer every shipped cell for each GPU, and group the GPUs, those with the most wheels first.

    Free-threaded Pythons are left out: no wheel is for them.
    """
    compat = index.facts.compat
    groups: dict[tuple[object, ...], list[tuple[str, Arch]]] = {}
    answers: dict[tuple[object, ...], list[Answer]] = {}
    for gpu in gpus:
        found = answer_cells(_cells(compat, gpu, platform), index, suggestions)
        key = tuple(_outcome(answer) for answer in found)
        groups.setdefault(key, []).append(gpu)
        answers.setdefault(key, found)
    made = [_group(tuple(members), answers[key]) for key, members in groups.items()]
    return sorted(made, key=lambda group: -group.count("FA2"))


def _cells(compat: Compat, gpu: tuple[str, Arch], platform: str) -> list[Cell]:
    name, arch = gpu
    return [
        Cell(python, torch, cuda, compat.abi(torch, cuda, platform), arch, name, platform)
        for known in compat.torch.values()
        for torch, cuda, python in itertools.product(known.patches[-1:], known.cuda, known.python)
        if not python.free_threaded and compat.ships(torch, cuda, platform)
    ]


def _outcome(answer: Answer) -> tuple[object, ...]:
    resolution = answer.resolution
    if isinstance(resolution, Match):
        return (resolution.wheel.url,)
    return resolution.rule, None if isinstance(resolution, Unsupported) else resolution.backend


def _group(gpus: tuple[tuple[str, Arch], ...], answers: list[Answer]) -> Group:
    squares = {_key(answer.resolution.cell): _square(answer) for answer in answers}
    cells = [answer.resolution.cell for answer in answers]
    torches = list(dict.fromkeys(minor_of(cell.torch) for cell in cells))
    pythons = tuple(sorted({cell.python for cell in cells}))
    panels = []
    for cuda in sorted({cell.cuda for cell in cells}):
        rows = tuple(
            (torch, row)
            for torch in torches
            if any(row := tuple(squares.get((torch, cuda, python)) for python in pythons))
        )
        panels.append(Panel(cuda, rows))
    return Group(gpus, pythons, tuple(panels))


def _key(cell: Cell) -> tuple[str, Cuda, PythonVersion]:
    return minor_of(cell.torch), cell.cuda, cell.python


def _square(answer: Answer) -> Square:
    resolution = answer.resolution
    reason = resolution.reason
    if isinstance(resolution, Unsupported):
        reason += f"; {resolution.remedy}"
    elif answer.alternatives:
        reason += f"; cheapest change: {answer.alternatives[0].options}"
    return Square(answer, _mark(resolution), reason)


def _mark(resolution: Resolution) -> str:
    if isinstance(resolution, Match):
        return "FA2"
    if isinstance(resolution, Unsupported):
        return "none"
    return "sdpa" if resolution.source_build is None else "src"
