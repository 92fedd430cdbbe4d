"""The facts of ``compat.yaml`` as values, and the few questions that rules ask of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix.flash_attn_facts import CodeFor, FlashAttnFacts
from matrix.gpu_names import GpuNames
from matrix.values import Abi, Arch, Cuda, Driver, PythonVersion


def minor_of(version: Version) -> str:
    """Give ``2.9`` for ``2.9.1``: torch's binary interface holds within a minor."""
    major, *minor = version.release[:2]
    return f"{major}.{minor[0] if minor else 0}"


@dataclass(frozen=True, slots=True)
class AbiException:
    """A CUDA build or a platform whose C++ ABI differs from its torch minor's usual one."""

    cuda: Cuda | None
    platform: str | None
    abi: Abi


@dataclass(frozen=True, slots=True)
class NotBuilt:
    """Builds of a torch minor that are known not to exist; what is None matches all."""

    patch: Version | None
    cuda: Cuda | None
    platform: str | None
    python: PythonVersion | None

    def names(self, torch: Version, cuda: Cuda, platform: str) -> bool:
        """Whether this is the build."""
        return self.patch in {None, torch} and self.cuda in {None, cuda} and self.platform in {None, platform}


@dataclass(frozen=True, slots=True)
class TorchFacts:
    """What was released of one torch minor.

    ``cuda``: the builds that are known, oldest first; ``unannounced``: those among them that no release note names.
    """

    minor: str
    patches: tuple[Version, ...]
    cuda: tuple[Cuda, ...]
    unannounced: frozenset[Cuda]
    not_built: tuple[NotBuilt, ...]
    default_cuda: Cuda
    python: tuple[PythonVersion, ...]
    abi: Abi
    abi_exceptions: tuple[AbiException, ...]
    triton: tuple[str, ...]
    manylinux: str
    cxx: str


