"""One run of ``docker buildx bake``: its options, its output as it comes, and what failed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from images.hostsettings import mask
from images.planned import Workspace
from matrix import Export
from matrix.errors import WheelwrightError


class BuildError(WheelwrightError):
    """A step of a build failed."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How to build.

    Attributes:
        base: where base images come from, one of ``images.bases.MODES``.
        cached: whether layers that were built before may be used.
        builder: the buildx builder; None for the one in use.
        packing: how layers are packed; None for what the matrix says.
        export: a folder for the image as an OCI archive, beside the engine's image; None for none.
        cache_from, cache_to: remote caches to read and to write, ``type=registry,ref=...`` (see ``images.caches``).
    """

    base: str = "auto"
    cached: bool = True
    builder: str | None = None
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    packing: Export | None = None
    export: Path | None = None


def bake(
    workspace: Workspace, target: str, override: Path, log: Path, *, output: str, options: BuildOptions | None = None
) -> None:
    """Bake one target from the workspace's root; what bake says goes to stderr as it comes and, masked, to the log.

    Raises:
        BuildError: names the step that failed.
    """
    chosen = options or BuildOptions()
    command = [
        "docker", "buildx", "bake", "--progress=plain",
        *([] if chosen.cached else ["--no-cache"]),
        *(["--builder", chosen.builder] if chosen.builder else []),
        "--file", "dockerfiles/docker-bake.json", "--file", str(override.relative_to(workspace.root)),
        "--set", f"{target}.output={output}", target,
    ]  # fmt: skip
    # Else buildx loads each stage that others take as a context too, as a nameless image packed with gzip, and what is
    # built from it keeps those layers.
    environment = os.environ | {"BUILDX_NO_DEFAULT_LOAD": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w", buffering=1, encoding="utf-8") as file,
        subprocess.Popen(
            command,
            cwd=workspace.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for
        for line in process.stdout:
            text = mask(line)
            file.write(text)
            sys.stderr.write(f"{target} | {text}")
    if process.returncode != 0:
        raise BuildError(f"bake: {failing_step(log.read_text(encoding='utf-8'))}", remedy=f"read {log}")


def failing_step(text: str) -> str:
    """What failed: the step by its name, and the last line that it said; else bake's own last error."""
    lines = text.splitlines()
    failed = re.findall(r"^(#\d+) ERROR: (.*)$", text, re.MULTILINE)
    if not failed:
        errors = [line for line in lines if line.startswith("ERROR")]
        return (errors or lines or ["no output"])[-1][:300]
    number, error = failed[-1]
    names = re.findall(rf"^{number} (\[.*?\])", text, re.MULTILINE)
    said = re.findall(rf"^{number} \d+\.\d+ (.*\S.*)$", text, re.MULTILINE)
    return ": ".join([*names[:1], *([said[-1][:300]] if said else []), error[:300]])
