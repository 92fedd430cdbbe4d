"""The cheapest changes of a cell that get a wheel: python first, then torch (a patch before a minor), then CUDA; never
the GPU. What flash-attn's makers did not build comes last: wheels of a provider that is known and not trusted here."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from matrix import Abi, Cell
from matrix.compat import minor_of
from wheel_resolver.core.cell_rules import judge_cell
from wheel_resolver.core.foreign import unserved
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.wheel import Wheel

#: At most this many; a reader picks from a handful.
MOST = 5


@dataclass(frozen=True, slots=True)
class Alternative:
    """A change of the cell, by axis; the changed cell, under its own GPU's name; and the wheel that it gets.

    ``third_party``: whether the change trusts somebody else than flash-attn's makers.
    """

    change: Mapping[str, str]
    cell: Cell
    wheel: Wheel
    third_party: bool = False


class Neighbours:
    """Finds alternatives; what fits on a GPU, and what is cheapest from where, is worked out once.

    ``beyond`` gives the wheels of providers that the question does not trust, and is called when a cell has no wheel.
    """

    def __init__(self, index: WheelIndex, beyond: Callable[[], Iterable[Wheel]] = tuple) -> None:
        self._index = index
        self._beyond = beyond
        self._torches = {minor: place for place, minor in enumerate(index.facts.compat.torch)}
        self._fitting: dict[Hashable, int] = {}
        self._lists: list[list[_Near]] = []
        self._numbers: dict[Hashable, int] = {}
        self._cheapest: dict[Hashable, list[Alternative]] = {}

    @functools.cached_property
    def _untrusted(self) -> WheelIndex:
        """The wheels that another trust would admit, the provider that was named first preferred."""
        wheels = tuple(self._beyond())
        trust = tuple(dict.fromkeys(wheel.provider for wheel in wheels))
        return WheelIndex(wheels, self._index.facts, replace(self._index.policy, trust=trust))

    def of(self, cell: Cell) -> tuple[Alternative, ...]:
        """At most five changes: the fewest first, then the cheapest, then the nearest version; the third party's last.

        One place is kept for a third party that has a wheel, however many other changes there are.
        """
        if cell.cuda.is_cpu or unserved(cell, self._index.facts.compat) is not None:
            return ()
        number = self._fitting_on(cell)
        key = (number, cell.python, cell.torch, cell.cuda, cell.abi, cell.platform)
        if key not in self._cheapest:
            self._cheapest[key] = self._rank(cell, self._lists[number])
        return tuple(
            Alternative(each.change, _on_gpu(each.cell, cell), each.wheel, each.third_party)
            for each in self._cheapest[key]
        )

    def _rank(self, cell: Cell, fitting: list[_Near]) -> list[Alternative]:
        own = _place(cell, self._torches[minor_of(cell.torch)])
        official = self._index.facts.compat.abi(cell.torch, cell.cuda, cell.platform)
        # Of each torch minor the newest patch only, and the cell's own; and no CUDA that no release note names.
        changes = [
            near
            for near in fitting
            if (near.newest or near.place.torch == own.torch) and (near.announced or near.place.cuda == own.cuda)
        ]
        official_name = self._index.facts.compat.flash_attn.repository
        parts: tuple[list[_Near], list[_Near]] = ([], [])
        for near in changes:
            parts[near.provider not in {None, official_name}].append(near)
        found: list[Alternative] = []
        for third_party, part in enumerate(parts):
            most = MOST if third_party or not parts[1] else MOST - 1
            for near in sorted(part, key=lambda near: _cost(own, near, official)):
                if len(found) == most:
                    break
                change = _change(own, near, official)
                # A change that contains a cheaper one is no news: who moves to Python 3.12 need not also move torch.
                if change and not any(known.change.items() <= change.items() for known in found):
                    found.append(Alternative(change, near.cell, near.wheel, bool(third_party)))
        return found

    def _fitting_on(self, cell: Cell) -> int:
        """The number of the list of cells that have a wheel on this GPU and platform; equal lists have one number."""
        key = (cell.arch, self._of_gpu(cell), cell.platform)
        if key not in self._fitting:
            found = list(self._search(cell))
            content = tuple(
                (near.cell.python, near.cell.torch, near.cell.cuda, near.cell.abi, near.wheel.url) for near in found
            )
            self._fitting[key] = self._numbers.setdefault(content, len(self._lists))
            if self._fitting[key] == len(self._lists):
                self._lists.append(found)
        return self._fitting[key]

    def _of_gpu(self, cell: Cell) -> Hashable:
        """What a GPU's name decides more than its architecture: its machines, and the drivers that know it."""
        if cell.arch is None:
            return None
        known = self._index.facts.compat.like(cell.gpu, cell.arch)
        return tuple(known) if self._index.policy.driver else frozenset(gpu.platforms for gpu in known)

    @functools.cached_property
    def _with_wheels(self) -> frozenset[str]:
        """The torch minors that some wheel is for; those that a wheel may be reused on are not left out."""
        compat, policy = self._index.facts.compat, self._index.policy
        if policy.reuse:
            return frozenset(compat.torch)
        return frozenset(wheel.name.torch_minor for wheel in (*self._index.wheels, *self._untrusted.wheels))

    def _search(self, cell: Cell) -> Iterator[_Near]:
        """Every cell of this GPU and platform, built as PyTorch builds it, that has a wheel."""
        compat, policy = self._index.facts.compat, self._index.policy
        for step, known in enumerate(compat.torch.values()):
            if known.minor not in self._with_wheels:
                continue
            for torch, cuda in itertools.product(known.patches, known.cuda):
                code = compat.torch_code(torch, cuda, cell.platform)
                # What the rule ``torch_code`` would say too, with a remedy that nobody reads here.
                if code is None or (cell.arch is not None and not code.serves(cell.arch)):
                    continue
                if not compat.ships(torch, cuda, cell.platform):
                    continue
                abi = compat.abi(torch, cuda, cell.platform)
                for number, python in enumerate(compat.pythons(torch)):
                    near = Cell(python, torch, cuda, abi, cell.arch, cell.gpu, cell.platform)
                    if number == 0 and judge_cell(near, self._index.facts, policy) is not None:
                        break  # each of its Pythons exists: what refuses one refuses all
                    if (wheel := self._index.best(near) or self._untrusted.best(near)) is not None:
                        provider = None if wheel.provider in policy.trust else wheel.provider
                        newest, announced = torch == known.patches[-1], cuda not in known.unannounced
                        yield _Near(near, wheel, provider, _place(near, step), newest, announced)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a cell stands on the axes, spelt once: many cells are compared with many neighbours.

    ``step``: the place of its torch minor among those that are known. ``tenths``: of its CUDA, 128 for 12.8.
    """

    python: str
    torch: str
    cuda: str
    abi: Abi
    step: int
    python_minor: int
    tenths: int
    free_threaded: bool


def _on_gpu(near: Cell, cell: Cell) -> Cell:
    """A neighbour under the name and architecture of the cell's own GPU."""
    return Cell(near.python, near.torch, near.cuda, near.abi, cell.arch, cell.gpu, near.platform)


