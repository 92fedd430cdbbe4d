"""Which GPUs a binary holds machine code for, as NVIDIA's ``cuobjdump`` lists it. Never guessed."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from matrix import Arch

_CUBIN = re.compile(r"\.sm_(\d+)(\d)[a-z]?\.cubin")
#: A wheel of 1 GB takes 8 s.
_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Sass:
    """The architectures; None with ``note`` where nobody looked."""

    archs: tuple[Arch, ...] | None
    note: str


def read_sass(path: Path) -> Sass:
    """List the architectures in a shared object."""
    program = shutil.which("cuobjdump")
    if program is None:
        return Sass(None, "not looked at: cuobjdump is not on PATH")
    try:
        done = subprocess.run(
            [program, "--list-elf", str(path)], capture_output=True, text=True, errors="replace", check=False,
            timeout=_TIMEOUT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return Sass(None, f"not known: cuobjdump failed: {type(error).__name__}")
    if done.returncode != 0:
        return Sass(
            None, f"not known: cuobjdump failed: {(done.stderr.strip().splitlines() or ['no output'])[-1][:200]}"
        )
    return Sass(parse_list_elf(done.stdout), "as cuobjdump lists it")


def parse_list_elf(text: str) -> tuple[Arch, ...]:
    """Read the output of ``cuobjdump --list-elf``.

    >>> parse_list_elf("ELF file    1: a.1.sm_80.cubin\\nELF file    2: a.2.sm_90a.cubin\\n")
    (Arch(major=8, minor=0), Arch(major=9, minor=0))
    """
    return tuple(sorted({Arch(int(found[1]), int(found[2])) for found in _CUBIN.finditer(text)}))
