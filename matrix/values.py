"""The small values that cells are made of: each parses what people write and prints one canonical form.

Forms: CONTRACTS "Values", and what pip, nvcc, nvidia-smi and wheel names write of the same. ``parse`` raises
``ValueError`` with a sentence that says what is accepted; the caller adds where the text came from (a YAML line, an
option).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

_FLAGS = re.IGNORECASE | re.ASCII
_PYTHON = re.compile(r"(?:c?python|py|cp)?[ -]?(\d)\.?(\d{1,2})(?:\.(?:\d{1,3}|[x*]))?(t?)", _FLAGS)
_CUDA = re.compile(r"(?:cuda|cu|v)?[ -]?(\d{1,2}(?=\.)|\d{2})\.?(\d)(?:\.\d{1,3}){0,2}", _FLAGS)
_CUDA_MAJOR = re.compile(r"(?:cuda|cu|v)?[ -]?(\d{2})(?:\.[x*])?", _FLAGS)
_ROCM = re.compile(r"rocm[ -]?(\d)\.(\d{1,2})(?:\.\d{1,2})?", _FLAGS)
_NO_CUDA = frozenset({"cpu", "none"})
_ARCH = re.compile(r"(?:sm|compute)?[_ ]?(\d{1,2})\.?(\d)([af]?)", _FLAGS)
_DRIVER = re.compile(r"v?(\d{3,4})(?:\.(\d{1,3}))?(?:\.(\d{1,3}))?", _FLAGS)
_ABI = re.compile(r"(?:cxx11_?abi[ =_]?)?(true|false|1|0)", _FLAGS)


@dataclass(frozen=True, slots=True, order=True)
class PythonVersion:
    """A CPython minor version: ``3.12``, or ``3.13t`` for the free-threaded build."""

    major: int
    minor: int
    free_threaded: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``3.12`` or ``3.13t``, a release of it (``3.12.3``), or a tag: ``cp312``, ``py312``, ``python3.12``."""
        found = _PYTHON.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not a Python version such as 3.12 or 3.13t")
        return cls(int(found[1]), int(found[2]), bool(found[3]))

    @property
    def tag(self) -> str:
        """The wheel tag: ``cp312``, ``cp313t`` (PEP 425, PEP 703)."""
        return f"cp{self.major}{self.minor}{'t' if self.free_threaded else ''}"

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}{'t' if self.free_threaded else ''}"


@dataclass(frozen=True, slots=True)
class Cuda:
    """The CUDA that torch was built with (``torch.version.cuda``): ``12.8``, or ``cpu`` for none.

    A ROCm build (``rocm6.4``) stands here, too: no wheel serves it, and the answer says so.
    """

    major: int | None
    minor: int | None
    is_rocm: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``12.8``, ``cpu`` or ``rocm6.4``, a release of it (``12.8.1``), or a tag: ``cu128``, ``128``."""
        if text.lower() in _NO_CUDA:
            return cls(None, None)
        if rocm := _ROCM.fullmatch(text):
            return cls(int(rocm[1]), int(rocm[2]), is_rocm=True)
        found = _CUDA.fullmatch(text)
        if found is None:
            if (major := cls.major_of(text)) is not None:
                raise ValueError(f"{text!r} means every CUDA {major}, and one is wanted here, such as {major}.0")
            raise ValueError(f"{text!r} is not a CUDA version such as 12.8, and not 'cpu'")
        return cls(int(found[1]), int(found[2]))

    @staticmethod
    def major_of(text: str) -> int | None:
        """The major that a text names without a minor: 12 for ``12``, ``cu12`` and ``12.x``; else None."""
        found = _CUDA_MAJOR.fullmatch(text)
        return None if found is None else int(found[1])

    @property
    def is_cpu(self) -> bool:
        """Whether this is a build of torch without CUDA."""
        return self.major is None

    @property
    def tag(self) -> str:
        """The name of PyTorch's wheel index: ``cu128``, ``cpu``, ``rocm6.4``."""
        return str(self) if self.major is None or self.is_rocm else f"cu{self.major}{self.minor}"

    def __str__(self) -> str:
        if self.major is None:
            return "cpu"
        return f"{'rocm' if self.is_rocm else ''}{self.major}.{self.minor}"

    def __lt__(self, other: Cuda) -> bool:
        return (self.major or 0, self.minor or 0) < (other.major or 0, other.minor or 0)


