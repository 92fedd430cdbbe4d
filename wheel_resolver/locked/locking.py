"""Decide what each target of the matrix is locked to. Pure but for what it is handed: catalogue and digest are asked
for when a target needs them, so that a lock whose pins still hold needs no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from matrix import Arch, Cell, Project, Target
from matrix.errors import DataError
from wheel_resolver.core.facts import Facts, Policy, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.resolve import FLASH_ATTENTION, SDPA, Match, resolve, sdpa_backend
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.core.wheel_checks import reuse_evidence
from wheel_resolver.lock import Lock, LockedTarget, LockedWheel, SourceBuild
from wheel_resolver.upstream.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Tools:
    """What locking may use: the catalogue, how to get the digest of an unpinned wheel (None: not at all), and talk."""

    catalogue: Callable[[], Catalogue]
    compute_sha256: Callable[[Wheel], str] | None
    say: Callable[[str], None]


def make_lock(project: Project, old: Lock | None, tools: Tools, *, upgrade: bool) -> Lock:
    """Decide every target, in the matrix's order; what ``old`` pins stays unless ``upgrade``.

    Raises:
        DataError: a target asks for flash_attention_2 and no wheel fits all of its GPUs.
    """
    pins: Mapping[str, LockedTarget] = {} if old is None or upgrade else old.targets
    targets = project.matrix.targets
    return Lock({name: _lock_target(target, project, pins.get(name), tools) for name, target in targets.items()})


def _lock_target(target: Target, project: Project, pin: LockedTarget | None, tools: Tools) -> LockedTarget:
    cells = target.cells(project.compat)
    if target.source_build:
        build = _source_build(target, project)
        reason = (
            f"flash-attn {build.version} is compiled from its source for torch {target.torch} and CUDA {target.cuda}"
        )
        return _entry(target, cells, FLASH_ATTENTION, reason, source_build=build)
    if target.attention.value != FLASH_ATTENTION:
        return _entry(target, cells, target.attention.value, target.attention.because)
    facts = Facts(project.compat, project.known_broken)
    policy = _policy(target, project)
    wheel = _kept(pin.wheel, cells, facts, policy) if pin is not None and pin.wheel is not None else None
    if wheel is None:
        wheel = _choose(target, cells, WheelIndex(tools.catalogue().wheels, facts, policy), tools)
    archs = ", ".join(map(str, _archs(cells)))
    reason = (
        f"flash-attn {wheel.version} from {wheel.provider} fits Python {target.python}, torch {target.torch}, "
        f"CUDA {target.cuda}, ABI {cells[0].abi} and {archs}"
    )
    if (name := WheelName.parse(wheel.name)) is not None:
        reason += reuse_evidence(name.torch_minor, cells[0], facts)
    return _entry(target, cells, FLASH_ATTENTION, reason, wheel=wheel)


def _policy(target: Target, project: Project) -> Policy:
    wanted = () if target.flash_attn is None else (target.flash_attn,)
    return default_policy(project.compat, flash_attn=wanted, trust=project.matrix.trust, reuse=project.matrix.reuse)


def _kept(pin: LockedWheel, cells: tuple[Cell, ...], facts: Facts, policy: Policy) -> LockedWheel | None:
    """The pinned wheel, with what today's facts say of it; None where a rule of today refuses it."""
    name = WheelName.parse(pin.name)
    if name is None:
        return None
    wheel = Wheel(name, pin.name, pin.url, pin.sha256, pin.size, pin.tag, pin.provider, pin.updated_at)
    index = WheelIndex([wheel], facts, policy)
    return _pin(wheel, pin.sha256, pin.digest, index) if all(index.fitting(cell) for cell in cells) else None


def _choose(target: Target, cells: tuple[Cell, ...], index: WheelIndex, tools: Tools) -> LockedWheel:
    """The best wheel that fits every GPU of the target and has a digest, or can be given one."""
    candidates = index.fitting(cells[0])
    for cell in cells[1:]:
        fitting = set(index.fitting(cell))
        candidates = [wheel for wheel in candidates if wheel in fitting]
    passed_over = 0
    for wheel in candidates:
        if wheel.sha256 is not None:
            return _pin(wheel, wheel.sha256, "published", index)
        if tools.compute_sha256 is not None:
            tools.say(f"{target.name}: {wheel.filename} has no published digest: fetching it to compute one")
            return _pin(wheel, tools.compute_sha256(wheel), "computed", index)
        passed_over += 1
        tools.say(f"{target.name}: {wheel.filename} has no published digest: passed over")
    raise DataError(_why_none(target, cells, index, passed_over), remedy=_remedy(passed_over))


def _why_none(target: Target, cells: tuple[Cell, ...], index: WheelIndex, passed_over: int) -> str:
    if passed_over:
        return f"target {target.name}: each of the {passed_over} wheels that fit lacks a published digest"
    for cell in cells:
        resolution = resolve(cell, index)
        if not isinstance(resolution, Match):
            return f"target {target.name} asks for flash_attention_2: {resolution.reason}"
    return f"target {target.name} asks for flash_attention_2: no single wheel fits all of its GPUs"


def _remedy(passed_over: int) -> str:
    if passed_over:
        return "lock without --offline: the wheel is then fetched once, and its sha256 recorded as computed"
    return "change its python, torch or cuda (python -m wheel_resolver shows what has wheels), or its attention to sdpa"


def _pin(wheel: Wheel, sha256: str, digest: str, index: WheelIndex) -> LockedWheel:
    code = index.facts.compat.flash_attn.code_in(wheel.name.flash_attn)
    if code is None:
        raise DataError(
            f"{wheel.filename}: compat.yaml does not know which GPUs flash-attn {wheel.name.version} has code for",
            remedy="add the version to compat.yaml: flash_attn.sass",
        )
    return LockedWheel(
        name=wheel.filename,
        url=wheel.url,
        sha256=sha256,
        size=wheel.size,
        version=wheel.name.version,
        tag=wheel.tag,
        provider=wheel.provider,
        updated_at=wheel.updated_at,
        sass=code.sass,
        digest=digest,
    )


def _source_build(target: Target, project: Project) -> SourceBuild:
    """The newest source that the target accepts; the loader has seen to it that there is one."""
    wanted = target.flash_attn
    sdists = project.compat.flash_attn.source_build.sdists
    best = max(
        (each for each in sdists if wanted is None or wanted.contains(each.version)), key=lambda each: each.version
    )
    return SourceBuild(str(best.version), best.name, best.sha256, best.size)


def _archs(cells: tuple[Cell, ...]) -> tuple[Arch, ...]:
    return tuple(sorted(cell.arch for cell in cells if cell.arch is not None))


def _entry(
    target: Target,
    cells: tuple[Cell, ...],
    attention: str,
    reason: str,
    *,
    wheel: LockedWheel | None = None,
    source_build: SourceBuild | None = None,
) -> LockedTarget:
    archs = _archs(cells)
    # The oldest GPU decides which kernels all of them have. Eager attention is plain matrix products: math.
    backend = {FLASH_ATTENTION: FLASH_ATTENTION, SDPA: sdpa_backend(archs[0] if archs else None)}.get(attention, "math")
    return LockedTarget(
        name=target.name,
        python=target.python,
        torch=target.torch,
        cuda=target.cuda,
        abi=cells[0].abi,
        platform=target.platform,
        archs=archs,
        attention=attention,
        backend=backend,
        reason=reason,
        wheel=wheel,
        source_build=source_build,
    )
