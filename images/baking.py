"""Build targets with ``docker buildx bake``, one after the other.

Targets share layers through the engine's cache, so the second of a stack costs its own last layers only; one that
fails does not stop the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from docker.errors import ImageNotFound

from images import quoting, staging
from images.bases import BaseProvider, UnavailableError
from images.engine import Engine, unpacked_size
from images.hostsettings import HostSettings, mask, read_host_settings
from images.lock import origin_for
from images.planned import Planned, Workspace, default_targets, image_tag, load_planned, select_targets
from images.recipe import Recipe
from images.render import require_fresh
from images.results import Built
from matrix.cli import say
from matrix.errors import NetworkError, WheelwrightError
from wheel_resolver.fetching.fetch import fetch


def build_targets(
    workspace: Workspace, engine: Engine, names: Sequence[str] | None, *, base_mode: str = "auto", cache: bool = True
) -> list[Built]:
    """Build the named targets, or the default tier.

    Raises:
        UsageError: an unknown target.
        DataError: the locks or the generated files do not fit the matrix.
    """
    wanted = default_targets(workspace.project.matrix.targets) if names is None else names
    names_wanted = select_targets(workspace.project.matrix.targets, wanted)
    every = load_planned(workspace)
    require_fresh(every, workspace)
    planned = [item for item in every if item.target.name in names_wanted]
    settings = read_host_settings()
    say(f"engine {engine.version} at {engine.host}, buildx {engine.buildx}; package settings: {settings.describe()}")
    builder = _Builder(workspace, engine, settings, BaseProvider(engine, workspace.project.compat, base_mode), cache)
    return [_build_one(builder, item) for item in planned]


@dataclass(frozen=True, slots=True)
class _Builder:
    """What all builds of one run have in common."""

    workspace: Workspace
    engine: Engine
    settings: HostSettings
    provider: BaseProvider
    cache: bool


def _build_one(builder: _Builder, item: Planned) -> Built:
    """Stage and bake one target, in a folder of its own that is gone afterwards: it holds secrets."""
    workspace = builder.workspace
    workspace.build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=workspace.build) as scratch:
        return _build_in(Path(scratch), builder, item)


def _build_in(scratch: Path, builder: _Builder, item: Planned) -> Built:
    workspace, engine = builder.workspace, builder.engine
    name, tag = item.target.name, image_tag(item.target.name)
    log = workspace.build / "logs" / f"{name}.build.log"
    start = time.monotonic()
    try:
        override, how = stage(workspace, item, builder.settings, builder.provider, scratch)
    except (UnavailableError, NetworkError) as error:
        say(f"{name}: unavailable here: {error.what}")
        return Built(name, "unavailable", tag, f"unavailable here: {error.what}")
    except WheelwrightError as error:
        say(f"{name}: {error}")
        return Built(name, "failed", tag, error.what)
    say(f"{name}: {how}")
    status = bake(workspace, name, override, log, output=_output(engine), cache=builder.cache)
    seconds = round(time.monotonic() - start, 1)
    if status != 0:
        return Built(name, "failed", tag, f"bake: {failing_step(log)}", seconds=seconds, log=str(log))
    try:
        image = engine.client.images.get(tag)
    except ImageNotFound:
        detail = f"bake is done, and engine {engine.host} has no {tag}: another engine's builder is in use"
        return Built(name, "failed", tag, detail, seconds=seconds, log=str(log))
    return Built(name, "built", tag, how, str(image.id), unpacked_size(image), seconds, str(log))


def stage(
    workspace: Workspace, item: Planned, settings: HostSettings, provider: BaseProvider, scratch: Path
) -> tuple[Path, str]:
    """Put all that bake reads into place: contexts below ``.build/contexts``, secrets and bake file into ``scratch``.

    Returns:
        The bake file with what belongs to this machine and this build, and one line on where things come from.

    Raises:
        UnavailableError: the base or the CUDA toolkit cannot be had here.
        NetworkError, DataError: nor can the wheel, or it is another than the locked one.
    """
    recipe, contexts = item.recipe, workspace.build / "contexts"
    base = provider.provide(recipe)
    if recipe.cuda_devel is not None and (refused := provider.registry_refuses(recipe.cuda_devel)) is not None:
        raise UnavailableError(f"no CUDA toolkit: {recipe.cuda_devel}: {refused}")
    stage_wheel(recipe, contexts / recipe.name)
    staging.stage_uv(contexts)
    local = staging.stage_local_wheels(settings, recipe.stack_lock.pins(), contexts / recipe.stack)
    origin = origin_for(workspace, item.target)
    has_torch = any(wheel.startswith("torch-") for wheel in local)
    entries = staging.stage_secrets(settings, [origin] if origin and not has_torch else [], scratch)
    below = scratch.relative_to(workspace.root)
    override = {
        "target": {
            item.target.name: {
                "secret": [f"id={name},src={below / name}" for name in entries],
                "labels": quoting.bake_value(_build_labels(workspace.root)),
                "args": {"MAX_JOBS": str(max_jobs())} if recipe.source_build else {},
                **({"contexts": {base.name: base.context}} if base.context else {}),
            }
        }
    }
    path = scratch / "bake.json"
    path.write_text(json.dumps(override, indent=1), encoding="utf-8")
    return path, base.how + (
        f"; {len(local)} of {len(recipe.stack_lock.pins())} wheels from local folders" if local else ""
    )


def stage_wheel(recipe: Recipe, folder: Path) -> None:
    """Fetch the flash-attn wheel, checked by its sha256, and stage it.

    Raises:
        NetworkError: it cannot be had here.
        DataError: it has another digest than the lock says.
    """
    if recipe.wheel is None:
        return
    file = fetch(recipe.wheel.url, recipe.wheel.sha256, recipe.wheel.name)
    staging.keep_only(folder / "wheel", [staging.place(file, folder / "wheel").name])


def _output(engine: Engine) -> str:
    """How bake hands the image to the engine: zstd packs these layers in half of gzip's time, where it is kept."""
    return "type=docker,compression=zstd" if engine.containerd_store else "type=docker"


