"""A copy of the checkout, as a stranger's branch: its tools run out of it, and links are committed to it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_PARTS = ("matrix", "wheel_resolver", "images", "serve", "dockerfiles", "pyproject.toml", ".dockerignore")

# Forked for each command, so that no process is started and nothing is remembered from one to the next.
_RUNNER = """
import importlib, json, os, sys
from matrix.cli import run
mains = {name: importlib.import_module(module).main for name, module in [
    ("matrix", "matrix.__main__"), ("images", "images.__main__"), ("wheel_resolver", "wheel_resolver.cli")]}
print("ready", flush=True)
for line in sys.stdin:
    name, arguments, said = json.loads(line)
    child = os.fork()
    if not child:
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        status = 99
        try:
            status = run(lambda: mains[name](arguments))
        finally:
            sys.stdout.flush()
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def copy_checkout(root: Path) -> Path:
    for name in _PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            root.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root)
    return root


@dataclass(frozen=True)
class Checkout:
    """A copy of the checkout, and its command lines."""

    root: Path
    process: subprocess.Popen[str]

    def run(self, module: str, *arguments: str) -> tuple[int, str]:
        """The exit status of ``python -m MODULE ARGUMENTS``, and all that it said."""
        said = self.root.parent / "said"
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([module, arguments, str(said)]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()), said.read_text()


@contextlib.contextmanager
def opened(root: Path, **environment: str) -> Iterator[Checkout]:
    """A copy of the checkout with its tools ready, for the time of a block."""
    env = os.environ | {
        "WHEELWRIGHT_CACHE": str(root.parent / "cache"),
        "DOCKER_HOST": "unix:///nonexistent/docker.sock",
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", _RUNNER]
    with subprocess.Popen(
        command, cwd=root, env=env | environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Checkout(root, process)
        finally:
            process.kill()


def files_below(folder: Path) -> set[Path]:
    """Every file, with its path below the folder."""
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def with_folders(paths: set[Path]) -> list[Path]:
    """The paths, and the folders on the way to each."""
    return sorted(paths | {above for path in paths for above in path.parents if above.name})


def state(path: Path) -> dict[str, tuple[object, ...]]:
    """What would show that something below a path was read with care and not written: content, mode, dates, names."""
    found: dict[str, tuple[object, ...]] = {}
    for each in [path, *path.rglob("*")]:
        facts = each.lstat()
        content = each.read_bytes() if each.is_file() else b""
        found[str(each)] = (facts.st_mode, facts.st_mtime_ns, facts.st_ino, content)
    return found


@contextlib.contextmanager
def linked(path: Path, outside: Path) -> Iterator[Path]:
    """Commit a link at a path, to what was there, which now lies outside; for the time of a block."""
    elsewhere = outside / "elsewhere"
    shutil.rmtree(outside, ignore_errors=True)
    outside.mkdir(parents=True)
    kept = path.exists()
    if kept:
        path.rename(elsewhere)
    elif path.suffix:
        elsewhere.write_text("precious")
    else:
        elsewhere.mkdir()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(elsewhere)
    try:
        yield elsewhere
    finally:
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)
        if kept:
            elsewhere.rename(path)
