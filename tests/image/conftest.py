"""Image tests run the real engine, in a workspace of their own: a copy of the checkout's data."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from space import REPOSITORY, ROOT, Space

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
