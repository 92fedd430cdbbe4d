"""Build targets with ``docker buildx bake``, one after the other.

Targets share layers through the engine's cache, so the second of a stack costs its own last layers only; one that
fails does not stop the others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from docker.errors import DockerException, ImageNotFound
from docker.models.images import Image

from images.bake import BuildError, BuildOptions, bake
from images.bases import BaseProvider, UnavailableError
from images.budget import weigh
from images.engine import Engine
from images.hostsettings import read_host_settings
from images.inputs import Run, Staged, stage, stage_compiled
from images.owned import is_ours, remember
from images.planned import Planned, Workspace, default_targets, image_tag, load_planned, select_targets
from images.render import require_fresh
from images.results import Built
from images.room import look_for_room
from images.secret_folder import secret_folder
from images.staging import require_plain_context
from matrix import tree
from matrix.cli import say
from matrix.errors import NetworkError, WheelwrightError
from wheel_resolver.files import alone


def build_targets(
    workspace: Workspace, engine: Engine, names: Sequence[str] | None, options: BuildOptions | None = None
) -> list[Built]:
    """Build the named targets, or the default tier.

    Raises:
        UsageError: an unknown target.
        DataError: the locks or the generated files do not fit the matrix, or a link lies in what is built.
    """
    wanted = default_targets(workspace.project.matrix.targets) if names is None else names
    names_wanted = select_targets(workspace.project.matrix.targets, wanted)
    every = load_planned(workspace)
    require_plain_context(workspace.root)
    require_fresh(every, workspace)
    planned = [item for item in every if item.target.name in names_wanted]
    if options is not None and options.export is not None:
        for item in planned:
            tree.exists(options.export / f"{item.target.name}.oci.tar")  # a link is refused before the build
    settings = read_host_settings()
    say(f"engine {engine.version} at {engine.host}, buildx {engine.buildx}; package settings: {settings.describe()}")
    chosen = replace(options or BuildOptions(), buildx=engine.buildx, masker=settings.masker)
    provider = BaseProvider(engine, workspace.project.compat, chosen.base)
    run = Run(workspace, engine, settings, provider, chosen)
    return [_build_one(run, item) for item in planned]


def _build_one(run: Run, item: Planned) -> Built:
    """Build one target of this checkout, which no other run may do at the same time; a failure is an answer too."""
    name, tag = item.target.name, image_tag(item.target.name)
    build = run.workspace.build
    with alone(build / "locks" / f"{name}.lock", partial(say, f"another build of {name} runs here: waiting")):
        start = time.monotonic()
        try:
            built = _stage_and_bake(run, item, build / "logs" / f"{name}.build.log")
        except (UnavailableError, NetworkError) as error:
            why = run.settings.masked(f"unavailable here: {error.what}")
            say(f"{name}: {why}")
            return Built(name, "unavailable", tag, why)
        except (WheelwrightError, DockerException, OSError) as error:
            what = run.settings.masked(_explained(run.engine, error))
            failed = Built(name, "failed", tag, what, log=getattr(error, "log", None))
            say(f"{name}: failed: {failed.detail}")
            return replace(failed, seconds=round(time.monotonic() - start, 1))
        return replace(built, seconds=round(time.monotonic() - start, 1))


def _stage_and_bake(run: Run, item: Planned, log: Path) -> Built:
    workspace, engine = run.workspace, run.engine
    name, tag = item.target.name, image_tag(item.target.name)
    before = _image(engine, tag)
    notes = _notes(run, item, before)
    for note in notes:
        say(f"{name}: {note}")
    with secret_folder(workspace.root) as secrets, _scratch(workspace, name) as scratch:
        staged = stage(run, item, secrets, scratch)
        say(f"{name}: {staged.how}")
        if item.recipe.source_build:
            stage_compiled(run, item.recipe, staged, log)
        packing = run.options.packing or workspace.project.matrix.export
        packed = f",compression={packing.compression},compression-level={packing.level}"
        # The classic store keeps layers unpacked.
        output = f"type=docker{packed if engine.containerd_store else ''}"
        bake(workspace, name, staged.file, log, output=output, options=run.options)
        archive = _export(run, name, staged, packed)
    image = _image(engine, tag)
    if image is None:
        raise BuildError(
            f"bake is done, and engine {engine.host} has no {tag}: another engine's builder is in use", log
        )
    replaced = str(before.id) if before is not None and before.id != image.id else None
    if replaced is not None and is_ours(workspace.build, tag, replaced):
        replaced = None
    remember(workspace.build, tag, str(image.id))
    built = Built(
        name, "built", tag, staged.how, str(image.id), log=str(log), archive=archive, replaced=replaced, notes=notes
    )
    return weighed(engine, workspace, built, image)


def _notes(run: Run, item: Planned, before: Image | None) -> tuple[str, ...]:
    """What a user should know before the build: room, another checkout's image, an engine that is old.

    Raises:
        WheelwrightError: the disk surely has no room.
    """
    workspace, engine, tag = run.workspace, run.engine, image_tag(item.target.name)
    found = [_image(engine, image_tag(name)) for name in _of_its_stack(workspace, item.target.name)]
    notes = [look_for_room(engine, item.target.budget, [image for image in found if image is not None])]
    if before is not None and not is_ours(workspace.build, tag, str(before.id)):
        notes.append(
            f"{tag} is {str(before.id)[:19]} now, which this checkout did not build: the build takes its tags, and an "
            f"image without one may go. Keep it: docker tag {tag} NAME; keep checkouts apart: REGISTRY=NAME"
        )
    zstd = (run.options.packing or workspace.project.matrix.export).compression == "zstd"
    if zstd and engine.reads_zstd and (_in_a_registry(tag) or run.options.export is not None):
        notes.append(
            "its layers are compressed with zstd: a host whose engine is older than 23.0 neither pulls nor loads them, "
            "and needs --compression gzip"
        )
    if zstd and not engine.reads_zstd:
        notes.append(
            f"engine {engine.version} is older than 23.0 and reads no layers that are compressed with zstd: build what "
            "hosts like this one pull with --compression gzip"
        )
    return tuple(note for note in notes if note is not None)


def _in_a_registry(tag: str) -> bool:
    """Whether a tag begins with the host of a registry, as of an image that will be pushed."""
    host, slash, _ = tag.partition("/")
    return bool(slash) and ("." in host or ":" in host or host == "localhost")


@contextmanager
def _scratch(workspace: Workspace, target: str) -> Iterator[Path]:
    """A target's own folder for what its build puts out; one that a killed run left is removed."""
    folder = workspace.build / f"run-{target}"
    tree.remove_tree(folder)
    tree.make_folder(folder, 0o700)
    try:
        yield folder
    finally:
        tree.remove_tree(folder)


