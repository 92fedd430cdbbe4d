"""What ``compat.yaml`` knows of flash-attn: how its wheels were built, what was found inside them, and its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix.values import Arch, Cuda, Driver


@dataclass(frozen=True, slots=True)
class CodeFor:
    """Machine code in a binary: the archs it holds, and the arch whose PTX newer GPUs can translate."""

    sass: tuple[Arch, ...]
    ptx: Arch | None

    def serves(self, gpu: Arch) -> bool:
        """Whether the binary runs on this GPU."""
        return any(code.cubin_runs_on(gpu) for code in self.sass) or (self.ptx is not None and self.ptx <= gpu)

    def without_ptx(self) -> CodeFor:
        """The machine code alone, which no driver has to translate."""
        return CodeFor(self.sass, None)


@dataclass(frozen=True, slots=True)
class WheelSass:
    """The code that was found inside the official flash-attn wheels of some versions."""

    version: SpecifierSet
    code: CodeFor


@dataclass(frozen=True, slots=True)
class RuntimeGate:
    """The capabilities that flash-attn's own C++ accepts when it is called."""

    version: SpecifierSet
    least: Arch
    most: Arch | None


@dataclass(frozen=True, slots=True)
class GlibcNeed:
    """The newest GLIBC symbol version that was found inside the official wheels of some versions."""

    version: SpecifierSet
    glibc: Version


@dataclass(frozen=True, slots=True)
class RecipeTorch:
    """The torch that a recipe compiles against; ``cuda``: the CUDA of its build, by the toolkit's CUDA major."""

    version: Version
    cuda: Mapping[int, Cuda]


@dataclass(frozen=True, slots=True)
class BuildRecipe:
    """How a release tag's own workflow and setup.py built its wheels.

    Attributes:
        runner: the machine, ``ubuntu-22.04``.
        pythons: wheel tags, ``cp312``.
        toolkits: the CUDA toolkit that compiled, by its major.
        torch: what was compiled against, by torch minor.
        archs: the architectures that setup.py asks for; a toolkit compiles those that it knows.
        compressed: whether device code was compressed (``-compress-mode=size``).
    """

    runner: str
    pythons: frozenset[str]
    toolkits: Mapping[int, Version]
    torch: Mapping[str, RecipeTorch]
    archs: tuple[Arch, ...]
    compressed: bool


@dataclass(frozen=True, slots=True)
class LaterUploads:
    """What is asked of a wheel that its tag's recipe does not list: it was built later, nobody published how."""

    glibc: Version
    source: str


@dataclass(frozen=True, slots=True)
class Reuse:
    """Where a wheel for one torch minor was measured to load on others, and where not."""

    wheel_torch: str
    loads_on: tuple[str, ...]
    fails_on: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Sdist:
    """A source distribution on the package index; ``size`` in bytes."""

    version: Version
    name: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class SourceBuildFacts:
    """Up to which torch minor flash-attn's released source builds, and that source."""

    max_torch: Version
    source: str
    sdists: tuple[Sdist, ...]


@dataclass(frozen=True, slots=True)
class FlashAttnFacts:
    """What is known of flash-attn's wheels and source.

    Attributes:
        repository: the official releases.
        recipes: by release tag.
        nvcc: the first CUDA toolkit that compiles for an architecture.
        runners: the glibc of the machines that recipes name.
        compressed_driver: the first driver that loads compressed device code.
        later_uploads: what to ask of wheels that no recipe lists.
        sass, glibc: what was found inside official wheels, by version.
    """

    repository: str
    recipes: Mapping[str, BuildRecipe]
    nvcc: Mapping[Arch, Version]
    runners: Mapping[str, Version]
    compressed_driver: Driver
    later_uploads: LaterUploads
    sass: tuple[WheelSass, ...]
    runtime_gate: tuple[RuntimeGate, ...]
    glibc: tuple[GlibcNeed, ...]
    reuse: tuple[Reuse, ...]
    source_build: SourceBuildFacts

    def code_in(self, version: Version) -> CodeFor | None:
        """The machine code that was found in the official wheels of a version; None where nobody has looked."""
        return next((row.code for row in self.sass if row.version.contains(version, prereleases=True)), None)

    def code_compiled(self, recipe: BuildRecipe, cuda_major: int) -> CodeFor:
        """What a recipe's toolkit of this CUDA major compiles: of the archs that are asked for, those that it knows.

        2.7.4.post1 asks for 8.0, 9.0, 10.0 and 12.0; CUDA 12.4 knows the first two.
        """
        toolkit = recipe.toolkits[cuda_major]
        return CodeFor(tuple(arch for arch in recipe.archs if arch in self.nvcc and self.nvcc[arch] <= toolkit), None)

    def gate(self, version: Version) -> RuntimeGate | None:
        """What the C++ of a version accepts."""
        return next((row for row in self.runtime_gate if row.version.contains(version, prereleases=True)), None)

    def glibc_measured(self, version: Version) -> Version | None:
        """The glibc that the official wheels of a version were seen to need; None where nobody has looked."""
        return next((row.glibc for row in self.glibc if row.version.contains(version, prereleases=True)), None)
