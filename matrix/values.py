"""The small values that cells are made of: each parses what people write and prints one canonical form.

Forms: CONTRACTS "Values". ``parse`` raises ``ValueError`` with a sentence that says what is accepted; the
caller adds where the text came from (a YAML line, an option).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

_PYTHON = re.compile(r"(\d)\.(\d{1,2})(t?)")
_CUDA = re.compile(r"(\d{1,2})\.(\d)")
_ARCH_DOTTED = re.compile(r"(\d{1,2})\.(\d)")
_ARCH_PLAIN = re.compile(r"(?:sm_)?(\d{1,2})(\d)")


@dataclass(frozen=True, slots=True, order=True)
class PythonVersion:
    """A CPython minor version: ``3.12``, or ``3.13t`` for the free-threaded build."""

    major: int
    minor: int
    free_threaded: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``3.12`` or ``3.13t``."""
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
    """The CUDA that torch was built with (``torch.version.cuda``): ``12.8``, or ``cpu`` for none."""

    major: int | None
    minor: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``12.8`` or ``cpu``."""
        if text == "cpu":
            return cls(None, None)
        found = _CUDA.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not a CUDA version such as 12.8, and not 'cpu'")
        return cls(int(found[1]), int(found[2]))

    @property
    def is_cpu(self) -> bool:
        """Whether this is a build of torch without CUDA."""
        return self.major is None

    @property
    def tag(self) -> str:
        """The name of PyTorch's wheel index: ``cu128``, ``cpu``."""
        return "cpu" if self.major is None else f"cu{self.major}{self.minor}"

    def __str__(self) -> str:
        return "cpu" if self.major is None else f"{self.major}.{self.minor}"

    def __lt__(self, other: Cuda) -> bool:
        return (self.major or 0, self.minor or 0) < (other.major or 0, other.minor or 0)


@dataclass(frozen=True, slots=True, order=True)
class Arch:
    """A GPU's compute capability, written as nvcc does: ``sm_86``."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``8.6``, ``86`` or ``sm_86``."""
        found = _ARCH_DOTTED.fullmatch(text) or _ARCH_PLAIN.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not a GPU architecture such as sm_86, 86 or 8.6")
        return cls(int(found[1]), int(found[2]))

    @property
    def capability(self) -> str:
        """The form of ``TORCH_CUDA_ARCH_LIST``: ``8.6``."""
        return f"{self.major}.{self.minor}"

    def cubin_runs_on(self, gpu: Arch) -> bool:
        """Whether code compiled for this arch runs on ``gpu``: same major, equal or higher minor.

        >>> Arch(8, 0).cubin_runs_on(Arch(8, 6))
        True
        >>> Arch(8, 6).cubin_runs_on(Arch(9, 0))
        False

        Source: CUDA C++ Programming Guide, "Binary Compatibility".
        """
        return self.major == gpu.major and self.minor <= gpu.minor

    def __str__(self) -> str:
        return f"sm_{self.major}{self.minor}"


class Abi(StrEnum):
    """Whether torch was built with libstdc++'s C++11 ABI (``torch.compiled_with_cxx11_abi()``)."""

    TRUE = "TRUE"
    FALSE = "FALSE"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``TRUE`` or ``FALSE`` in any case."""
        try:
            return cls(text.upper())
        except ValueError:
            raise ValueError(f"{text!r} is not an ABI: TRUE or FALSE") from None