class Shipped(Enum):
    """Whether PyTorch published a build of torch: what we know of it."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """A GPU: its architecture, the machines that have it, and the drivers that run it.

    ``first``: the first driver that knows it, None where that is not told. ``last``: the branch after which NVIDIA
    ended it, None while it goes on.
    """

    arch: Arch
    platforms: tuple[str, ...]
    first: Driver | None
    last: Driver | None


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
class OtherBackend:
    """Another attention than ours: ``name`` as transformers calls it; what it needs; why it is not chosen.

    ``archs``: the majors of the GPUs that it has code for. ``torch``: the releases that it runs on. ``cuda``: the
    oldest toolkit. ``where``: what would be installed, or the repository and revision that would be loaded.
    """

    name: str
    where: str
    archs: tuple[int, ...]
    torch: SpecifierSet
    cuda: Cuda
    needs: str
    because: str
    source: str


@dataclass(frozen=True, slots=True)
class CudaSpan:
    """The first and the last torch minor with builds for a CUDA, by their places; ``announced``: by release notes."""

    first: int
    last: int
    announced: bool


@dataclass(frozen=True, slots=True)
class Compat:
    """All facts.

    Attributes:
        as_of: the day on which they were last looked at (ISO 8601).
        torch_sass: the code in each CUDA build of torch, by torch minor, CUDA and platform.
        gpus: the architecture of each GPU, by its name; ``gpu_facts`` has the rest, ``gpu_names`` its other names.
        driver_floors: the oldest driver for each CUDA major.
        toolkit_drivers: the driver that came with a toolkit: what translates PTX must be as new.
        data: all that the file says, as it was read: what locks are decided from.
        minors: the place of each torch minor, the oldest first.
        cuda_spans: the torches that each CUDA is known of.
        with_cuda: the torch minors and platforms of which some CUDA build is known.
    """

    as_of: str
    origins: Mapping[str, str]
    platforms: tuple[str, ...]
    torch: Mapping[str, TorchFacts]
    torch_sass: Mapping[tuple[str, Cuda, str], CodeFor]
    gpus: Mapping[str, Arch]
    gpu_facts: Mapping[str, GpuFacts]
    gpu_names: GpuNames
    driver_floors: Mapping[int, Driver]
    toolkit_drivers: Mapping[Cuda, Driver]
    flash_attn: FlashAttnFacts
    other_backends: tuple[OtherBackend, ...]
    bases: Bases
    qwen_tts: QwenTts
    data: Mapping[str, Any]
    minors: Mapping[str, int]
    cuda_spans: Mapping[Cuda, CudaSpan]
    with_cuda: frozenset[tuple[str, str]]

    def torch_facts(self, torch: Version) -> TorchFacts:
        """The facts of a torch release; its minor must be known (the loader and the command line see to it)."""
        return self.torch[minor_of(torch)]

    def torch_code(self, torch: Version, cuda: Cuda, platform: str) -> CodeFor | None:
        """The GPU code in a torch build; None when it is not known."""
        return self.torch_sass.get((minor_of(torch), cuda, platform))

    def shipped(self, torch: Version, cuda: Cuda, platform: str) -> Shipped:
        """Whether PyTorch published this build; CPU builds exist for every release and platform.

        Its index is open: builds stand there that no release note names, as CUDA 12.9's of torch 2.9. So a build that
        is not listed is known not to exist only where this CUDA came with a later torch or was dropped before, or where
        the torch has no CUDA build for the platform. A pre-release such as NGC's ``2.9.0a0+...`` is somebody else's.
        """
        if cuda.is_cpu or torch.is_prerelease:
            return Shipped.YES
        facts = self.torch_facts(torch)
        for missing in facts.not_built:
            if missing.python is None and missing.names(torch, cuda, platform):
                return Shipped.NO
        if cuda in facts.cuda and self.torch_code(torch, cuda, platform) is not None:
            return Shipped.YES
        if (facts.minor, platform) not in self.with_cuda:
            return Shipped.NO
        span, here = self.cuda_spans.get(cuda), self.minors[facts.minor]
        if span is None or here < span.first or cuda < facts.cuda[0] or (span.announced and here > span.last):
            return Shipped.NO
        return Shipped.UNKNOWN

    def ships(self, torch: Version, cuda: Cuda, platform: str) -> bool:
        """Whether PyTorch is known to have published this build."""
        return self.shipped(torch, cuda, platform) is Shipped.YES

    def pythons(self, torch: Version) -> tuple[PythonVersion, ...]:
        """The CPythons that a release was built for, oldest first."""
        facts = self.torch_facts(torch)
        if not facts.not_built:
            return facts.python
        gone = {missing.python for missing in facts.not_built if missing.patch in {None, torch}}
        return tuple(python for python in facts.python if python not in gone)

    def builds(self, torch: Version, platform: str) -> list[Cuda]:
        """The CUDA builds of a release that are known."""
        return [cuda for cuda in self.torch_facts(torch).cuda if self.ships(torch, cuda, platform)]

    def abi(self, torch: Version, cuda: Cuda, platform: str) -> Abi:
        """The C++ ABI of the official torch build."""
        facts = self.torch_facts(torch)
        for exception in facts.abi_exceptions:
            if exception.cuda in {None, cuda} and exception.platform in {None, platform}:
                return exception.abi
        return facts.abi

    def driver_floor(self, cuda: Cuda) -> Driver | None:
        """The oldest Linux driver for this CUDA (``525.60.13``); None for cpu or where it is not known."""
        return None if cuda.major is None else self.driver_floors.get(cuda.major)

    def gpu_name(self, name: str) -> str | None:
        """The name as compat.yaml writes it, for one that nvidia-smi prints or people use; None if it tells no GPU."""
        found = self.gpu_names.find(name)
        return found[0] if len(found) == 1 else None

    def like(self, gpu: str | None, arch: Arch) -> Iterable[GpuFacts]:
        """The facts of a GPU, by any of its names; where it has none of ours, of every GPU of its architecture."""
        named = None if gpu is None else self.gpu_facts.get(gpu) or self.gpu_facts.get(self.gpu_name(gpu) or "")
        if named is not None and named.arch == arch:
            return (named,)
        return tuple(facts for facts in self.gpu_facts.values() if facts.arch == arch)
