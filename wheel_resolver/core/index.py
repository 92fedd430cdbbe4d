"""Judge many cells against many wheels: a bit set of refused wheels for each rule and each part of a cell.

Ten rules see a handful of different Pythons, CUDAs, torches, ... each, so a cell costs ten look-ups and a few
operations on integers of one bit a wheel, however many wheels there are.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from matrix import Cell
from matrix.compat import minor_of
from wheel_resolver.core.build import Candidate, Judge
from wheel_resolver.core.facts import Facts, Policy
from wheel_resolver.core.nearest import bits, closest_misses
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.core.wheel_rules import WHEEL_RULES, WheelRule, any_cell

_ONE = ord("1")
#: The rules whose answer depends on the cell; what the others refuse is refused for every cell alike.
_BY_CELL = [number for number, rule in enumerate(WHEEL_RULES) if rule.of_cell is not any_cell]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the rules make of all wheels for cells that they cannot tell apart.

    ``refused``: for each rule, in order, the wheels that it refuses. ``counts``: by rule, the wheels that it is the
    first to refuse. ``left``: the wheels that none refuses. ``nearest``: positions of the closest misses, each with the
    number of the first rule that refuses it.
    """

    refused: tuple[int, ...]
    counts: Mapping[str, int]
    left: int
    nearest: tuple[tuple[int, int], ...]


