"""What the matrix says, as values: axes, targets, exclusions, and the cells that they expand to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix.compat import Compat, minor_of
from matrix.trims import Trim
from matrix.values import Abi, Arch, Cuda, PythonVersion


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of each axis: what a wheel must fit. ``arch`` and ``gpu`` are None for a CPU build of torch."""

    python: PythonVersion
    torch: Version
    cuda: Cuda
    abi: Abi
    arch: Arch | None
    gpu: str | None
    platform: str

    @property
    def gpu_text(self) -> str:
        """The GPU as a sentence names it: ``T4 (sm_75)``."""
        if self.arch is None:
            return "an AMD GPU" if self.cuda.is_rocm else "a CPU"
        return f"{self.gpu} ({self.arch})" if self.gpu else str(self.arch)


@dataclass(frozen=True, slots=True)
class DefaultAttention:
    """What a target's service uses unless told otherwise, with the evidence."""

    value: str
    because: str
    source: str


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that an image may cost.

    Attributes:
        compressed_mb, unpacked_mb: 10^6 bytes, as its layers are kept and as they lie on a disk.
        layers: of the whole image, the base's too.
        extra_mb: what it adds, compressed, to another image of the same stack; None where it has none.
    """

    compressed_mb: int
    unpacked_mb: int
    layers: int
    extra_mb: int | None = None


@dataclass(frozen=True, slots=True)
class Compression:
    """The levels that a compression has, and the one that its own tool takes unasked."""

    levels: range
    usual: int


COMPRESSIONS = {"zstd": Compression(range(1, 23), 3), "gzip": Compression(range(1, 10), 6)}


@dataclass(frozen=True, slots=True)
class Export:
    """How layers are packed: one of ``COMPRESSIONS``, and its level."""

    compression: str = "zstd"
    level: int = COMPRESSIONS["zstd"].usual


@dataclass(frozen=True, slots=True)
class Target:
    """A recipe with a name that we build and tag.

    ``tier``: default, extra or source. ``gpus``: names as in compat.yaml, empty for cpu. ``flash_attn``: the versions
    that the target accepts, None for any. ``model``: a hub id. ``base``: slim, or devel for a source build. ``trims``:
    those of trims.yaml that it asks for beside the proven ones.
    """

    name: str
    description: str
    tier: str
    python: PythonVersion
    torch: Version
    cuda: Cuda
    platform: str
    gpus: tuple[str, ...]
    model: str
    base: str
    flash_attn: SpecifierSet | None
    source_build: bool
    trims: tuple[str, ...]
    budget: Budget | None
    attention: DefaultAttention

    @property
    def stack(self) -> str:
        """What the layers below flash-attn depend on: ``py3.12-torch2.9.1-cu128``."""
        return f"py{self.python}-torch{self.torch}-{self.cuda.tag}"

    def cells(self, compat: Compat) -> tuple[Cell, ...]:
        """One cell per GPU architecture, named by its first GPU; one for cpu."""
        abi = compat.abi(self.torch, self.cuda, self.platform)
        by_arch: dict[Arch | None, str | None] = {}
        for gpu in self.gpus:
            by_arch.setdefault(compat.gpus[gpu], gpu)
        return tuple(
            Cell(self.python, self.torch, self.cuda, abi, arch, gpu, self.platform)
            for arch, gpu in (by_arch or {None: None}).items()
        )


@dataclass(frozen=True, slots=True)
class Axes:
    """The values that a question ranges over where it does not say. ``abi`` None: that of the official torch build."""

    python: tuple[PythonVersion, ...]
    torch: tuple[Version, ...]
    cuda: tuple[Cuda, ...]
    abi: tuple[Abi | None, ...]
    gpu: tuple[tuple[str | None, Arch], ...]
    platform: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Cells that the matrix leaves out; what is None matches all. ``torch`` is a minor or a full version."""

    python: PythonVersion | None
    torch: str | None
    cuda: Cuda | None
    gpu: str | None
    platform: str | None
    because: str
    source: str

    def matches(self, cell: Cell) -> bool:
        """Whether the cell is left out."""
        return (
            self.python in {None, cell.python}
            and self.torch in {None, str(cell.torch), minor_of(cell.torch)}
            and self.cuda in {None, cell.cuda}
            and self.gpu in {None, cell.gpu}
            and self.platform in {None, cell.platform}
        )


@dataclass(frozen=True, slots=True)
class Provider:
    """Where wheels come from. ``place``: a repository (``github``), an absolute path, or an index page's URL."""

    name: str
    kind: str
    place: str
    because: str
    source: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """``matrix.yaml``: what we resolve and build. ``providers``: the most trusted first, with the official one.

    ``reuse``: whether a wheel may serve another torch minor where ``compat.yaml`` has a measurement of it.
    """

    axes: Axes
    exclude: tuple[Exclusion, ...]
    targets: Mapping[str, Target]
    aliases: Mapping[str, str]
    providers: tuple[Provider, ...]
    reuse: bool = False
    export: Export = Export()

    @property
    def trust(self) -> tuple[str, ...]:
        """The providers' names, the most trusted first."""
        return tuple(provider.name for provider in self.providers)


@dataclass(frozen=True, slots=True)
class KnownBroken:
    """A wheel that every other rule accepts and that does not work; what is None matches all.

    ``installed``: projects that must be installed next to it for that, and their versions.
    """

    torch: SpecifierSet | None
    flash_attn: SpecifierSet | None
    wheel_torch: str | None
    wheel_python: str | None
    because: str
    workaround: str
    source: str
    installed: Mapping[str, SpecifierSet] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Project:
    """All data of the project."""

    matrix: Matrix
    compat: Compat
    trims: Mapping[str, Trim]
    known_broken: tuple[KnownBroken, ...]
