"""What a compiled extension says of itself: its machine, the libraries that it links, the glibc and ABI that it needs.

Read with pyelftools from the dynamic section, the version needs (``.gnu.version_r``) and the undefined symbols.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from matrix import Abi

_MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64"}
_GLIBC = re.compile(r"GLIBC_(\d{1,4}(?:\.\d{1,4}){1,3})")
#: Libraries whose soname ends in CUDA's major; cuDNN and NCCL count on their own.
_CUDA_RUNTIME = re.compile(r"libcudart\.so\.(\d{1,4})(?:\.\d{1,9}){0,4}")
_PYTHON = re.compile(r"\.cpython-(\d)(\d+)(t?)-")
#: Namespaces of torch in mangled names: c10, at, torch.
_TORCH = re.compile(r"N?K?(?:3c10|2at|5torch)")
_NEW_STRING = "NSt7__cxx1112basic_string"
_OLD_STRING = re.compile(r"RKSs|ESs|[PRK]Ss|SsE")


@dataclass(frozen=True, slots=True)
class SharedObject:
    """An extension. ``glibc``: the newest symbol version that it needs; ``cuda``: the major of the CUDA runtime that
    it links, None where it links none; ``abi``: what its calls of torch's C++ use, None where they do not show it."""

    member: str
    machine: str
    needed: tuple[str, ...]
    glibc: Version | None
    cuda: int | None
    abi: Abi | None
    python: str | None


class NotElfError(Exception):
    """The file is no ELF shared object, or a damaged one; the text says why."""


def read_shared_object(path: Path, member: str) -> SharedObject:
    """Read the extension at ``path``, which is ``member`` of its wheel.

    Raises:
        NotElfError: it is none.
    """
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - only where a wheel is looked into
    from elftools.construct import ConstructError  # noqa: PLC0415
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            machine = str(elf["e_machine"])
            needed, versions, symbols = tuple(_needed(elf)), list(_versions(elf)), list(_undefined(elf))
    # A hostile file reaches every corner of the parser; these are what its corners raise.
    except (
        ELFError, ConstructError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError, OSError,
        AssertionError, MemoryError, RecursionError,
    ) as error:  # fmt: skip
        raise NotElfError(f"{type(error).__name__}: {error}"[:200].rstrip(": ")) from None
    return SharedObject(
        member=member,
        machine=_MACHINES.get(machine, machine),
        needed=needed,
        glibc=max((Version(found[1]) for text in versions if (found := _GLIBC.fullmatch(text))), default=None),
        cuda=next((int(found[1]) for name in needed if (found := _CUDA_RUNTIME.fullmatch(name))), None),
        abi=abi_of(symbols),
        python=python_of(member),
    )


def _needed(elf: Any) -> Iterator[str]:
    for segment in elf.iter_segments("PT_DYNAMIC"):
        for tag in segment.iter_tags("DT_NEEDED"):
            yield str(tag.needed)


def _versions(elf: Any) -> Iterator[str]:
    section = elf.get_section_by_name(".gnu.version_r")
    for _, needs in section.iter_versions() if section is not None else ():
        for need in needs:
            yield str(need.name)


def _undefined(elf: Any) -> Iterator[str]:
    section = elf.get_section_by_name(".dynsym")
    for symbol in section.iter_symbols() if section is not None else ():
        if symbol["st_shndx"] == "SHN_UNDEF":
            yield str(symbol.name)


def abi_of(symbols: Iterable[str]) -> Abi | None:
    """The C++ ABI of the torch functions that take a string: its name is mangled differently in each.

    >>> abi_of(["_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"])
    <Abi.TRUE: 'TRUE'>
    >>> abi_of(["_ZN3c106detail14torchCheckFailEPKcS2_jRKSs"])
    <Abi.FALSE: 'FALSE'>
    >>> abi_of(["_ZN3c104cuda20CUDACachingAllocator9allocatorE", "cudaLaunchKernel"])
    """
    torchs = [name for name in symbols if name.startswith("_Z") and _TORCH.search(name)]
    if any(_NEW_STRING in name for name in torchs):
        return Abi.TRUE
    return Abi.FALSE if any(_OLD_STRING.search(name) for name in torchs) else None


def python_of(member: str) -> str | None:
    """The Python tag in an extension's name; None where it has none (or is for the stable ABI).

    >>> python_of("flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so")
    'cp312'
    """
    found = _PYTHON.search(member)
    return f"cp{found[1]}{found[2]}{found[3]}" if found else None
