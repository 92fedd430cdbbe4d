"""Which attention runs, and why: a pure decision over what was found on this host.

Words and order are those of CONTRACTS.md, "The service"; the arch rule is DESIGN.md fact 12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from serve.errors import HostError
from serve.image import Attention, Capability

ATTENTIONS: tuple[Attention, ...] = ("flash_attention_2", "sdpa", "eager")
HALF = ("float16", "bfloat16")
AMPERE: Capability = (8, 0)
#: Jetson TX1, TX2, Xavier, Orin.
TEGRA: frozenset[Capability] = frozenset({(5, 3), (6, 2), (7, 2), (8, 7)})


@dataclass(frozen=True, slots=True)
class Rung:
    """One attention: whether it can run here, and why (or why not)."""

    name: Attention
    available: bool
    because: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The attention that runs, why, and what all of them were found to be."""

    running: Attention
    because: str
    rungs: tuple[Rung, ...]


@dataclass(frozen=True, slots=True)
class FlashFacts:
    """What decides about flash_attention_2 before it is tried.

    Args:
        installed: version of the installed flash-attn, or None.
        sass: compute capabilities that the wheel holds machine code for; None where no image.json says.
        gpus: compute capability of every visible GPU.
        dtypes: dtype of each part of the model that uses this attention, by the part's name.
    """

    installed: str | None
    sass: tuple[Capability, ...] | None
    gpus: tuple[Capability, ...]
    dtypes: Mapping[str, str]


def serves(code: Capability, gpu: Capability) -> bool:
    """Whether machine code for ``code`` runs on ``gpu``: same major, equal or higher minor.

    Between desktop GPUs only: a Tegra runs its own code alone, and no desktop GPU runs a Tegra's. Source: CUDA C++
    Programming Guide, "Binary Compatibility".
    """
    if code == gpu:
        return True
    return code[0] == gpu[0] and code[1] <= gpu[1] and code not in TEGRA and gpu not in TEGRA


def sm(capability: Capability) -> str:
    """``(8, 6)`` as ``sm_86``."""
    return f"sm_{capability[0]}{capability[1]}"


def flash_refusal(facts: FlashFacts) -> str | None:
    """Why flash_attention_2 cannot run here, or None when only a call can tell."""
    if facts.installed is None:
        return "flash-attn is not installed"
    if not facts.gpus:
        return "no GPU is visible"
    for gpu in facts.gpus:
        if gpu < AMPERE:
            return f"FlashAttention-2 needs sm_80 or newer, and a visible GPU is {sm(gpu)}"
        if facts.sass is not None and not any(serves(code, gpu) for code in facts.sass):
            held = ", ".join(sm(code) for code in facts.sass) or "no machine code"
            return f"the wheel holds {held}, which does not serve a visible GPU ({sm(gpu)})"
    for part, dtype in facts.dtypes.items():
        if dtype not in HALF:
            return f"it computes in float16 or bfloat16, and the {part.replace('_', ' ')} runs in {dtype}"
    return None


def ladder(default: Attention | None) -> tuple[Attention, ...]:
    """The order in which ``auto`` tries: the image's default, sdpa, eager; without an image flash_attention_2 first."""
    return tuple(dict.fromkeys((default or ATTENTIONS[0], "sdpa", "eager")))


def withhold(rungs: Sequence[Rung], unfit: Mapping[Attention, str]) -> tuple[Rung, ...]:
    """The rungs, without those that the engine cannot use: attention -> why."""
    return tuple(Rung(rung.name, False, unfit[rung.name]) if rung.name in unfit else rung for rung in rungs)


def decide(
    choice: Literal["auto"] | Attention,
    default: tuple[Attention, str] | None,
    rungs: Sequence[Rung],
) -> Decision:
    """Choose the attention.

    Args:
        choice: what the setting says.
        default: the image's default attention and its reason; None without ``image.json``.
        rungs: what was found about each of ``ATTENTIONS``.

    Raises:
        HostError: the choice, or everything on the ladder, cannot run here.
    """
    found = {rung.name: rung for rung in rungs}
    if choice != "auto":
        if not found[choice].available:
            raise HostError(
                f"WW_ATTENTION={choice} cannot run here: {found[choice].because}",
                remedy="set WW_ATTENTION=auto, or run where it can",
            )
        return Decision(choice, f"WW_ATTENTION={choice} asks for it", tuple(rungs))
    order = ladder(default[0] if default else None)
    running = next((name for name in order if found[name].available), None)
    refused = [f"{name} cannot run ({found[name].because})" for name in order[: _place(order, running)]]
    if running is None:
        raise HostError(f"no attention can run here: {'; '.join(refused)}", remedy="reinstall torch")
    origin = f"the image's default is {default[0]} ({default[1]})" if default else "no image.json names a default"
    because = "; ".join([origin, *refused, f"{running} is the first of {', '.join(order)} that can run"])
    return Decision(running, because, tuple(rungs))


def _place(order: tuple[Attention, ...], running: Attention | None) -> int:
    return len(order) if running is None else order.index(running)
