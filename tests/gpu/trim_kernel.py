"""A triton kernel, for `trim_checks.py`: triton reads its source, so it stands in a file of its own."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _add_one(source, target, count, block: tl.constexpr):  # type: ignore[no-untyped-def]
    places = tl.program_id(0) * block + tl.arange(0, block)
    inside = places < count
    tl.store(target + places, tl.load(source + places, mask=inside) + 1, mask=inside)


def add_one(source: torch.Tensor) -> torch.Tensor:
    """``source + 1``; shape (n,), on a GPU."""
    target = torch.empty_like(source)
    _add_one[(triton.cdiv(source.numel(), 256),)](source, target, source.numel(), block=256)
    return target
