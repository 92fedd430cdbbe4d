"""Decide what each target of the matrix is locked to. Pure but for what it is handed: catalogue and digest are asked
for when a target needs them, so that a lock whose pins still hold needs no network."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from matrix import Cell, Project, Target
from wheel_resolver.core.resolve import FLASH_ATTENTION, SDPA, sdpa_backend
from wheel_resolver.lock import Lock, LockedTarget, LockedWheel, RefusedWheel, SourceBuild
from wheel_resolver.locked.choosing import Chooser, Tools, archs_of
from wheel_resolver.locked.entries import inspections
from wheel_resolver.locked.inputs import inputs_of


def make_lock(project: Project, old: Lock | None, tools: Tools, *, upgrade: bool | Collection[str]) -> Lock:
    """Decide every target, in the matrix's order; what ``old`` pins stays, but for the targets to ``upgrade``.

    A wheel that was looked into and refused stays refused, whatever is upgraded.

    Raises:
        DataError: a target asks for flash_attention_2 and no wheel fits all of its GPUs.
    """
    before: Mapping[str, LockedTarget] = {} if old is None else old.targets
    tools = replace(tools, known={**tools.known, **inspections(before.values())})
    moved = set(before) if upgrade is True else set(upgrade or ())
    return Lock(
        {
            name: _lock_target(target, project, before.get(name), tools, pinned=name not in moved)
            for name, target in project.matrix.targets.items()
        }
    )


def _lock_target(
    target: Target, project: Project, before: LockedTarget | None, tools: Tools, *, pinned: bool
) -> LockedTarget:
    cells = target.cells(project.compat)
    inputs = inputs_of(target, project)
    if target.source_build:
        build = _source_build(target, project)
        reason = (
            f"flash-attn {build.version} is compiled from its source for torch {target.torch} and CUDA {target.cuda}"
        )
        return _entry(target, cells, inputs, FLASH_ATTENTION, reason, source_build=build)
    if target.attention.value != FLASH_ATTENTION:
        return _entry(target, cells, inputs, target.attention.value, target.attention.because)
    chooser = Chooser(target, cells, project, tools)
    wheel = chooser.keep(before.wheel) if pinned and before is not None and before.wheel is not None else None
    if wheel is None:
        wheel = chooser.choose()
    return _entry(
        target, cells, inputs, FLASH_ATTENTION, chooser.reason(wheel), wheel=wheel,
        refused=chooser.refused(() if before is None else before.refused),
    )  # fmt: skip


def _source_build(target: Target, project: Project) -> SourceBuild:
    """The newest source that the target accepts; the loader has seen to it that there is one."""
    wanted = target.flash_attn
    sdists = project.compat.flash_attn.source_build.sdists
    best = max(
        (each for each in sdists if wanted is None or wanted.contains(each.version)), key=lambda each: each.version
    )
    return SourceBuild(str(best.version), best.name, best.sha256, best.size)


def _entry(
    target: Target,
    cells: tuple[Cell, ...],
    inputs: str,
    attention: str,
    reason: str,
    *,
    wheel: LockedWheel | None = None,
    source_build: SourceBuild | None = None,
    refused: tuple[RefusedWheel, ...] = (),
) -> LockedTarget:
    archs = archs_of(cells)
    # The oldest GPU decides which kernels all of them have. Eager attention is plain matrix products: math.
    backend = {FLASH_ATTENTION: FLASH_ATTENTION, SDPA: sdpa_backend(archs[0] if archs else None)}.get(attention, "math")
    return LockedTarget(
        name=target.name,
        inputs=inputs,
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
        refused=refused,
    )
