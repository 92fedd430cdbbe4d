"""Alternatives as commands: a change of the cell, spelt as the question that asks for it."""

from __future__ import annotations

import functools
import itertools
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from matrix import Cell
from wheel_resolver.core.alternatives import Alternative, Neighbours
from wheel_resolver.core.facts import Policy, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.wheel import Wheel

_quote = functools.cache(shlex.quote)
_USUAL_PLATFORM = "linux_x86_64"
#: What is said of a wheel that a provider other than the official one built.
THIRD_PARTY = "third party, not built by flash-attn's makers"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A change of the cell, the wheel that it gets, and the command that shows it.

    ``note``: what to know before it is taken; None where that is nothing.
    """

    change: Mapping[str, str]
    wheel: Wheel
    command: str
    note: str | None = None

    @property
    def options(self) -> str:
        """The change as options of a question, with what to know before."""
        change = " ".join(f"--{axis} {value}" for axis, value in self.change.items())
        return f"{change} ({self.note})" if self.note else change


class Suggestions:
    """Finds what would get a cell a wheel, and spells it.

    ``beyond``: see ``Neighbours``. ``repeated``: options of the question that each command says again, such as
    ``--matrix FILE``.
    """

    def __init__(
        self,
        index: WheelIndex,
        beyond: Callable[[], Iterable[Wheel]] = tuple,
        repeated: Mapping[str, str] | None = None,
    ) -> None:
        self._index = index
        self._neighbours = Neighbours(index, beyond)
        self._repeated = dict(repeated or {})
        self._fixed = _of_policy(index.policy, default_policy(index.facts.compat))

    def of(self, cell: Cell) -> tuple[Suggestion, ...]:
        """At most five, the cheapest first."""
        return tuple(
            Suggestion(each.change, each.wheel, self._command(each), THIRD_PARTY if each.third_party else None)
            for each in self._neighbours.of(cell)
        )

    def _command(self, alternative: Alternative) -> str:
        """The command that asks for the changed cell, under the name that the GPU was asked for by; a name that only
        the host's driver knows cannot be asked for, its architecture can."""
        cell, repeated = alternative.cell, self._repeated
        if cell.gpu not in self._index.facts.compat.gpus:
            cell = replace(cell, gpu=None)
        if "provider" in alternative.change:
            trusted = (*self._index.policy.trust, alternative.change["provider"])
            repeated = repeated | {"--provider": ",".join(trusted)}
        return " ".join(map(_quote, itertools.chain(_of_cell(cell), self._fixed, *repeated.items())))


def _of_cell(cell: Cell) -> list[str]:
    words = ["python", "-m", "wheel_resolver", "--torch", str(cell.torch), "--python", str(cell.python)]
    words += ["--cuda", str(cell.cuda)]
    if cell.gpu is not None:
        words += ["--gpu", cell.gpu]
    elif cell.arch is not None:
        words += ["--arch", str(cell.arch)]
    if cell.platform != _USUAL_PLATFORM:
        words += ["--platform", cell.platform]
    return words


def _of_policy(policy: Policy, usual: Policy) -> list[str]:
    """What was asked of host and wheels."""
    words = [] if policy.driver is None else ["--driver", str(policy.driver)]
    if policy.glibc != usual.glibc:
        words += ["--glibc", str(policy.glibc)]
    if policy.reuse:
        words += ["--reuse", "measured"]
    if policy.flash_attn:
        words += ["--flash-attn", ",".join(str(wanted).removeprefix("==") for wanted in policy.flash_attn)]
    return words
