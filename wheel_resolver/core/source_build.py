"""Whether flash-attn can be compiled for a cell, and of what: the CUDA-devel path of ``--source-build``."""

from __future__ import annotations

from dataclasses import dataclass

from matrix import Cell, CodeFor, Sdist
from matrix.compat import minor_of
from wheel_resolver.core.facts import Facts, Policy
from wheel_resolver.core.wheel_checks import lacks_code


@dataclass(frozen=True, slots=True)
class SourceBuild:
    """What the devel recipe compiles, and the image whose nvcc does it."""

    sdist: Sdist
    builder: str


def plan_source_build(cell: Cell, facts: Facts, policy: Policy) -> SourceBuild | str:
    """The newest source that builds for the cell, or why none does.

    Torch 2.13 for CUDA 13.0 on an H100 builds flash-attn 2.8.3.post2; on torch 2.14 no released source does.
    """
    refused = _torch_refuses(cell, facts)
    if refused is not None:
        return refused
    wanted, known = policy.flash_attn, facts.compat.flash_attn.source_build.sdists
    sdists = [each for each in known if not wanted or any(spec.contains(each.version) for spec in wanted)]
    if not sdists:
        return f"compat.yaml knows no flash-attn source of version {' or '.join(map(str, wanted))}"
    sdist = max(sdists, key=lambda each: each.version)
    builders = facts.compat.bases.cuda_devel
    lacking = lacks_code(sdist.version, _compiled(sdist, facts), cell, facts)
    if lacking is None and cell.cuda not in builders:
        lacking = f"compat.yaml knows a CUDA-devel image for CUDA {', '.join(map(str, builders))}, not for {cell.cuda}"
    return lacking or SourceBuild(sdist, builders[cell.cuda].image)


def _compiled(sdist: Sdist, facts: Facts) -> CodeFor | None:
    """What the devel recipe compiles: the archs that this source knows."""
    return facts.compat.flash_attn.code_in(sdist.version)


def _torch_refuses(cell: Cell, facts: Facts) -> str | None:
    known = facts.compat.flash_attn.source_build
    if cell.cuda.is_cpu:
        return "flash-attn 2 is CUDA code, and this is a CPU build of torch"
    if cell.torch.is_prerelease:
        return f"torch {cell.torch} is a pre-release, and the devel recipe installs releases only"
    if cell.torch.release[:2] > known.max_torch.release[:2]:
        headers = facts.compat.torch[minor_of(cell.torch)].cxx
        return (
            f"no released flash-attn source builds on torch {cell.torch}, whose headers need C++{headers}; "
            f"the last that it builds on is {known.max_torch} ({known.source})"
        )
    return None
