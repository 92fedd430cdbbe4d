"""What a value that was typed means by the facts: the releases of a range, the CUDAs of a major, a GPU's name."""

from __future__ import annotations

import re

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix.compat import Compat
from matrix.values import Cuda

_AMD = re.compile(r"\b(?:mi\d{2,3}[a-z]?|amd|instinct|radeon)\b", re.IGNORECASE | re.ASCII)


def newest_patch(torch: str, compat: Compat) -> Version:
    """Give the full version that a matrix or a person means: ``2.9`` is its newest known patch."""
    facts = compat.torch.get(torch)
    return facts.patches[-1] if facts else Version(torch)


def of_range(wanted: SpecifierSet, compat: Compat) -> tuple[Version, ...]:
    """The newest patch of each torch minor that lies in a range, oldest first."""
    fitting = ([patch for patch in facts.patches if patch in wanted] for facts in compat.torch.values())
    return tuple(patches[-1] for patches in fitting if patches)


def cudas_of(text: str, compat: Compat) -> tuple[Cuda, ...]:
    """The known CUDAs of a major that is named alone, as in ``12``; empty where the text is anything else."""
    major = Cuda.major_of(text)
    if major is None:
        return ()
    return tuple(sorted({cuda for facts in compat.torch.values() for cuda in facts.cuda if cuda.major == major}))


def gpu_error(text: str, compat: Compat) -> tuple[str, str]:
    """What is wrong with the name of a GPU that tells none, or several; and what to write."""
    several = compat.gpu_names.find(text)
    if several:
        listed = ", ".join(f"{name} ({compat.gpus[name]})" for name in several)
        return f"is part of the names of several GPUs: {listed}", "write the whole name, as nvidia-smi prints it"
    if _AMD.search(text):
        return (
            "AMD's, and flash-attn's wheels are for CUDA; torch's own SDPA runs there",
            "ask for a build of torch: --cuda rocm6.4",
        )
    near = compat.gpu_names.near(text)
    hint = f"; perhaps you meant {near!r}" if near else ""
    return f"not known to compat.yaml{hint}", f"known: {', '.join(compat.gpus)}"
