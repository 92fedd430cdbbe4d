"""The cheapest changes of a cell that get a wheel: python first, then torch (a patch before a minor), then CUDA, then
a provider that is known and not trusted here; never the GPU."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from matrix import Abi, Arch, Cell, Cuda
from matrix.compat import minor_of
from wheel_resolver.core.cell_rules import judge_cell
from wheel_resolver.core.foreign import unserved
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.wheel import Wheel

#: At most this many; a reader picks from a handful.
MOST = 5


@dataclass(frozen=True, slots=True)
class Alternative:
    """A change of the cell, by axis; the changed cell, under its own GPU's name; and the wheel that it gets."""

    change: Mapping[str, str]
    cell: Cell
    wheel: Wheel


class Neighbours:
    """Finds alternatives; what fits on a GPU, and what is cheapest from where, is worked out once.

    ``beyond`` gives the wheels of providers that the question does not trust, and is called when a cell has no wheel.
    """

    def __init__(self, index: WheelIndex, beyond: Callable[[], Iterable[Wheel]] = tuple) -> None:
        self._index = index
        self._beyond = beyond
        self._torches = {minor: place for place, minor in enumerate(index.facts.compat.torch)}
        self._fitting: dict[tuple[Arch | None, str | None, str], int] = {}
        self._lists: list[list[tuple[Cell, Wheel]]] = []
        self._numbers: dict[Hashable, int] = {}
        self._cheapest: dict[Hashable, list[Alternative]] = {}

    @functools.cached_property
    def _untrusted(self) -> WheelIndex:
        """The wheels that another trust would admit, the provider that was named first preferred."""
        wheels = tuple(self._beyond())
        trust = tuple(dict.fromkeys(wheel.provider for wheel in wheels))
        return WheelIndex(wheels, self._index.facts, replace(self._index.policy, trust=trust))

    def of(self, cell: Cell) -> tuple[Alternative, ...]:
        """At most five changes: the fewest first, then the cheapest, then the nearest version."""
        if cell.cuda.is_cpu or unserved(cell, self._index.facts.compat) is not None:
            return ()
        number = self._fitting_on(cell)
        key = (number, cell.python, cell.torch, cell.cuda, cell.abi, cell.platform)
        if key not in self._cheapest:
            self._cheapest[key] = self._rank(cell, self._lists[number])
        return tuple(
            replace(each, cell=replace(each.cell, arch=cell.arch, gpu=cell.gpu)) for each in self._cheapest[key]
        )

    def _rank(self, cell: Cell, fitting: list[tuple[Cell, Wheel]]) -> list[Alternative]:
        compat = self._index.facts.compat
        patches = {cell.torch, *(known.patches[-1] for known in compat.torch.values())}
        abi = compat.abi(cell.torch, cell.cuda, cell.platform)
        # Of each torch minor the newest patch only, and the cell's own; and no CUDA that no release note names.
        changes = [
            Alternative(_change(cell, near, abi) | self._other_trust(wheel), near, wheel)
            for near, wheel in fitting
            if near.torch in patches
            and (near.cuda == cell.cuda or near.cuda not in compat.torch_facts(near.torch).unannounced)
        ]
        found: list[Alternative] = []
        for each in sorted(changes, key=lambda each: self._cost(cell, each.cell, each.change)):
            # A change that contains a cheaper one is no news: who moves to Python 3.12 need not also move torch.
            if each.change and not any(known.change.items() <= each.change.items() for known in found):
                found.append(each)
            if len(found) == MOST:
                break
        return found

    def _other_trust(self, wheel: Wheel) -> dict[str, str]:
        return {} if wheel.provider in self._index.policy.trust else {"provider": wheel.provider}

    def _fitting_on(self, cell: Cell) -> int:
        """The number of the list of cells that have a wheel on this GPU and platform; equal lists have one number."""
        key = (cell.arch, self._name_that_matters(cell), cell.platform)
        if key not in self._fitting:
            found = list(self._search(cell))
            content = tuple((near.python, near.torch, near.cuda, near.abi, wheel.url) for near, wheel in found)
            self._fitting[key] = self._numbers.setdefault(content, len(self._lists))
            if self._fitting[key] == len(self._lists):
                self._lists.append(found)
        return self._fitting[key]

    def _name_that_matters(self, cell: Cell) -> str | None:
        """The GPU's name where it decides more than its architecture: which drivers know it, and in which machines."""
        return cell.gpu if cell.gpu in self._index.facts.compat.gpu_facts else None

    def _search(self, cell: Cell) -> Iterator[tuple[Cell, Wheel]]:
        """Every cell of this GPU and platform, built as PyTorch builds it, that has a wheel."""
        compat, policy = self._index.facts.compat, self._index.policy
        for known in compat.torch.values():
            for torch, cuda in itertools.product(known.patches, known.cuda):
                if not compat.ships(torch, cuda, cell.platform):
                    continue
                abi = compat.abi(torch, cuda, cell.platform)
                for number, python in enumerate(compat.pythons(torch)):
                    near = replace(cell, python=python, torch=torch, cuda=cuda, abi=abi)
                    if number == 0 and judge_cell(near, self._index.facts, policy) is not None:
                        break  # each of its Pythons exists: what refuses one refuses all
                    if (wheel := self._index.best(near) or self._untrusted.best(near)) is not None:
                        yield near, wheel

    def _cost(self, cell: Cell, near: Cell, change: Mapping[str, str]) -> tuple[object, ...]:
        """Order by: how many axes change, how dear they are, how far they move; newer first at equal distance."""
        steps = self._torches[minor_of(near.torch)] - self._torches[minor_of(cell.torch)]
        python = near.python.minor - cell.python.minor
        cuda = _tenths(near.cuda) - _tenths(cell.cuda)
        return (
            len(change),
            ("provider" in change, "cuda" in change, "torch" in change, "python" in change),
            abs(steps),
            abs(python),
            abs(cuda),
            (-steps, -python, -cuda),
            near.python.free_threaded,
        )


def _tenths(cuda: Cuda) -> int:
    return (cuda.major or 0) * 10 + (cuda.minor or 0)


def _change(cell: Cell, near: Cell, official: Abi) -> dict[str, str]:
    """The axes in which two cells differ.

    The ABI follows from the others, unless the asker gave one that no official build of the cell has.
    """
    change = {}
    if near.python != cell.python:
        change["python"] = str(near.python)
    if near.torch != cell.torch:
        change["torch"] = str(near.torch)
    if near.cuda != cell.cuda:
        change["cuda"] = str(near.cuda)
    if cell.abi not in {near.abi, official}:
        change["abi"] = str(near.abi)
    return change
