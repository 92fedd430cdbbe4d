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
from matrix.compat import Shipped, minor_of
from wheel_resolver.core.build import Build, Candidate
from wheel_resolver.core.cell_rules import CELL_RULES, judge_cell
from wheel_resolver.core.facts import Facts
from wheel_resolver.core.foreign import unserved
from wheel_resolver.core.index import Verdicts, WheelIndex
from wheel_resolver.core.nearest import bits
from wheel_resolver.core.source_build import SourceBuild, plan_source_build
from wheel_resolver.core.trust import trust_words
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.core.wheel_checks import reuse_evidence, reuse_window
from wheel_resolver.core.wheel_rules import WHEEL_RULES, About, WheelRule

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
    """A wheel fits; ``build`` says what it really is, and on what evidence."""

    cell: Cell
    reason: str
    wheel: Wheel
    build: Build
    rejected: Mapping[str, int]
    nearest: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class Fallback:
    """No wheel fits; ``rule`` decided it and ``backend`` names the SDPA kernel family that runs, where that is known.

    ``source_build``: what can be compiled instead, where the asker allows that.
    """

    cell: Cell
    reason: str
    rule: str
    backend: str | None
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
    elsewhere = unserved(cell, index.facts.compat)
    broken = None if elsewhere is not None else judge_cell(cell, index.facts, index.policy)
    if broken is not None:
        rule, reason, remedy = broken
        return Unsupported(cell, reason, remedy, rule.name)
    verdicts = index.verdicts(cell)
    nearest = _rejections(cell, index, verdicts)
    best = index.chosen(cell, verdicts)
    if best is not None:
        reason = _why_match(cell, best, index.facts) + trust_words(best.wheel, cell, index)
        return Match(cell, reason + _unlisted(cell, index), best.wheel, best.build, verdicts.counts, nearest)
    if elsewhere is not None:
        return Fallback(cell, elsewhere, "platform", None, verdicts.counts, nearest)
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
    reason += _unlisted(cell, index)
    return Fallback(cell, reason, rule_name, backend, verdicts.counts, nearest, build)


def _unlisted(cell: Cell, index: WheelIndex) -> str:
    """The end of a reason for a build of torch that is neither listed nor known to be missing."""
    compat = index.facts.compat
    if index.policy.installed or cell.platform not in compat.platforms:
        return ""
    if compat.shipped(cell.torch, cell.cuda, cell.platform) is not Shipped.UNKNOWN:
        return ""
    return (
        f"; whether PyTorch published torch {cell.torch} for CUDA {cell.cuda} on {cell.platform} is not known to "
        f"compat.yaml ({compat.as_of})"
    )


def explain(cell: Cell, index: WheelIndex) -> tuple[Rejection, ...]:
    """The full trace: for every wheel that is refused, the first rule that does it, and why."""
    found = (_first_refusal(cell, candidate, index) for candidate in index.candidates)
    return tuple(rejection for rejection in found if rejection is not None)


def _first_refusal(cell: Cell, candidate: Candidate, index: WheelIndex) -> Rejection | None:
    for rule in WHEEL_RULES:
        detail = rule.check(candidate, cell, index.facts, index.policy)
        if detail is not None:
            return Rejection(candidate.wheel.filename, rule.name, detail)
    return None


def _rejections(cell: Cell, index: WheelIndex, verdicts: Verdicts) -> tuple[Rejection, ...]:
    """The closest misses, each with the first rule that refuses it."""
    found = []
    for position, number in verdicts.nearest:
        detail = index.detail(number, position, cell)
        found.append(Rejection(index.wheels[position].filename, WHEEL_RULES[number].name, detail or ""))
    return tuple(found)


def _why_match(cell: Cell, best: Candidate, facts: Facts) -> str:
    name, build = best.wheel.name, best.build
    gpu = f" and {cell.gpu_text}" if cell.arch else ""
    driver = f"; its compressed GPU code needs driver {build.driver} or newer" if build.driver else ""
    return (
        f"flash-attn {name.version} from {best.wheel.provider} fits Python {cell.python}, torch {cell.torch}, "
        f"CUDA {cell.cuda}, ABI {cell.abi}{gpu}{driver}{build.caveat}{reuse_evidence(name.torch_minor, cell, facts)}"
    )


