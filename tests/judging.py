"""Rules judge candidates: what a wheel really is, by the facts that the rule is asked with."""

from __future__ import annotations

from matrix import Cell
from wheel_resolver.core.build import judged
from wheel_resolver.core.facts import Facts, Policy
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.core.wheel_rules import WheelRule


def says(rule: WheelRule, wheel: Wheel, cell: Cell, facts: Facts, policy: Policy) -> str | None:
    """What a rule says of a wheel for a cell; None when it accepts it."""
    return rule.check(judged(wheel, facts), cell, facts, policy)
