"""The tools' fixtures: a server that speaks GitHub's API as each test wishes."""

import shutil
from pathlib import Path

import pytest

from tests.resolver_http.conftest import known, upstream, whole_wheel  # noqa: F401 - pytest finds fixtures by name

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout's data and tools: what a pull request could change."""
    root = tmp_path / "checkout"
    for name in ("matrix", "images", "wheel_resolver", "dockerfiles"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "serve").mkdir()
    for name in ("requirements.in", "requirements-gpu.in", "overrides.txt"):
        shutil.copy(ROOT / "serve" / name, root / "serve" / name)
    shutil.copy(ROOT / "pyproject.toml", root / "pyproject.toml")
    return root