def _why_fallback(
    cell: Cell, index: WheelIndex, refused: Sequence[int], nearest: tuple[Rejection, ...]
) -> tuple[str, str]:
    """Name the rule that decides, in these words: one that refuses every wheel that the asker accepts; else one that
    alone refuses a wheel built for just this cell; else that of the nearest miss."""
    if not index.wheels:
        return "catalogue", "the catalogue holds no wheels"
    if cell.cuda.is_cpu:
        return "cuda", "flash-attn 2 is CUDA code, and this is a CPU build of torch"
    accepted = index.all
    for rule, mask in zip(WHEEL_RULES, refused, strict=True):
        accepted &= ~mask if rule.about is About.CHOICE else index.all
        if not accepted:
            return rule.name, _none_at_all(rule, cell, index, index.all)
    alone = [rule for rule, mask in zip(WHEEL_RULES, refused, strict=True) if not accepted & ~mask]
    if alone:
        rule = next((rule for rule in alone if rule.name == "arch"), alone[0])
        return rule.name, _no_code(rule, cell, index, accepted) or _none_at_all(rule, cell, index, accepted)
    rule_name, detail = _built_for_it(cell, index, refused) or (nearest[0].rule, nearest[0].detail)
    torch = minor_of(cell.torch)
    if rule_name == "torch":
        place = f"Python {cell.python} with CUDA {cell.cuda.major}"
        return rule_name, f"no flash-attn wheel for torch {torch} fits {place}{_could_be_reused(cell, index)}"
    place = f"Python {cell.python} with torch {torch} and CUDA {cell.cuda.major}"
    return rule_name, f"no flash-attn wheel fits {place}: the nearest is refused, {detail}"


def _no_code(rule: WheelRule, cell: Cell, index: WheelIndex, accepted: int) -> str | None:
    """Say of a GPU that no accepted wheel serves it; None where another rule refuses them."""
    if rule.name != "arch":
        return None
    detail = rule.check(index.candidates[next(bits(accepted))], cell, index.facts, index.policy)
    return f"no flash-attn wheel{_of_version(index, accepted)} runs on {cell.gpu_text}: {detail}"


def _of_version(index: WheelIndex, accepted: int) -> str:
    """Which versions were asked for, where that leaves out some wheels; others may exist."""
    versions = " or ".join(map(str, index.policy.flash_attn))
    return f" of version {versions}" if versions and accepted != index.all else ""


def _built_for_it(cell: Cell, index: WheelIndex, refused: Sequence[int]) -> tuple[str, str] | None:
    """A wheel that is for just this cell, and that one rule on what it is refuses: that rule, and why."""
    seen = more = 0  # wheels that some rule refuses; and that more than one does
    for mask in refused:
        more |= seen & mask
        seen |= mask
    for number, rule in enumerate(WHEEL_RULES):
        if rule.about is About.PROPERTY and (only := refused[number] & ~more):
            return rule.name, index.detail(number, next(bits(only)), cell) or ""
    return None


def _could_be_reused(cell: Cell, index: WheelIndex) -> str:
    """Say that a wheel for another torch minor was seen to load on the cell's, where one is there and nobody asked."""
    for row in () if index.policy.reuse else index.facts.compat.flash_attn.reuse:
        other = replace(cell, torch=Version(row.wheel_torch))
        if reuse_window(row.wheel_torch, cell, index.facts) is not None and index.best(other) is not None:
            return f"; one for torch {row.wheel_torch} was seen to load there: --reuse measured"
    return ""


def _none_at_all(rule: WheelRule, cell: Cell, index: WheelIndex, accepted: int) -> str:
    """Say what no accepted wheel of the catalogue has: one rule refuses each of them."""
    if rule.name == "torch" and cell.torch.is_prerelease:
        return (
            f"torch {cell.torch} is a pre-release, as NGC builds are: its C++ interface is that of no release, and "
            f"flash-attn wheels are for releases; it must come with that build, or be compiled on it"
        )
    reused = _could_be_reused(cell, index) if rule.name == "torch" else ""
    return f"no flash-attn wheel{_of_version(index, accepted)} exists {rule.missing(cell, index.policy)}{reused}"


#: Every rule's name, for documentation and tests.
RULE_NAMES = (*(rule.name for rule in CELL_RULES), *(rule.name for rule in WHEEL_RULES))
