"""uv resolves what a stack asks for: from the host's indexes, and from wheels alone."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from packaging.utils import canonicalize_name

from images.hostsettings import HostSettings
from images.lock_inputs import MANYLINUX, asked, left_out, origin_for, torch_requirement
from images.planned import Workspace
from images.requirement_files import Pin
from images.requirements_in import parse_requirement, read_requirements, write_requirements
from images.uv import uv_executable
from matrix import Target
from matrix.errors import DataError, NetworkError

# uv's words for what it would have to build.
_NEEDS_BUILD = re.compile(
    r"Wheels are required for `([^`\s]+)`|Building source distributions for `([^`\s]+)` is disabled"
)
_LAST_LINES = 12


def resolve_stack(
    workspace: Workspace,
    target: Target,
    build: Sequence[str],
    kept: Iterable[Pin],
    settings: HostSettings,
    *,
    allow_build: Sequence[str] = (),
) -> str:
    """What a stack needs, as uv writes it: pins with hashes.

    Args:
        workspace: what is asked for lies in it; uv works elsewhere, where none of its files sets anything.
        target: whose stack it is.
        build: what a builder needs in addition to the stack.
        kept: what is pinned and shall stay.
        settings: of this host.
        allow_build: the packages that may be built from source, which runs their code here.

    Raises:
        DataError: a package has no wheel, or a line asks for something that is not looked up by name.
        NetworkError: uv could not resolve it.
    """
    attempts = [settings]
    if origin := origin_for(workspace, target):
        attempts.append(replace(settings, extra_indexes=(*settings.extra_indexes, origin)))
    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix="wheelwright-lock-") as scratch:
        command = [*_command(workspace, target, build, kept, Path(scratch)), *build_options(allow_build)]
        for each in attempts:
            done = subprocess.run(
                command,
                cwd=scratch,
                env=os.environ | each.uv_environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                return (Path(scratch) / "locked.txt").read_text(encoding="utf-8")
            said.append(each.masked(done.stderr.strip()))
    refuse_builds(target.stack, said)
    raise NetworkError(
        f"uv could not resolve {target.stack}",
        said="\n".join(said).splitlines()[-_LAST_LINES:],
        remedy="see the host's index: `pip config list`; WHEELWRIGHT_PYTORCH_WHEELS can name a mirror of PyTorch's",
    )


def _command(
    workspace: Workspace, target: Target, build: Sequence[str], kept: Iterable[Pin], scratch: Path
) -> list[str]:
    """uv's command line, and the files that it names, below ``scratch``."""
    wanted = [parse_requirement(text, target.stack) for text in (torch_requirement(workspace, target), *build)]
    write_requirements(wanted, scratch / "stack.in")
    for path in asked(target):
        write_requirements(read_requirements(workspace.root / path), scratch / path)
    # A build tool that the runtime does without (psutil) is still needed to build.
    overrides = [requirement for name, requirement in left_out(workspace).items() if name not in build]
    write_requirements(overrides, scratch / "overrides.txt")
    pins = {f"{pin.name};{pin.marker}": pin for pin in kept}.values()
    (scratch / "locked.txt").write_text("".join(map(_as_written, pins)), encoding="utf-8")
    return [
        uv_executable(), "pip", "compile", "--quiet", "--no-header", "--generate-hashes",
        "--no-emit-index-url", "--no-emit-find-links", "--annotation-style", "line",
        "--python-version", str(target.python), "--python-platform", MANYLINUX[target.platform],
        "--override", "overrides.txt", "--output-file", "locked.txt",
        "stack.in", *map(str, asked(target)),
    ]  # fmt: skip


def _as_written(pin: Pin) -> str:
    head = f"{pin.name}=={pin.version}" + (f" ; {pin.marker}" if pin.marker else "")
    return " \\\n".join([head, *(f"    --hash=sha256:{digest}" for digest in pin.hashes)]) + "\n"


def build_options(allow_build: Sequence[str]) -> list[str]:
    """uv's options for what may be built from source: nothing, but for the named packages."""
    if not allow_build:
        return ["--no-build"]
    return ["--only-binary", ":all:", *(part for name in allow_build for part in ("--no-binary", name))]


def refuse_builds(what: str, said: Iterable[str]) -> None:
    """Say which packages uv would have had to build, where that is why it failed.

    Raises:
        DataError: it is.
    """
    needed = sorted({one or other for text in said for one, other in _NEEDS_BUILD.findall(text)})
    if needed:
        allowed = " ".join(f"--allow-build {canonicalize_name(name)}" for name in needed)
        raise DataError(
            f"{what}: {', '.join(needed)}: there is only a source archive, and none is built here: that would run the "
            "package's code on this machine",
            remedy="ask for a version that has a wheel; or, if you have read that code: "
            f"python -m images lock {allowed} (an image still installs wheels only)",
        )
