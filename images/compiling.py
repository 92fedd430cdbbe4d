"""flash-attn compiled from its locked source: once a recipe, kept in the wheel cache under the recipe's key."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from images.recipe import Recipe
from images.render import render_builder
from images.requirement_files import BUILD_LISTS
from matrix.cli import say
from wheel_resolver.fetching.fetch import cache_folder, file_sha256

GIB_PER_JOB = 8


def wheel_key(recipe: Recipe, toolkit: str) -> str:
    """What the compiled wheel depends on, hashed: source, archs, base, torch, tools and where the toolkit comes from.

    Args:
        recipe: one with a source build.
        toolkit: ``image`` or ``packages``.
    """
    lists = recipe.stack.lock.digests(("nvidia.txt", "torch.txt", *BUILD_LISTS))
    inputs = {"dockerfile": render_builder(recipe), "lists": lists, "toolkit": toolkit}
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def compiled_wheel(key: str) -> Path | None:
    """The wheel that was compiled before; one whose bytes are no longer those that were kept is set aside, and said."""
    folder = _folder(key)
    for digest in folder.glob("*.whl.sha256"):
        wheel = digest.with_suffix("")
        if not wheel.is_file():
            continue
        if file_sha256(wheel) == digest.read_text(encoding="utf-8").strip():
            return wheel
        damaged = wheel.with_name(f"{wheel.name}.damaged")
        wheel.replace(damaged)
        say(f"{damaged}: not what was compiled: set aside, and compiled again")
    return None


def keep_wheel(key: str, made: Path) -> Path:
    """Put a wheel that was just compiled into the cache: its digest first, so that no wheel stands there without."""
    folder = _folder(key)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / made.name
    sha256 = target.with_name(f"{made.name}.sha256")
    sha256.write_text(f"{file_sha256(made)}\n", encoding="utf-8")
    part = folder / f".{made.name}.{os.getpid()}"
    shutil.copyfile(made, part)
    part.replace(target)
    return target


def max_jobs() -> int:
    """Parallel compilers: as many as there are cores, and as the memory feeds (flash-attn's README: 8 GiB for each)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(os.cpu_count() or 1, memory // (GIB_PER_JOB << 30)))


def _folder(key: str) -> Path:
    return cache_folder() / "compiled" / key
