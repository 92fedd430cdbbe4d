"""Build targets with ``docker buildx bake``, one after the other.

Targets share layers through the engine's cache, so the second of a stack costs its own last layers only; one that
fails does not stop the others.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from docker.errors import ImageNotFound
from docker.models.images import Image

from images.bake import BuildOptions, bake
from images.bases import BaseProvider, UnavailableError
from images.budget import weigh
from images.engine import Engine
from images.hostsettings import read_host_settings
from images.inputs import Run, Staged, stage, stage_compiled
from images.planned import Planned, Workspace, default_targets, image_tag, load_planned, select_targets
from images.render import require_fresh
from images.results import Built
from matrix.cli import say
from matrix.errors import NetworkError, WheelwrightError


def build_targets(
    workspace: Workspace, engine: Engine, names: Sequence[str] | None, options: BuildOptions | None = None
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
    chosen = options or BuildOptions()
    provider = BaseProvider(engine, workspace.project.compat, chosen.base)
    run = Run(workspace, engine, settings, provider, chosen)
    return [_build_one(run, item) for item in planned]


def _build_one(run: Run, item: Planned) -> Built:
    """Stage and bake one target, in a folder of its own that is gone afterwards: it holds secrets."""
    workspace, engine = run.workspace, run.engine
    name, tag = item.target.name, image_tag(item.target.name)
    log = workspace.build / "logs" / f"{name}.build.log"
    start = time.monotonic()
    workspace.build.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="run-", dir=workspace.build) as scratch:
            staged = stage(run, item, Path(scratch))
            say(f"{name}: {staged.how}")
            if item.recipe.source_build:
                stage_compiled(run, item.recipe, staged, log)
            packing = run.options.packing or workspace.project.matrix.export
            packed = f",compression={packing.compression},compression-level={packing.level}"
            # The classic store keeps layers unpacked.
            output = f"type=docker{packed if engine.containerd_store else ''}"
            bake(workspace, name, staged.file, log, output=output, options=run.options)
            archive = _export(run, name, staged, packed)
    except (UnavailableError, NetworkError) as error:
        say(f"{name}: unavailable here: {error.what}")
        return Built(name, "unavailable", tag, f"unavailable here: {error.what}")
    except WheelwrightError as error:
        say(f"{name}: {error}")
        seconds = round(time.monotonic() - start, 1)
        return Built(name, "failed", tag, error.what, seconds=seconds, log=str(log) if log.is_file() else None)
    seconds = round(time.monotonic() - start, 1)
    image = _image(engine, tag)
    if image is None:
        detail = f"bake is done, and engine {engine.host} has no {tag}: another engine's builder is in use"
        return Built(name, "failed", tag, detail, seconds=seconds, log=str(log))
    return weighed(
        engine,
        workspace,
        Built(name, "built", tag, staged.how, str(image.id), seconds=seconds, log=str(log), archive=archive),
    )


def _export(run: Run, name: str, staged: Staged, packed: str) -> str | None:
    """Write the image as ``TARGET.oci.tar`` into the folder that was asked for, whole or not at all; its path."""
    folder = run.options.export
    if folder is None:
        return None
    made = staged.file.with_name("image.oci.tar")
    log = run.workspace.build / "logs" / f"{name}.export.log"
    output = f"type=oci,dest={made.relative_to(run.workspace.root)}{packed},force-compression=true"
    bake(run.workspace, name, staged.file, log, output=output, options=replace(run.options, cached=True))
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{name}.oci.tar"
    part = folder / f".{name}.{os.getpid()}.part"
    shutil.move(made, part)  # the folder may be on another disk
    part.replace(archive)
    say(f"{name}: {archive}: {archive.stat().st_size:,} bytes")
    return str(archive)


def weighed(engine: Engine, workspace: Workspace, built: Built) -> Built:
    """What was built, with its weight, judged by its target's budget."""
    targets = workspace.project.matrix.targets
    target = targets[built.target]
    siblings = [name for name, other in targets.items() if other.stack == target.stack and name != target.name]
    found = [image for image in (_image(engine, image_tag(name)) for name in siblings) if image is not None]
    weight = weigh(engine, engine.client.images.get(built.tag), found)
    return replace(built, weight=weight, over=tuple(weight.over(target.budget)))


def _image(engine: Engine, tag: str) -> Image | None:
    try:
        return engine.client.images.get(tag)
    except ImageNotFound:
        return None
