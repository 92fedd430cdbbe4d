"""Places that flash-attn's releases do not serve at all: Windows, macOS, ROCm. The answer is SDPA, and why."""

from __future__ import annotations

from matrix import Cell, Compat

_SYSTEMS = {"win": "Windows", "macosx": "macOS"}


def system_of(platform: str) -> str | None:
    """The operating system of a platform tag that is not Linux; None where it is, or is not known.

    >>> system_of("win_amd64"), system_of("macosx_14_0_arm64"), system_of("linux_x86_64")
    ('Windows', 'macOS', None)
    """
    return next((system for prefix, system in _SYSTEMS.items() if platform.startswith(prefix)), None)


def unserved(cell: Cell, compat: Compat) -> str | None:
    """Why no official wheel can exist for the cell, whatever its torch; None on Linux with CUDA or a CPU."""
    if cell.cuda.is_rocm:
        return (
            f"flash-attn's releases have no wheel for ROCm, and torch {cell.torch} for {cell.cuda} loads none that is "
            "built for CUDA; torch's own SDPA runs there"
        )
    system = None if cell.platform in compat.platforms else system_of(cell.platform)
    if system is None:
        return None
    served = " and ".join(compat.platforms)
    return f"flash-attn's releases have no wheel for {system}: theirs are for {served}; torch's own SDPA runs there"
