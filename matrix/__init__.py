"""The matrix: what we resolve and build, the facts that it rests on, and the loader that refuses every mistake."""

from __future__ import annotations

from pathlib import Path

from matrix.compat import Compat
from matrix.compat_file import load_compat
from matrix.flash_attn_facts import BuildRecipe, CodeFor, Reuse, Sdist
from matrix.known_broken import load_known_broken
from matrix.matrix_file import load_matrix
from matrix.model import (
    COMPRESSIONS,
    Budget,
    Cell,
    DefaultAttention,
    Export,
    KnownBroken,
    Matrix,
    Project,
    Provider,
    Target,
)
from matrix.trims import Trim, load_trims
from matrix.values import Abi, Arch, Cuda, Driver, PythonVersion

__all__ = [
    "COMPRESSIONS",
    "DATA_DIR",
    "Abi",
    "Arch",
    "Budget",
    "BuildRecipe",
    "Cell",
    "CodeFor",
    "Compat",
    "Cuda",
    "DefaultAttention",
    "Driver",
    "Export",
    "KnownBroken",
    "Matrix",
    "Project",
    "Provider",
    "PythonVersion",
    "Reuse",
    "Sdist",
    "Target",
    "Trim",
    "load_project",
]

#: Where the project's own data files stand.
DATA_DIR = Path(__file__).resolve().parent


def load_project(matrix_file: Path | None = None) -> Project:
    """Load the matrix (the project's own unless given) and the project's own facts.

    Raises:
        DataError: a file is wrong: file, line, key path, reason and remedy.
    """
    compat = load_compat(DATA_DIR / "compat.yaml")
    trims = load_trims(DATA_DIR / "trims.yaml")
    return Project(
        matrix=load_matrix(matrix_file or DATA_DIR / "matrix.yaml", compat, trims),
        compat=compat,
        trims=trims,
        known_broken=load_known_broken(DATA_DIR / "known_broken.yaml"),
    )
