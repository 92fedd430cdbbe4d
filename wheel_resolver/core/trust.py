"""What trust decided: said wherever more than one provider is trusted."""

from __future__ import annotations

from matrix import Cell
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.wheel import Wheel


def trust_words(best: Wheel, cell: Cell, index: WheelIndex) -> str:
    """The end of a match's reason: who is trusted more and has nothing, or is trusted less and has something newer.

    Trust beats version: a newer wheel of a provider that is trusted less is named, and not taken.
    """
    trust = index.policy.trust
    if len(trust) < 2 or best.provider not in trust:  # noqa: PLR2004 - one provider leaves nothing to decide
        return ""
    rank, fitting = trust.index(best.provider), index.fitting(cell)
    having = {wheel.provider for wheel in fitting}
    words = ""
    for provider in trust[:rank]:
        # Where reuse is allowed, a wheel of the right torch beats a more trusted one that is built for another.
        what = "has one for another torch only" if provider in having else "has no wheel that fits"
        words += f"; {provider}, trusted more, {what}"
    for provider in trust[rank + 1 :]:
        newest = max((wheel.name.flash_attn for wheel in fitting if wheel.provider == provider), default=None)
        if newest is not None and newest > best.name.flash_attn:
            words += f"; {provider} has {newest}, and is trusted less"
    return words
