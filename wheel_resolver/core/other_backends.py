"""Attention that is not flash-attn 2 and not torch's own: what each would need on a cell, and why it is not chosen.

None is ever chosen unasked, and none is in a lock: an answer names them, so that nobody has to search.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix import Cell, Compat
from matrix.compat import OtherBackend
from wheel_resolver.core.foreign import unserved


@dataclass(frozen=True, slots=True)
class Other:
    """Another backend on a cell. ``can_run``: whether nothing that we know of rules it out there."""

    name: str
    where: str
    needs: str
    can_run: bool
    why_not: str


def others_on(cell: Cell, compat: Compat, unsupported: str | None = None) -> tuple[Other, ...]:
    """Every other backend that the facts know, for a cell; ``unsupported``: why torch itself cannot run there."""
    found, nowhere = [], unsupported or _nowhere(cell, compat)
    for backend in compat.other_backends:
        refusal = nowhere or _refusal(backend, cell)
        why = f"not chosen unasked: {backend.because}" if refusal is None else refusal
        found.append(Other(backend.name, backend.where, backend.needs, refusal is None, why))
    return tuple(found)


@functools.cache
def _contains(wanted: SpecifierSet, torch: Version) -> bool:
    """Whether a torch is one of those; no pre-release is. Asked of few pairs, for many cells."""
    return not torch.is_prerelease and wanted.contains(torch)


def _nowhere(cell: Cell, compat: Compat) -> str | None:
    """Why none of them runs on a cell: all are CUDA code for Linux."""
    if cell.arch is None or cell.cuda.is_cpu:
        return "it is CUDA code"
    if unserved(cell, compat) is not None:
        return f"it is for Linux and CUDA, not for {cell.platform} with {cell.cuda}"
    return None


def _refusal(backend: OtherBackend, cell: Cell) -> str | None:
    if cell.arch is None or cell.arch.major not in backend.archs:
        majors = ", ".join(f"{major}.x" for major in backend.archs)
        return f"it has code for compute capability {majors}, not for {cell.gpu_text}"
    if not _contains(backend.torch, cell.torch):
        return f"it needs torch {backend.torch}, not {cell.torch}"
    if cell.cuda < backend.cuda:
        return f"it needs CUDA {backend.cuda} or newer, not {cell.cuda}"
    return None
