"""The closest misses: the wheels that the fewest rules refuse, by bit sets of one bit a wheel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wheel_resolver.core.wheel_rules import WHEEL_RULES

#: How many of the closest misses a resolution keeps.
NEAREST = 5

#: Of two wheels that one rule refuses, the nearer needs the easier change.
_EASIEST_FIRST = sorted(range(len(WHEEL_RULES)), key=lambda number: WHEEL_RULES[number].ease)


def bits(mask: int) -> Iterator[int]:
    """The positions of the bits that are set, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def closest_misses(refused: Sequence[int], every: int) -> tuple[int, ...]:
    """The positions of at most five refused wheels: of the fewest rules, cheapest change and better wheel first.

    ``refused``: for each rule the wheels that it refuses; ``every``: all wheels.
    """
    levels = [every, *[0] * len(refused)]  # levels[n]: wheels refused by n of the rules seen so far
    for seen, mask in enumerate(filter(None, refused)):  # what no rule refuses moves nothing
        kept = ~mask
        for count in range(seen + 1, 0, -1):
            levels[count] = (levels[count] & kept) | (levels[count - 1] & mask)
        levels[0] &= kept
    found: list[int] = []
    for level in levels[1:]:
        left = level
        for number in _EASIEST_FIRST:
            for position in bits(left & refused[number]):
                found.append(position)
                if len(found) == NEAREST:
                    return tuple(found)
            left &= ~refused[number]
    return tuple(found)
