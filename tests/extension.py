"""Compile what stands in for flash-attn's extension: a real one, that links CUDA, calls torch and holds GPU code.

Its kernels are empty; all that an inspection reads is there, and it imports next to a real torch of its ABI and CUDA.
"""

from __future__ import annotations

import struct
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

MEMBER = f"flash_attn_2_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
#: What the official wheels hold from 2.8.0.post2 on.
OFFICIAL = ("8.0", "9.0", "10.0", "12.0")

_SOURCE = """
#include <Python.h>
#include <string>
namespace c10 { namespace detail { void torchCheckFail(const char*, const char*, unsigned, const std::string&); } }
extern "C" int cudaGetDeviceCount(int*);
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "flash_attn_2_cuda", 0, -1, 0};
extern "C" PyObject* PyInit_flash_attn_2_cuda() { return PyModule_Create(&module); }
extern "C" void call() { int n; cudaGetDeviceCount(&n); c10::detail::torchCheckFail("", "", 0, std::string("x")); }
__attribute__((section(".nv_fatbin"), used, aligned(8))) static const unsigned char code[] = {%s};
"""
_C10 = """
#include <string>
namespace c10 { namespace detail { void torchCheckFail(const char*, const char*, unsigned, const std::string&) {} } }
"""
_MACHINE_CODE, _PTX = 2, 1
_ONLY_THIS, _COMPRESSED, _PLAIN = 0x100000, 0x8000, 0x11


def fat_binary(archs: Sequence[str], *, compressed: bool = False, ptx: str | None = None) -> bytes:
    """A fat binary with an empty entry for each architecture (``9.0a`` is for that one only)."""
    entries = b"".join(_entry(_MACHINE_CODE, arch, compressed=compressed) for arch in archs)
    entries += _entry(_PTX, ptx, compressed=compressed) if ptx else b""
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def _entry(kind: int, arch: str, *, compressed: bool) -> bytes:
    number = int(arch.rstrip("a").replace(".", ""))
    flags = _PLAIN | (_ONLY_THIS if arch.endswith("a") else 0) | (_COMPRESSED if compressed else 0)
    head = struct.pack("<HHIQIIHHIIIQQQ", kind, 0x101, 64, 8, 8, 0, 7, 1, number, 0, 0, flags, 0, 0)
    return head + b"\0" * (64 - len(head)) + b"\0" * 8


def compile_extension(folder: Path, *, cuda: int = 12, abi: int = 1, code: bytes | None = None) -> bytes:
    """The bytes of an extension for this Python.

    Args:
        cuda: the major of the CUDA runtime that it links.
        abi: 1 for libstdc++'s C++11 ABI, 0 for the older one.
        code: its fat binaries; those of the official wheels where none are given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = fat_binary(OFFICIAL) if code is None else code
    (folder / "cudart.c").write_text("int cudaGetDeviceCount(int* n) { return *n = 0; }")
    (folder / "c10.cpp").write_text(_C10)
    (folder / "extension.cpp").write_text(_SOURCE % ",".join(map(str, held or b"\0")))
    runtime, c10, made = folder / f"libcudart{cuda}.so", folder / "libc10.so", folder / "extension.so"
    flags = ("-shared", "-fPIC", f"-D_GLIBCXX_USE_CXX11_ABI={abi}")
    # What is linked here is only there to be named: a real torch has both loaded before the extension is imported.
    _run("gcc", *flags, f"-Wl,-soname,libcudart.so.{cuda}", str(folder / "cudart.c"), "-o", str(runtime))
    _run("g++", *flags, "-Wl,-soname,libc10.so", str(folder / "c10.cpp"), "-o", str(c10))
    include = f"-I{sysconfig.get_path('include')}"
    _run("g++", *flags, include, str(folder / "extension.cpp"), str(runtime), str(c10), "-o", str(made))
    return made.read_bytes()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
