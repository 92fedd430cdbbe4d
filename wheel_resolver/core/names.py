"""The one grammar of wheel file names: official (``cu12torch2.9cxx11abiTRUE``) and community (``cu128torch2.10``).

    flash_attn-<version>+cu<digits>torch<version>[cxx11abi<TRUE|FALSE>][-<build>]-<python>-<abi>-<platforms>.whl

The file name is not proof of the version inside its release: ``v2.8.3.post1`` carries a 2.8.3 wheel. Source: the
names of every asset from v2.6.3 on (``snapshot.json``), PEP 427 and PEP 425.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property

from packaging.version import Version

from matrix import Abi

#: Longer names are no wheel's: file systems end at 255 bytes.
MAX_NAME = 255

_NAME = re.compile(
    r"flash_attn-(?P<version>\d+(?:\.\d+){0,3}(?:(?:a|b|rc|\.post|\.dev)\d+)?)"
    r"\+cu(?P<cuda>\d{2,3})"
    r"torch(?P<torch>\d+\.\d+(?:\.\d+)?)"
    r"(?:cxx11abi(?P<abi>TRUE|FALSE))?"
    r"(?:-(?P<build>\d{1,9}[a-z0-9_]{0,20}))?"
    r"-(?P<python>cp\d{2,3})"
    r"-(?P<python_abi>cp\d{2,3}[mt]?|abi3t?|abi3\.abi3t)"
    r"-(?P<platform>(?:linux|manylinux|musllinux|win|macosx)[a-z0-9_]*(?:\.(?:manylinux|musllinux|linux)[a-z0-9_]*)*)"
    r"\.whl",
    re.ASCII,
)


@dataclass(frozen=True)
class WheelName:
    """What a wheel's file name says. Texts, as they stand in the name, so that ``format`` gives the same name back."""

    version: str
    cuda: str
    torch: str
    abi: Abi | None
    python: str
    python_abi: str
    platform: str
    build: str | None = None

    @classmethod
    def parse(cls, name: str) -> WheelName | None:
        """Read a file name; None when it is not a flash-attn wheel's.

        >>> WheelName.parse("flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl").torch
        '2.9'
        """
        found = _NAME.fullmatch(name) if len(name) <= MAX_NAME else None
        if found is None:
            return None
        parts = found.groupdict()
        abi = parts.pop("abi")
        return cls(**parts, abi=Abi(abi) if abi else None)

    def format(self) -> str:
        """Write the file name."""
        abi = f"cxx11abi{self.abi}" if self.abi else ""
        build = f"-{self.build}" if self.build else ""
        return (
            f"flash_attn-{self.version}+cu{self.cuda}torch{self.torch}{abi}{build}"
            f"-{self.python}-{self.python_abi}-{self.platform}.whl"
        )

    @property
    def flash_attn(self) -> Version:
        """The flash-attn version."""
        return _version(self.version)

    @cached_property
    def cuda_major(self) -> int:
        """12 for ``cu12``, ``cu123`` and ``cu128``."""
        return int(self.cuda[:2])

    @property
    def cuda_minor(self) -> int | None:
        """8 for ``cu128``; None for ``cu12``, which says the major only."""
        return int(self.cuda[2:]) if len(self.cuda) > 2 else None  # noqa: PLR2004 - two digits are the major

    @cached_property
    def torch_minor(self) -> str:
        """``2.9`` for ``torch2.9`` and ``torch2.9.1``."""
        return ".".join(self.torch.split(".")[:2])


@cache
def _version(text: str) -> Version:
    """A version that many wheels have is read once."""
    return Version(text)
