"""Image tests run the real engine, in a workspace of their own: a copy of the checkout's data."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from second_engine import SecondEngine, cannot_start, second_engine
from small import SmallSpace, make_small
from space import REPOSITORY, ROOT, Space

from images.bases import bootstrap
from images.engine import Engine, find_engine
from matrix.errors import NoEngineError


@pytest.fixture(scope="session")
def engine(no_engine: Callable[[str], None]) -> Iterator[Engine]:
    """The engine, without the images of earlier runs; what the tests tag is removed at the end."""
    try:
        found = find_engine()
    except NoEngineError as error:
        no_engine(str(error.what))
        raise
    yield found
    for repository in (REPOSITORY, f"{REPOSITORY}-again", f"{REPOSITORY}-broken"):
        for image in found.client.images.list(name=repository):
            found.client.images.remove(image.id, force=True)


@pytest.fixture(scope="session")
def make_space(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Space]:
    """A function that makes a workspace; with a matrix text, one with that matrix and no locks yet."""

    def make(matrix: str = "") -> Space:
        root = tmp_path_factory.mktemp("space")
        shutil.copytree(ROOT / "serve", root / "serve", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / ".dockerignore", root)
        if matrix:
            (root / "matrix").mkdir()
            (root / "matrix" / "matrix.yaml").write_text(matrix)
        else:
            shutil.copytree(ROOT / "matrix", root / "matrix", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
            shutil.copytree(ROOT / "dockerfiles", root / "dockerfiles")
        return Space(root)

    return make


@pytest.fixture(scope="session")
def base_archive(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bootstrapped base of ``cpu``, for a second engine to load."""
    archive = tmp_path_factory.mktemp("base") / "base.tar"
    tag = bootstrap(engine.client, "bookworm")
    subprocess.run(["docker", "--host", engine.host, "save", "--output", str(archive), tag], check=True)
    yield archive
    archive.unlink()


@pytest.fixture(scope="session")
def second(
    base_archive: Path, no_engine: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecondEngine]:
    """An engine that stands for a remote one, with the bootstrapped base in it."""
    if reason := cannot_start():
        no_engine(reason)
    with second_engine(tmp_path_factory.mktemp("second")) as engine:
        engine.load(base_archive)
        yield engine


@pytest.fixture
def make_small_in(make_space: Callable[[str], Space], tmp_path: Path) -> Callable[..., SmallSpace]:
    """A function that makes a small ``cpu`` in a workspace of its own, for an engine."""
    return lambda engine, **options: make_small(make_space(""), tmp_path, engine, **options)


@pytest.fixture
def small(make_small_in: Callable[..., SmallSpace], second: SecondEngine) -> SmallSpace:
    """A small ``cpu``, built by the second engine."""
    return make_small_in(second)