@dataclass(frozen=True, slots=True, order=True)
class Arch:
    """A GPU's compute capability, written as nvcc does: ``sm_86``.

    ``suffix`` is of machine code only: ``a`` (``sm_90a``) is for this very architecture, ``f`` (``sm_100f``) for its
    family. A GPU has none.
    """

    major: int
    minor: int
    suffix: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``8.6``, ``86``, ``sm86`` or ``sm_86``; of machine code also ``sm_90a``."""
        found = _ARCH.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not a GPU architecture such as sm_86, 86 or 8.6")
        return cls(int(found[1]), int(found[2]), found[3].lower())

    @property
    def capability(self) -> str:
        """The form of ``TORCH_CUDA_ARCH_LIST``: ``8.6``, ``9.0a``."""
        return f"{self.major}.{self.minor}{self.suffix}"

    def cubin_runs_on(self, gpu: Arch) -> bool:
        """Whether code compiled for this arch runs on ``gpu``: same major, equal or higher minor.

        >>> Arch(8, 0).cubin_runs_on(Arch(8, 6))
        True
        >>> Arch(8, 6).cubin_runs_on(Arch(9, 0))
        False

        The source names two exceptions. Binary compatibility holds between desktop GPUs only, neither from nor to a
        Tegra; and code for one architecture (``sm_90a``) runs on no other.

        >>> Arch(8, 0).cubin_runs_on(Arch(8, 7)), Arch(10, 0, "a").cubin_runs_on(Arch(10, 3))
        (False, False)

        Source: CUDA C++ Programming Guide, "Binary Compatibility" and "Feature Set Compiler Targets".
        """
        if (self.major, self.minor) == (gpu.major, gpu.minor):
            return True
        if self.suffix == "a" or (self.major, self.minor) in _TEGRA or (gpu.major, gpu.minor) in _TEGRA:
            return False
        return self.major == gpu.major and self.minor <= gpu.minor

    def __str__(self) -> str:
        return f"sm_{self.major}{self.minor}{self.suffix}"


#: The capabilities of Tegra chips: Jetson TX1, TX2, Xavier, Orin. Source: https://developer.nvidia.com/cuda-gpus
_TEGRA = frozenset({(5, 3), (6, 2), (7, 2), (8, 7)})


@dataclass(frozen=True, slots=True)
class Driver:
    """An NVIDIA Linux driver: ``535.247.01``, or only as much of it as is known: a branch, ``580``."""

    branch: int
    minor: int = -1
    patch: int = -1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``535.247.01``, ``580.65`` or ``580``.

        >>> str(Driver.parse("535.247.1"))
        '535.247.01'
        """
        found = _DRIVER.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not an NVIDIA driver such as 580.65.06 or 580")
        return cls(int(found[1]), int(found[2] or -1), int(found[3] or -1))

    def reaches(self, floor: Driver) -> bool:
        """Whether this driver is the floor or newer, as far as it is known: a branch reaches every floor within it.

        >>> Driver.parse("570").reaches(Driver.parse("570.86.10")), Driver.parse("570.26").reaches(Driver(570, 86))
        (True, False)
        """
        own, least = (
            [part for part in (driver.branch, driver.minor, driver.patch) if part >= 0] for driver in (self, floor)
        )
        known = min(len(own), len(least))
        return own[:known] >= least[:known]

    def __str__(self) -> str:
        """As NVIDIA writes it: the parts after the branch have two digits at least."""
        return f"{self.branch}" + "".join(f".{part:02}" for part in (self.minor, self.patch) if part >= 0)


class Abi(StrEnum):
    """Whether torch was built with libstdc++'s C++11 ABI (``torch.compiled_with_cxx11_abi()``)."""

    TRUE = "TRUE"
    FALSE = "FALSE"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``TRUE`` or ``FALSE`` in any case, ``1`` or ``0``, or as a wheel's name has it: ``cxx11abiTRUE``."""
        found = _ABI.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not an ABI: TRUE or FALSE")
        return cls("TRUE" if found[1].lower() in {"true", "1"} else "FALSE")
