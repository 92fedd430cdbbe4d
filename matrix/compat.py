"""The facts of ``compat.yaml`` as values, and the few questions that rules ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix.values import Abi, Arch, Cuda, PythonVersion


def minor_of(version: Version) -> str:
    """Give ``2.9`` for ``2.9.1``: torch's binary interface holds within a minor."""
    return f"{version.major}.{version.minor}"


@dataclass(frozen=True, slots=True)
class AbiException:
    """A CUDA build or a platform whose C++ ABI differs from its torch minor's usual one."""

    cuda: Cuda | None
    platform: str | None
    abi: Abi


@dataclass(frozen=True, slots=True)
class TorchFacts:
    """What was released of one torch minor."""

    minor: str
    patches: tuple[Version, ...]
    cuda: tuple[Cuda, ...]
    default_cuda: Cuda
    python: tuple[PythonVersion, ...]
    abi: Abi
    abi_exceptions: tuple[AbiException, ...]
    triton: tuple[str, ...]
    manylinux: str
    cxx: str


@dataclass(frozen=True, slots=True)
class CodeFor:
    """Machine code in a binary: the archs it holds, and the arch whose PTX newer GPUs can translate."""

    sass: tuple[Arch, ...]
    ptx: Arch | None

    def serves(self, gpu: Arch) -> bool:
        """Whether the binary runs on this GPU."""
        return any(code.cubin_runs_on(gpu) for code in self.sass) or (self.ptx is not None and self.ptx <= gpu)


@dataclass(frozen=True, slots=True)
class WheelSass:
    """The code inside the official flash-attn wheels of some versions."""

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
    """The newest GLIBC symbol version that some flash-attn wheels need."""

    version: SpecifierSet
    glibc: Version


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
    """What is known of flash-attn's official wheels and source."""

    repository: str
    sass: tuple[WheelSass, ...]
    runtime_gate: tuple[RuntimeGate, ...]
    glibc: tuple[GlibcNeed, ...]
    reuse: tuple[Reuse, ...]
    source_build: SourceBuildFacts

    def code_in(self, version: Version) -> CodeFor | None:
        """The machine code in the official wheels of a version; None where nobody has looked."""
        return next((row.code for row in self.sass if row.version.contains(version, prereleases=True)), None)

    def gate(self, version: Version) -> RuntimeGate | None:
        """What the C++ of a version accepts."""
        return next((row for row in self.runtime_gate if row.version.contains(version, prereleases=True)), None)

    def glibc_needed(self, version: Version) -> Version | None:
        """The glibc that the official wheels of a version need."""
        return next((row.glibc for row in self.glibc if row.version.contains(version, prereleases=True)), None)


@dataclass(frozen=True, slots=True)
class RegistryBase:
    """An image of a registry: ``image`` is a template with ``{python}``."""

    suite: str
    image: str
    pythons: tuple[PythonVersion, ...]
    glibc: Version


@dataclass(frozen=True, slots=True)
class DevelBase:
    """Where a builder gets the toolkit of one CUDA: an image, or ``packages`` (a requirement; None: none has nvcc)."""

    image: str
    packages: str | None
    glibc: Version


@dataclass(frozen=True, slots=True)
class Bases:
    """Which base images there are: by registry (preferred first), bootstrapped (suite -> its Python), CUDA builders."""

    registry: tuple[RegistryBase, ...]
    bootstrap: Mapping[str, PythonVersion]
    bootstrap_glibc: Mapping[str, Version]
    cuda_devel: Mapping[Cuda, DevelBase]


@dataclass(frozen=True, slots=True)
class QwenTts:
    """What the speech package requires."""

    version: str
    requires: tuple[str, ...]
    python: SpecifierSet


@dataclass(frozen=True, slots=True)
class Compat:
    """All facts. ``torch_sass``: the code in each CUDA build of torch, by torch minor, CUDA and platform."""

    as_of: str
    origins: Mapping[str, str]
    platforms: tuple[str, ...]
    torch: Mapping[str, TorchFacts]
    torch_sass: Mapping[tuple[str, Cuda, str], CodeFor]
    gpus: Mapping[str, Arch]
    driver_floors: Mapping[int, str]
    flash_attn: FlashAttnFacts
    bases: Bases
    qwen_tts: QwenTts

    def torch_facts(self, torch: Version) -> TorchFacts:
        """The facts of a torch release; its minor must be known (the loader and the command line see to it)."""
        return self.torch[minor_of(torch)]

    def torch_code(self, torch: Version, cuda: Cuda, platform: str) -> CodeFor | None:
        """The GPU code in a torch build; None when there is no such CUDA build."""
        return self.torch_sass.get((minor_of(torch), cuda, platform))

    def ships(self, torch: Version, cuda: Cuda, platform: str) -> bool:
        """Whether PyTorch published this build; CPU builds exist for every release and platform.

        A pre-release such as NGC's ``2.9.0a0+...`` is somebody else's build: nothing is known against it.
        """
        if cuda.is_cpu or torch.is_prerelease:
            return True
        return cuda in self.torch_facts(torch).cuda and self.torch_code(torch, cuda, platform) is not None

    def abi(self, torch: Version, cuda: Cuda, platform: str) -> Abi:
        """The C++ ABI of the official torch build."""
        facts = self.torch_facts(torch)
        for exception in facts.abi_exceptions:
            if exception.cuda in {None, cuda} and exception.platform in {None, platform}:
                return exception.abi
        return facts.abi

    def driver_floor(self, cuda: Cuda) -> str | None:
        """The oldest Linux driver for this CUDA (``525.60.13``); None for cpu or where it is not known."""
        return None if cuda.major is None else self.driver_floors.get(cuda.major)

    def gpu_name(self, name: str) -> str | None:
        """The name as compat.yaml writes it, whatever the case given; None if unknown."""
        return next((known for known in self.gpus if known.casefold() == name.casefold()), None)
