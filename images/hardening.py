"""What an image must not hold: looked for in its file system as root, with nothing of ours running in it."""

from __future__ import annotations

from pathlib import Path

from images.container import TrackedContainer
from images.engine import Engine
from images.results import Proof

_SEARCH_S = 120.0
_WITNESS = "/etc/passwd"
_COMPILERS = ("gcc*", "g++*", "cc", "c++", "*-gcc*", "*-g++*", "clang*", "nvcc", "ld", "as", "make")
_CACHES = ("/var/cache/apt/*.bin", "/var/cache/apt/archives/*.deb", "/var/lib/apt/lists/*_*", "*/.cache/*")
#: What -> the tests of ``find`` that would see it.
UNWANTED = {
    "setuid or setgid files": "-type f -perm /6000",
    "compilers": " -o ".join(f"-path */bin/{name}" for name in _COMPILERS),
    "package caches": " -o ".join(f"-type f -path {place}" for place in _CACHES),
    "shell history": "-name .*_history",
    "bytecode beside our files": "-path /app/*.pyc -o -path /opt/venv/*.pyc",
}


def check_hardened(proof: Proof, engine: Engine, image: str, log: Path) -> None:
    """One check for each kind of what must not be there; its detail names the first files."""
    for what, tests in UNWANTED.items():
        # root without capabilities cannot read every folder, and find then fails: that it searched shows in its witness
        command = ["find", "/", "-xdev", "(", "(", *tests.split(), ")", "-o", "-path", _WITNESS, ")", "-print"]
        with TrackedContainer(engine, image, log=log, command=command, user="0") as container:
            container.wait(_SEARCH_S)
            found = container.output().splitlines()
        faults = [path for path in found if path != _WITNESS][:5]
        searched = _WITNESS in found
        proof.check(f"no {what}", searched and not faults, ", ".join(faults) if searched else "find did not run")
