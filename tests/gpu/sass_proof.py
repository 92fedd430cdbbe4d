"""Compare the GPU code that we read in a binary with NVIDIA's own list: ``python tests/gpu/sass_proof.py FILE ...``

``cuobjdump`` is in the package nvidia-cuda-cuobjdump, and in CUDA toolkits; it must be on PATH. Exit code 1: they
differ.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from matrix import Arch
from wheel_resolver.inside.sass import read_sass


def listed(path: Path) -> tuple[Arch, ...]:
    """The architectures that ``cuobjdump --list-elf`` names."""
    done = subprocess.run(["cuobjdump", "--list-elf", str(path)], capture_output=True, text=True, check=True)
    names = set(re.findall(r"\.(sm_\d+[af]?)\.cubin", done.stdout))
    return tuple(sorted(map(Arch.parse, names)))


def main() -> int:
    """Print both lists for each file."""
    differ = False
    for name in sys.argv[1:]:
        ours, theirs = read_sass(Path(name)), listed(Path(name))
        differ |= ours.archs != theirs
        print(f"{name}: ours {', '.join(map(str, ours.archs or ()))}; cuobjdump {', '.join(map(str, theirs))}")
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