class WheelIndex:
    """Wheels prepared for questions under one set of facts and one policy.

    The wheels stand in the order of choice as far as it does not depend on the cell, so that a lower bit is a
    better wheel: provider trust, flash-attn version, upload date (unknown last), tag, name.
    """

    def __init__(self, wheels: Iterable[Wheel], facts: Facts, policy: Policy) -> None:
        self.facts = facts
        self.policy = policy
        choices = sorted(((self._choice(wheel), wheel) for wheel in wheels), key=lambda pair: pair[0])
        self.wheels: Sequence[Wheel] = [wheel for _, wheel in choices]
        self.candidates: Sequence[Candidate] = list(map(Judge(facts).judge, self.wheels))
        self._rank = _ranks(choice for choice, _ in choices)
        self.all = (1 << len(self.wheels)) - 1
        self._groups = [self._group(rule) for rule in WHEEL_RULES]
        self._sets: list[int] = []
        self._numbers: dict[int, int] = {}
        self._refused: dict[tuple[int, Hashable], int] = {}
        self._verdicts: dict[tuple[int, ...], Verdicts] = {}
        self._alike: int | None = None
        self._details: dict[tuple[int, Hashable, Hashable], str | None] = {}

    def _choice(self, wheel: Wheel) -> tuple[object, ...]:
        trust = self.policy.trust
        rank = trust.index(wheel.provider) if wheel.provider in trust else len(trust)
        version = wheel.name.flash_attn
        # Newer first: reversed comparisons are written as negated digits, since versions cannot be negated.
        newest = tuple(-part for part in (*version.release, *[0] * (4 - len(version.release)), version.post or 0))
        stamp = wheel.updated_at or ""
        return (
            rank,
            version.is_prerelease,
            newest,
            not stamp,
            [-ord(char) for char in stamp],
            wheel.tag,
            wheel.filename,
        )

    def _group(self, rule: WheelRule) -> list[list[int]]:
        """The positions of wheels that a rule cannot tell apart. No bits: these are as wide as all wheels."""
        groups: defaultdict[Hashable, list[int]] = defaultdict(list)
        for position, candidate in enumerate(self.candidates):
            groups[rule.of_wheel(candidate)].append(position)
        return list(groups.values())

    def verdicts(self, cell: Cell) -> Verdicts:
        """What the rules make of the wheels for a cell; worked out once for all cells that are refused the same."""
        key = tuple([self._refused_by(number, cell) for number in _BY_CELL])
        known = self._verdicts.get(key)
        if known is None:
            refused = tuple(self._sets[self._refused_by(number, cell)] for number in range(len(WHEEL_RULES)))
            counts, left = {}, self.all
            for rule, mask in zip(WHEEL_RULES, refused, strict=True):
                if here := (left & mask).bit_count():
                    counts[rule.name] = here
                left &= ~mask
            nearest = tuple(
                (position, next(number for number, mask in enumerate(refused) if mask >> position & 1))
                for position in closest_misses(refused, self.all)
            )
            known = self._verdicts[key] = Verdicts(refused, counts, left, nearest)
        return known

    def _refused_by(self, number: int, cell: Cell) -> int:
        """The number of the set of wheels that a rule refuses for a cell; equal sets have one number."""
        rule = WHEEL_RULES[number]
        key = (number, rule.of_cell(cell))
        known = self._refused.get(key)
        if known is None:
            digits = bytearray(b"0") * (len(self.wheels) + 1)  # of a binary number, whose last is the first wheel's
            for group in self._groups[number]:
                if rule.check(self.candidates[group[0]], cell, self.facts, self.policy) is not None:
                    for position in group:
                        digits[-1 - position] = _ONE
            refused = int(digits, 2)
            known = self._refused[key] = self._numbers.setdefault(refused, len(self._sets))
            if known == len(self._sets):
                self._sets.append(refused)
        return known

    def detail(self, number: int, position: int, cell: Cell) -> str | None:
        """What a rule says of a wheel for a cell; None when it accepts it."""
        rule, candidate = WHEEL_RULES[number], self.candidates[position]
        key = (number, rule.of_cell(cell), rule.of_wheel(candidate))
        if key not in self._details:
            self._details[key] = rule.check(candidate, cell, self.facts, self.policy)
        return self._details[key]

    def fitting(self, cell: Cell) -> Sequence[Wheel]:
        """The wheels that no rule refuses, the best first: the exact torch beats all, the exact CUDA an upload date."""
        return [self.wheels[position] for position in sorted(bits(self._left(cell)), key=self._order(cell))]

    def best(self, cell: Cell) -> Wheel | None:
        """The first of those that fit; None when none does."""
        position = self._first(self._left(cell), cell)
        return None if position is None else self.wheels[position]

    def chosen(self, cell: Cell, verdicts: Verdicts) -> Candidate | None:
        """The best wheel with what it really is. ``verdicts``: those for this cell."""
        position = self._first(verdicts.left, cell)
        return None if position is None else self.candidates[position]

    def candidate(self, wheel: Wheel) -> Candidate:
        """What one of the index's wheels really is."""
        return self.candidates[self.wheels.index(wheel)]

    def _first(self, left: int, cell: Cell) -> int | None:
        if not left:
            return None
        if self.policy.reuse:  # a wheel further down may be for the exact torch
            return min(bits(left), key=self._order(cell))
        rank = self._rank[next(bits(left))]
        equals = itertools.takewhile(lambda position: self._rank[position] == rank, bits(left))
        return min(equals, key=self._order(cell))

    def _left(self, cell: Cell) -> int:
        """The wheels that no rule refuses; of most cells the first few rules refuse all."""
        if self._alike is None:
            self._alike = self.all
            for number in set(range(len(WHEEL_RULES))).difference(_BY_CELL):
                self._alike &= ~self._sets[self._refused_by(number, cell)]
        left = self._alike
        for number in _BY_CELL:
            left &= ~self._sets[self._refused_by(number, cell)]
            if not left:
                break
        return left

    def _order(self, cell: Cell) -> Callable[[int], tuple[bool, int, bool, int]]:
        torch, minor = minor_of(cell.torch), cell.cuda.minor

        def key(position: int) -> tuple[bool, int, bool, int]:
            name = self.wheels[position].name
            return name.torch_minor != torch, self._rank[position], name.cuda_minor != minor, position

        return key


def _ranks(choices: Iterable[tuple[object, ...]]) -> list[int]:
    """For each wheel: its place by trust and version alone, in which an exact CUDA decides between equals."""
    ranks: dict[tuple[object, ...], int] = {}
    return [ranks.setdefault(choice[:3], len(ranks)) for choice in choices]
