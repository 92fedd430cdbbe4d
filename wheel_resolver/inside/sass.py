"""Which GPUs a binary holds machine code for, read from its fat binaries. Never guessed.

nvcc puts them into two sections of the ELF file, one behind the other. Each is a header and its entries:

    header   u32 magic, u16 version, u16 header bytes, u64 bytes of all entries
    entry    u16 kind (1 PTX, 2 machine code), u16 version, u32 header bytes, u64 bytes of the content,
             u32, u32, u16, u16, u32 architecture (90), u32, u32, u64 flags, ...

Source: NVIDIA documents no layout; tests/gpu/sass_proof.py compares with ``cuobjdump --list-elf`` on any binary, as was
done with bitsandbytes 0.50.2 (CUDA 11.8, 12.8 and 13.0) and xformers 0.0.32.post2: the same architectures.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrix import Arch

SECTIONS = (".nv_fatbin", "__nv_relfatbin")
_MAGIC = 0xBA55ED50
_HEADER = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQIIHHIIIQ")
_ALIGNED = 8
_MACHINE_CODE = 2
#: For this very architecture: ``sm_90a``.
_ONLY_THIS = 0x100000
#: Packed as drivers unpack it since CUDA 12.4: what ``-compress-mode=size`` and CUDA 13's default give.
_COMPRESSED = 0x8000


@dataclass(frozen=True, slots=True)
class Sass:
    """The architectures; None with ``note`` where they could not be read.

    ``compressed``: whether some of the code is compressed in the way that asks for a driver of CUDA 12.4.
    """

    archs: tuple[Arch, ...] | None
    note: str
    compressed: bool = False


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: int
    arch: Arch
    flags: int


def read_sass(path: Path) -> Sass:
    """List the architectures in a shared object that pyelftools can read."""
    import mmap  # noqa: PLC0415 - only where a wheel is looked into

    from elftools.common.exceptions import ELFError  # noqa: PLC0415
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    found: list[_Entry] = []
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for start, size in _sections(ELFFile(file)):
                if start + size > len(data):
                    return Sass(None, "not known: a section of GPU code is cut off")
                found += _entries(data, start, start + size)
    except (ELFError, ValueError, OSError, struct.error) as error:
        return Sass(None, f"not known: {type(error).__name__}: {error}"[:200])
    code = [entry for entry in found if entry.kind == _MACHINE_CODE]
    archs = tuple(sorted({entry.arch for entry in code}))
    note = "as its fat binaries list it" if archs else "holds no GPU code"
    return Sass(archs, note, compressed=any(entry.flags & _COMPRESSED for entry in code))


def _sections(elf: Any) -> Iterator[tuple[int, int]]:
    for name in SECTIONS:
        section = elf.get_section_by_name(name)
        if section is not None:
            yield int(section["sh_offset"]), int(section["sh_size"])


def _entries(data: Any, start: int, end: int) -> Iterator[_Entry]:
    """The entries of all fat binaries between two offsets.

    Raises:
        ValueError: a length does not fit.
    """
    place = start
    while place + _HEADER.size <= end:
        magic, _, header, size = _HEADER.unpack_from(data, place)
        if magic != _MAGIC:  # what fills up to the next one
            place += _ALIGNED
            continue
        inner, last = place + header, place + header + size
        if header < _HEADER.size or last > end:
            raise ValueError("a fat binary is longer than its section")
        while inner + _ENTRY.size <= last:
            kind, _, own, content, _, _, _, _, arch, _, _, flags = _ENTRY.unpack_from(data, inner)
            if own < _ENTRY.size or inner + own + content > last:
                raise ValueError("an entry is longer than its fat binary")
            yield _Entry(kind, Arch(arch // 10, arch % 10, "a" if flags & _ONLY_THIS else ""), flags)
            inner += own + content
        place = last
