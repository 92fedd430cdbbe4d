"""The pure core: a cell, the wheels, the facts and the policy make a resolution. No clock, network or file.

Unsupported   a rule on the cell itself is broken: torch cannot run there
Match         the best wheel that no rule refuses
Fallback      no wheel fits: torch's own SDPA runs instead
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from packaging.version import Version

from matrix import Arch, Cell
from matrix.compat import minor_of
from wheel_resolver.core.cell_rules import CELL_RULES, judge_cell
from wheel_resolver.core.facts import Facts
from wheel_resolver.core.index import Verdicts, WheelIndex
from wheel_resolver.core.source_build import SourceBuild, plan_source_build
from wheel_resolver.core.trust import trust_words
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.core.wheel_checks import reuse_evidence, reuse_window
from wheel_resolver.core.wheel_rules import WHEEL_RULES

FLASH_ATTENTION = "flash_attention_2"
SDPA = "sdpa"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A wheel, the first rule that refuses it, and why."""

    wheel: str
    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class Match:
    """A wheel fits."""

    cell: Cell
    reason: str
    wheel: Wheel
    rejected: Mapping[str, int]
    nearest: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class Fallback:
    """No wheel fits; ``rule`` decided it and ``backend`` names the SDPA kernel family that runs.

    ``source_build``: what can be compiled instead, where the asker allows that.
    """

    cell: Cell
    reason: str
    rule: str
    backend: str
    rejected: Mapping[str, int]
    nearest: tuple[Rejection, ...]
    source_build: SourceBuild | None = None


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Torch itself cannot run there."""

    cell: Cell
    reason: str
    remedy: str
    rule: str


Resolution = Match | Fallback | Unsupported


def sdpa_backend(arch: Arch | None, dtype: str | None = None) -> str:
    """The kernel family that torch's SDPA picks on a GPU in a dtype; by default the dtype of the service there.

    >>> sdpa_backend(Arch(8, 6)), sdpa_backend(Arch(7, 5)), sdpa_backend(None)
    ('flash', 'efficient', 'math')
    >>> sdpa_backend(Arch(8, 6), "float32"), sdpa_backend(Arch(7, 5), "bfloat16")
    ('efficient', 'math')

    Source: torch, aten/src/ATen/native/transformers/cuda/sdp_utils.cpp: flash from sm_80 in half precision,
    memory-efficient from sm_50 in float16 and float32, and from sm_80 in bfloat16.
    """
    if arch is None:
        return "math"
    ampere = arch >= Arch(8, 0)
    dtype = dtype or ("bfloat16" if ampere else "float16")
    if ampere and dtype != "float32":
        return "flash"
    return "efficient" if arch >= Arch(5, 0) and (ampere or dtype != "bfloat16") else "math"


def resolve(cell: Cell, index: WheelIndex) -> Resolution:
    """Answer for one cell."""
    broken = judge_cell(cell, index.facts, index.policy)
    if broken is not None:
        rule, reason, remedy = broken
        return Unsupported(cell, reason, remedy, rule.name)
    verdicts = index.verdicts(cell)
    nearest = _rejections(cell, index, verdicts)
    best = index.best(cell)
    if best is not None:
        return Match(
            cell, _why_match(cell, best, index.facts) + trust_words(best, cell, index), best, verdicts.counts, nearest
        )
    rule_name, reason = _why_fallback(cell, index, verdicts.refused, nearest)
    build = None
    if index.policy.source_build:
        plan = plan_source_build(cell, index.facts, index.policy)
        if isinstance(plan, str):
            reason += f"; and it cannot be compiled: {plan}"
        else:
            build = plan
            reason += f"; the devel recipe compiles {plan.sdist.name} in {plan.builder}"
    backend = sdpa_backend(cell.arch, index.policy.dtype)
    return Fallback(cell, reason, rule_name, backend, verdicts.counts, nearest, build)


def explain(cell: Cell, index: WheelIndex) -> tuple[Rejection, ...]:
    """The full trace: for every wheel that is refused, the first rule that does it, and why."""
    return tuple(rejection for wheel in index.wheels if (rejection := _first_refusal(cell, wheel, index)) is not None)


def _first_refusal(cell: Cell, wheel: Wheel, index: WheelIndex) -> Rejection | None:
    for rule in WHEEL_RULES:
        detail = rule.check(wheel, cell, index.facts, index.policy)
        if detail is not None:
            return Rejection(wheel.filename, rule.name, detail)
    return None


def _rejections(cell: Cell, index: WheelIndex, verdicts: Verdicts) -> tuple[Rejection, ...]:
    """The closest misses, each with the first rule that refuses it."""
    found = []
    for position in verdicts.nearest:
        number = next(number for number, mask in enumerate(verdicts.refused) if mask >> position & 1)
        detail = index.detail(number, position, cell)
        found.append(Rejection(index.wheels[position].filename, WHEEL_RULES[number].name, detail or ""))
    return tuple(found)


def _why_match(cell: Cell, wheel: Wheel, facts: Facts) -> str:
    gpu = f" and {cell.gpu_text}" if cell.arch else ""
    return (
        f"flash-attn {wheel.name.version} from {wheel.provider} fits Python {cell.python}, torch {cell.torch}, "
        f"CUDA {cell.cuda}, ABI {cell.abi}{gpu}{reuse_evidence(wheel.name.torch_minor, cell, facts)}"
    )


def _why_fallback(
    cell: Cell, index: WheelIndex, refused: Sequence[int], nearest: tuple[Rejection, ...]
) -> tuple[str, str]:
    """Name the rule that decides: one that refuses every wheel by itself, else that of the nearest miss."""
    if not index.wheels:
        return "catalogue", "the catalogue holds no wheels"
    if cell.cuda.is_cpu:
        return "cuda", "flash-attn 2 is CUDA code, and this is a CPU build of torch"
    alone = [rule for rule, mask in zip(WHEEL_RULES, refused, strict=True) if mask == index.all]
    gpu = next((rule for rule in alone if rule.name == "arch"), None)
    if gpu is not None:
        detail = gpu.check(index.wheels[0], cell, index.facts, index.policy)
        return gpu.name, f"no flash-attn wheel runs on {cell.gpu_text}: {detail}"
    if alone:
        return alone[0].name, _none_at_all(alone[0].name, cell, index)
    rule_name, torch = nearest[0].rule, minor_of(cell.torch)
    if rule_name == "torch":
        place = f"Python {cell.python} with CUDA {cell.cuda.major}"
        return rule_name, f"no flash-attn wheel for torch {torch} fits {place}{_could_be_reused(cell, index)}"
    place = f"Python {cell.python} with torch {torch} and CUDA {cell.cuda.major}"
    return rule_name, f"no flash-attn wheel fits {place}: the nearest is refused, {nearest[0].detail}"


def _could_be_reused(cell: Cell, index: WheelIndex) -> str:
    """Say that a wheel for another torch minor was seen to load on the cell's, where one is there and nobody asked."""
    for row in () if index.policy.reuse else index.facts.compat.flash_attn.reuse:
        other = replace(cell, torch=Version(row.wheel_torch))
        if reuse_window(row.wheel_torch, cell, index.facts) is not None and index.best(other) is not None:
            return f"; one for torch {row.wheel_torch} was seen to load there: --reuse measured"
    return ""


def _none_at_all(rule: str, cell: Cell, index: WheelIndex) -> str:
    """Say what no wheel of the catalogue has: one rule refuses each of them."""
    if rule == "torch" and cell.torch.is_prerelease:
        return (
            f"torch {cell.torch} is a pre-release, as NGC builds are: its C++ interface is that of no release, and "
            f"flash-attn wheels are for releases; it must come with that build, or be compiled on it"
        )
    missing = {
        "platform": f"for {cell.platform}",
        "cuda": f"for CUDA {cell.cuda.major}",
        "torch": f"for torch {minor_of(cell.torch)}",
        "python": f"for Python {cell.python}",
        "abi": f"for ABI {cell.abi}",
        "glibc": f"for glibc {index.policy.glibc}",
        "flash_attn": f"of version {' or '.join(map(str, index.policy.flash_attn))}",
        "provider": "from a trusted provider",
        "known_broken": "that is not known to be broken there",
    }
    return f"no flash-attn wheel exists {missing[rule]}{_could_be_reused(cell, index) if rule == 'torch' else ''}"


#: Every rule's name, for documentation and tests.
RULE_NAMES = (*(rule.name for rule in CELL_RULES), *(rule.name for rule in WHEEL_RULES))
