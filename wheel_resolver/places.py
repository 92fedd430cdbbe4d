"""Where a command reads its matrix and its lock: ``--root DIR``, ``--matrix FILE``, ``--lock FILE``.

nothing given           this checkout: matrix/matrix.yaml and matrix/lock.yaml
--root DIR              DIR/matrix/matrix.yaml and DIR/matrix/lock.yaml; nothing outside DIR is written
--matrix DIR/mine.yaml  that matrix, and the lock next to it: DIR/mine.lock.yaml (of matrix.yaml: lock.yaml)
--lock DIR/lock.yaml    that lock, and where there is one the matrix next to it
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from matrix import DATA_DIR, tree
from matrix.cli import path_of
from matrix.document import display_name
from matrix.errors import UsageError

_MATRIX, _LOCK = "matrix.yaml", "lock.yaml"


@dataclass(frozen=True, slots=True)
class Places:
    """The files that a command means; ``root``: the folder that was named, outside of which nothing is written."""

    root: Path | None
    matrix: Path
    lock: Path

    def __post_init__(self) -> None:
        if self.root is not None:
            tree.settle(self.root)

    def writable(self, path: Path) -> Path:
        """A path that the command may write.

        Raises:
            UsageError: it lies outside of the root that was named.
            DataError: it, or a folder on the way, is a link below a root.
        """
        tree.exists(path)
        if self.root is not None and not path.resolve().is_relative_to(self.root):
            raise UsageError(
                f"{display_name(path)} lies outside of --root {display_name(self.root)}",
                remedy="name a file in that folder, or leave --root out and name the matrix: --matrix FILE",
            )
        return path


def lock_of(matrix: Path) -> Path:
    """The lock that stands next to a matrix.

    >>> lock_of(Path("a/matrix.yaml")).name, lock_of(Path("a/lab.yaml")).name
    ('lock.yaml', 'lab.lock.yaml')
    """
    return matrix.parent / (_LOCK if matrix.name == _MATRIX else f"{matrix.stem}.{_LOCK}")


def matrix_of(lock: Path) -> Path | None:
    """The matrix that stands next to a lock; None where there is none."""
    name = _MATRIX if lock.name == _LOCK else f"{lock.name.removesuffix(f'.{_LOCK}')}.yaml"
    found = lock.parent / name
    return found if found != lock and found.is_file() else None


def add_root(parser: argparse._ActionsContainer) -> None:
    """Give a command ``--root`` and ``--matrix``."""
    parser.add_argument(
        "--root",
        type=path_of,
        metavar="DIR",
        help="the folder with matrix/, instead of this checkout; nothing outside it is written",
    )
    parser.add_argument("--matrix", type=path_of, metavar="FILE", help="another matrix; facts stay the project's own")


def add_lock(parser: argparse._ActionsContainer) -> None:
    """Give a command that reads the lock ``--root``, ``--matrix`` and ``--lock``."""
    add_root(parser)
    parser.add_argument("--lock", type=path_of, metavar="FILE", help="another lock")


def places(options: argparse.Namespace) -> Places:
    """The files that the options mean.

    Raises:
        UsageError: ``--root`` is no folder.
    """
    root: Path | None = options.root
    given_lock: Path | None = getattr(options, "lock", None)
    if root is not None and not root.is_dir():
        raise UsageError(f"--root {root}: is not a folder", remedy="name the folder that holds matrix/matrix.yaml")
    root = None if root is None else tree.settle(root)
    data = DATA_DIR if root is None else root / "matrix"
    next_to_it = None if given_lock is None or root is not None else matrix_of(given_lock)
    matrix: Path = options.matrix or next_to_it or data / _MATRIX
    return Places(root, matrix, given_lock or lock_of(matrix))
