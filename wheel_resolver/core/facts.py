"""The arguments of the pure core that are neither cell nor wheel: facts, and what the asker wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix import Abi, Arch, Compat, Driver, KnownBroken


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found inside a wheel; None where it does not show.

    Attributes:
        abi: what its calls of torch's C++ use.
        glibc: the newest GLIBC symbol version that it needs.
        cuda: the major of the CUDA runtime that it links.
        sass: the GPU code that it holds.
        compressed: whether that is compressed in the way that older drivers cannot load.
        refusal: what contradicts its name or its recipe: it is not used then.
        loaded: where it was imported, such as ``Python 3.12, torch 2.9.1+cu128``.
    """

    abi: Abi | None = None
    glibc: Version | None = None
    cuda: int | None = None
    sass: tuple[Arch, ...] | None = None
    compressed: bool | None = None
    refusal: str | None = None
    loaded: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true: the project's compat and known-broken data, and what was found inside wheels, by their sha256."""

    compat: Compat
    known_broken: tuple[KnownBroken, ...] = ()
    inspected: Mapping[str, Inspection] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the asker wants, and what the host adds.

    Attributes:
        trust: providers, the most trusted first; one that is not named is not used.
        flash_attn: the versions accepted, by any one of the specifiers; none means all.
        glibc: that of the base image, None when not known.
        driver: the host's NVIDIA driver, None when not known.
        reuse: whether a wheel may serve another torch minor where that was measured.
        source_build: whether flash-attn may be compiled where no wheel fits.
        dtype: what the model runs in, None for the service's choice on that GPU.
        installed: whether the torch is there already: it is judged by what it is, not by what is listed.
        packages: what else is installed, project name to version, where that is known.
    """

    trust: tuple[str, ...]
    flash_attn: tuple[SpecifierSet, ...] = ()
    glibc: Version | None = None
    driver: Driver | None = None
    reuse: bool = False
    source_build: bool = False
    dtype: str | None = None
    installed: bool = False
    packages: Mapping[str, str] = field(default_factory=dict)


def default_policy(
    compat: Compat,
    *,
    flash_attn: tuple[SpecifierSet, ...] = (),
    trust: tuple[str, ...] = (),
    reuse: bool = False,
) -> Policy:
    """The matrix's providers (none given: the official releases only), on the oldest base image that we build on."""
    glibcs: Sequence[Version] = [base.glibc for base in compat.bases.registry]
    return Policy(trust=trust or (compat.flash_attn.repository,), flash_attn=flash_attn, glibc=min(glibcs), reuse=reuse)
