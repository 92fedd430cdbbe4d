"""What bake reads for one target: contexts and secrets in place, and the bake file of this machine and this build."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from images import caches, graph, quoting, staging
from images.bake import BuildOptions, bake
from images.bases import BaseProvider
from images.compiling import compiled_wheel, keep_wheel, max_jobs, wheel_key
from images.engine import Engine
from images.hostsettings import HostSettings
from images.lock_inputs import origin_for
from images.planned import Planned, Workspace
from images.recipe import Recipe
from images.requirement_files import Pin
from images.uv import uv_executable
from matrix import tree
from matrix.cli import say
from wheel_resolver.fetching.fetch import cache_folder, fetch
from wheel_resolver.files import alone
from wheel_resolver.inside.as_locked import require_as_locked
from wheel_resolver.upstream.logins import Logins


@dataclass(frozen=True, slots=True)
class Run:
    """What all builds of one run have in common."""

    workspace: Workspace
    engine: Engine
    settings: HostSettings
    provider: BaseProvider
    options: BuildOptions


@dataclass(frozen=True, slots=True)
class Staged:
    """What bake reads for one target, in place.

    Attributes:
        file: the bake file with what belongs to this machine and this build.
        scratch: a folder in the workspace for what the build puts out.
        toolkit: where a source build's CUDA toolkit comes from: ``image`` or ``packages``.
        how: one line on where things come from.
    """

    file: Path
    scratch: Path
    toolkit: str
    how: str


def stage(run: Run, item: Planned, secrets: Path, scratch: Path) -> Staged:
    """Put all that bake reads into place: contexts below ``.build/contexts``, settings of this host into ``secrets``.

    Args:
        secrets: a folder outside the workspace, for the secrets and the bake file.
        scratch: one in it, for what the build puts out.

    Raises:
        UnavailableError: the base or the CUDA toolkit cannot be had here.
        NetworkError, DataError: nor can the wheel, or it is another than the locked one.
    """
    workspace, settings = run.workspace, run.settings
    recipe, stack, contexts = item.recipe, item.recipe.stack, workspace.build / "contexts"
    base = run.provider.provide(stack)
    toolkit = run.provider.toolkit(recipe) if recipe.source_build else "image"
    wheel = fetch_wheel(item, workspace)
    pins = stack.lock.pins()
    source = recipe.source_build
    pins += [Pin("flash-attn", str(source.version), (source.sha256,))] if source else []
    with _staging(workspace):
        if wheel:
            staging.place_only(wheel, contexts / recipe.name / "wheel")
        staging.place_only(Path(uv_executable()), contexts / "uv")
        local = staging.stage_local_files(settings, pins, contexts / stack.name)
    origin = origin_for(workspace, item.target)
    has_torch = any(wheel.startswith("torch-") for wheel in local)
    entries = staging.stage_secrets(settings, [origin] if origin and not has_torch else [], secrets)
    stand_in = {"contexts": {base.name: base.context} if base.context else {}}
    read, write = run.options.cache_from, run.options.cache_to
    targets: dict[str, Any] = {
        graph.HOST: {"secret": quoting.bake_value([secret_entry(name, secrets) for name in entries])},
        graph.stack_target(stack): {
            **stand_in,
            "cache-from": caches.read_from(read, [stack.name]),
            "cache-to": caches.write_to(write, stack.name),
        },
        item.target.name: {
            "labels": quoting.bake_value(_build_labels(workspace.root)),
            "cache-from": caches.read_from(read, [stack.name, recipe.name]),
            "cache-to": caches.write_to(write, recipe.name),
        },
    }
    if recipe.source_build:
        own = {"cuda-devel": f"target:{graph.toolkit_target(stack)}"} if toolkit == "packages" else {}
        targets[graph.toolkit_target(stack)] = stand_in
        targets[graph.builder_target(recipe)] = {
            "contexts": stand_in["contexts"] | own,
            "args": {"MAX_JOBS": str(max_jobs())},
        }
    file = secrets / "bake.json"
    tree.write(file, json.dumps({"target": targets}, indent=1))
    return Staged(
        file, scratch, toolkit, base.how + (f"; {len(local)} of {len(pins)} files from local folders" if local else "")
    )


def secret_entry(name: str, folder: Path) -> str:
    """A ``secret`` entry, whose fields are those of a CSV line."""
    source = f"src={folder / name}"
    if any(character in source for character in ',"\n'):
        source = '"' + source.replace('"', '""') + '"'
    return f"id={name},{source}"


def fetch_wheel(item: Planned, workspace: Workspace) -> Path | None:
    """The flash-attn wheel, from the cache or from its URL; None where there is none.

    It is checked by its sha256, and looked into (once for each sha256): a file that is not what its name, its recipe or
    the lock says would break at the first import, or at the first call.

    Raises:
        NetworkError: it cannot be had here.
        DataError: it has another digest than the lock says, or it is something else than the lock says.
    """
    locked = item.recipe.wheel
    if locked is None:
        return None
    path = fetch(
        locked.url,
        locked.sha256,
        locked.name,
        waiting=lambda: say(f"another run fetches {locked.name}: waiting"),
        logins=Logins(os.environ, workspace.project.matrix.providers),
    )
    require_as_locked(path, locked, workspace.project, item.target.name, root=workspace.named_root)
    return path


def _staging(workspace: Workspace) -> AbstractContextManager[None]:
    """Targets share folders of staged files: one run at a time changes them. No target's name begins with ``_``."""
    return alone(workspace.build / "locks" / "_staging.lock", partial(say, "another run stages files here: waiting"))


def stage_compiled(run: Run, recipe: Recipe, staged: Staged, log: Path) -> None:
    """Stage the flash-attn wheel that is compiled from source: from the wheel cache, or compiled now.

    Raises:
        BuildError: it does not compile; names the step.
    """
    workspace = run.workspace
    key = wheel_key(recipe, staged.toolkit)
    with alone(
        cache_folder() / "locks" / f"{key}.lock",
        partial(say, f"another run compiles flash-attn for {recipe.name}: waiting"),
    ):
        wheel = compiled_wheel(key)
        if wheel is None:
            jobs = max_jobs()
            say(f"{recipe.name}: compiling flash-attn for sm_{recipe.archs}, {jobs} jobs; toolkit: {staged.toolkit}")
            made = staged.scratch / "wheel"
            target = graph.builder_target(recipe)
            output = f"type=local,dest={made.relative_to(workspace.root)}"
            bake(workspace, target, staged.file, log.with_suffix(".compile.log"), output=output, options=run.options)
            (one,) = (path for path in tree.files(made) if path.suffix == ".whl")
            wheel = keep_wheel(key, one)
    say(f"{recipe.name}: {wheel}")
    with _staging(workspace):
        staging.place_only(wheel, workspace.build / "contexts" / recipe.name / "wheel")


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