def _place(cell: Cell, step: int) -> _Place:
    return _Place(
        python=str(cell.python),
        torch=str(cell.torch),
        cuda=str(cell.cuda),
        abi=cell.abi,
        step=step,
        python_minor=cell.python.minor,
        tenths=(cell.cuda.major or 0) * 10 + (cell.cuda.minor or 0),
        free_threaded=cell.python.free_threaded,
    )


@dataclass(frozen=True, slots=True)
class _Near:
    """A cell that has a wheel.

    ``provider``: the wheel's, where the question does not trust it. ``newest``: whether its torch is the newest patch.
    ``announced``: whether a release note names its CUDA build.
    """

    cell: Cell
    wheel: Wheel
    provider: str | None
    place: _Place
    newest: bool
    announced: bool


def _cost(own: _Place, near: _Near, official: Abi) -> tuple[object, ...]:
    """Order by: how many axes change, how dear they are, how far they move; newer first at equal distance."""
    place = near.place
    cuda_moves, torch_moves, python_moves = place.cuda != own.cuda, place.torch != own.torch, place.python != own.python
    other_provider = near.provider is not None
    steps, python, cuda = place.step - own.step, place.python_minor - own.python_minor, place.tenths - own.tenths
    abi_moves = own.abi is not place.abi and own.abi is not official
    return (  # flat: thousands of these are compared
        other_provider + cuda_moves + torch_moves + python_moves + abi_moves,
        other_provider,
        cuda_moves,
        torch_moves,
        python_moves,
        abs(steps),
        abs(python),
        abs(cuda),
        -steps,
        -python,
        -cuda,
        place.free_threaded,
    )


def _change(own: _Place, near: _Near, official: Abi) -> dict[str, str]:
    """The axes in which two cells differ, and the provider where another must be trusted.

    The ABI follows from the others, unless the asker gave one that no official build of the cell has.
    """
    place, change = near.place, {}
    if place.python != own.python:
        change["python"] = place.python
    if place.torch != own.torch:
        change["torch"] = place.torch
    if place.cuda != own.cuda:
        change["cuda"] = place.cuda
    if own.abi is not place.abi and own.abi is not official:
        change["abi"] = str(place.abi)
    if near.provider is not None:
        change["provider"] = near.provider
    return change
