"""The arguments of the pure core that are neither cell nor wheel: facts, and what the asker wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix import Compat, KnownBroken


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true: the project's compat and known-broken data."""

    compat: Compat
    known_broken: tuple[KnownBroken, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """What the asker wants, and what the host adds.

    ``flash_attn``: the versions accepted, by any one of the specifiers; none means all. ``glibc``: that of the base
    image, None when not known. ``driver``: the host's NVIDIA driver, None when not known. ``trust``: providers, the
    most trusted first; one that is not named is not used. ``reuse``: whether a wheel may serve another torch minor
    where that was measured. ``source_build``: whether flash-attn may be compiled where no wheel fits. ``dtype``: what
    the model runs in, None for the service's choice on that GPU.
    """

    trust: tuple[str, ...]
    flash_attn: tuple[SpecifierSet, ...] = ()
    glibc: Version | None = None
    driver: Version | None = None
    reuse: bool = False
    source_build: bool = False
    dtype: str | None = None


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