def bake(
    workspace: Workspace, target: str, override: Path, log: Path, *, output: str = "type=docker", cache: bool = True
) -> int:
    """Run ``docker buildx bake`` from the workspace's root; what it says goes to stderr and, masked, to the log."""
    command = [
        "docker", "buildx", "bake", "--progress=plain", *([] if cache else ["--no-cache"]),
        "--file", "dockerfiles/docker-bake.json", "--file", str(override.relative_to(workspace.root)),
        "--set", f"{target}.output={output}", target,
    ]  # fmt: skip
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w", buffering=1, encoding="utf-8") as file,
        subprocess.Popen(
            command, cwd=workspace.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for
        for line in process.stdout:
            text = mask(line)
            file.write(text)
            sys.stderr.write(f"{target} | {text}")
        return process.wait()


def failing_step(log: Path) -> str:
    """The line of bake's output that says what failed."""
    lines = log.read_text(encoding="utf-8").splitlines()
    errors = [line for line in lines if line.startswith("ERROR") or " ERROR: " in line]
    return (errors or lines or ["no output"])[-1][:300]


def max_jobs() -> int:
    """Parallel compilers of a source build: each takes up to 8 GiB with flash-attn's kernels (its README)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(os.cpu_count() or 1, memory // (8 << 30)))


def _build_labels(root: Path) -> dict[str, str]:
    """Date and revision, of the commit: the same checkout gives the same labels."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    seconds = os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct") or str(int(time.time()))
    revision = git("rev-parse", "HEAD") or "unknown"
    dirty = "-dirty" if git("status", "--porcelain") else ""
    return {
        "org.opencontainers.image.created": datetime.fromtimestamp(int(seconds), UTC).isoformat(),
        "org.opencontainers.image.revision": revision + dirty,
    }