def _explained(engine: Engine, error: Exception) -> str:
    """What a user is told of an error; an engine that is gone explains whatever else failed."""
    what = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, WheelwrightError):
        what = "; ".join((error.what, *error.said)) + (f" ({error.remedy})" if error.remedy else "")
    try:
        engine.client.ping()
    except (DockerException, OSError):
        return f"the engine at {engine.host} has gone away: {what}"
    return what


def _export(run: Run, name: str, staged: Staged, packed: str) -> str | None:
    """Write the image as ``TARGET.oci.tar`` into the folder that was asked for, whole or not at all; its path."""
    folder = run.options.export
    if folder is None:
        return None
    made = staged.scratch / "image.oci.tar"
    log = run.workspace.build / "logs" / f"{name}.export.log"
    output = f"type=oci,dest={made.relative_to(run.workspace.root)}{packed},force-compression=true"
    bake(run.workspace, name, staged.file, log, output=output, options=replace(run.options, cached=True))
    archive = folder / f"{name}.oci.tar"
    tree.move(made, archive)  # the folder may be on another disk
    say(f"{name}: {archive}: {archive.stat().st_size:,} bytes")
    return str(archive)


def weighed(engine: Engine, workspace: Workspace, built: Built, image: Image) -> Built:
    """What was built, with its weight, judged by its target's budget."""
    siblings = [name for name in _of_its_stack(workspace, built.target) if name != built.target]
    found = [image for image in (_image(engine, image_tag(name)) for name in siblings) if image is not None]
    weight = weigh(engine, image, found)
    return replace(built, weight=weight, over=tuple(weight.over(workspace.project.matrix.targets[built.target].budget)))


def _of_its_stack(workspace: Workspace, target: str) -> list[str]:
    """The targets that share a target's stack, itself too."""
    targets = workspace.project.matrix.targets
    return [name for name, other in targets.items() if other.stack == targets[target].stack]


def _image(engine: Engine, tag: str) -> Image | None:
    try:
        return engine.client.images.get(tag)
    except ImageNotFound:
        return None
