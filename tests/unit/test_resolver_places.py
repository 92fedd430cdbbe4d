"""``--root``, ``--matrix``, ``--lock``: which files a command means, and that it writes no others."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.__main__ import main as images
from matrix import DATA_DIR
from matrix.cli import run
from wheel_resolver import cli
from wheel_resolver.places import lock_of, matrix_of

ROOT = DATA_DIR.parent


def state(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder; caches of tools apart."""
    files = (path for path in folder.rglob("*") if path.is_file())
    skipped = {".git", ".venv", ".build", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
    return {path: path.read_bytes() for path in files if not skipped & set(path.relative_to(folder).parts)}


@pytest.fixture(autouse=True)
def _nothing_of_this_checkout_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    before = state(DATA_DIR) | state(ROOT / "dockerfiles") | state(ROOT / "wheel_resolver")
    yield
    assert state(DATA_DIR) | state(ROOT / "dockerfiles") | state(ROOT / "wheel_resolver") == before


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with a matrix of its own, and what its images are made of."""
    root = tmp_path / "mine"
    (root / "matrix").mkdir(parents=True)
    shutil.copy(DATA_DIR / "matrix.yaml", root / "matrix" / "matrix.yaml")
    shutil.copytree(ROOT / "dockerfiles" / "locks", root / "dockerfiles" / "locks")
    shutil.copytree(ROOT / "serve", root / "serve", ignore=shutil.ignore_patterns("__pycache__"))
    return root


def test_the_lock_of_a_matrix_stands_next_to_it(tmp_path: Path) -> None:
    assert lock_of(tmp_path / "matrix.yaml") == tmp_path / "lock.yaml"
    assert lock_of(tmp_path / "lab.yaml") == tmp_path / "lab.lock.yaml"
    assert matrix_of(tmp_path / "lab.lock.yaml") is None
    for name, lock in (("matrix.yaml", "lock.yaml"), ("lab.yaml", "lab.lock.yaml")):
        (tmp_path / name).write_text("")
        assert matrix_of(tmp_path / lock) == tmp_path / name


@pytest.mark.parametrize("name", ["matrix.yaml", "lab.yaml"])
def test_another_matrix_is_locked_next_to_itself(tmp_path: Path, name: str) -> None:
    matrix = tmp_path / "lab" / name
    matrix.parent.mkdir()
    shutil.copy(DATA_DIR / "matrix.yaml", matrix)
    assert run(lambda: cli.main(["lock", "--offline", "--matrix", str(matrix)])) == 0
    assert sorted(path.name for path in matrix.parent.iterdir()) == sorted([name, lock_of(matrix).name])
    assert run(lambda: cli.main(["lock", "--check", "--matrix", str(matrix)])) == 0
    assert run(lambda: cli.main(["export", "a10g", "--lock", str(lock_of(matrix))])) == 0


def test_a_matrix_next_to_ours_does_not_take_our_lock() -> None:
    assert lock_of(DATA_DIR / "other.yaml") != DATA_DIR / "lock.yaml"


def test_a_root_is_the_same_for_every_verb_of_both_tools(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is written lies below it; the cache is not a checkout's."""
    elsewhere = state(tmp_path)
    place = ["--root", str(mine)]
    assert run(lambda: cli.main(["lock", "--offline", *place])) == 0
    assert (mine / "matrix" / "lock.yaml").is_file()
    assert run(lambda: cli.main(["lock", "--check", *place])) == 0
    assert run(lambda: cli.main(["export", "a10g", *place])) == 0
    assert run(lambda: cli.main(["fetch", "t4", *place])) == 0
    assert run(lambda: cli.main(["fetch", "a10g", "--offline", *place])) == 1
    assert run(lambda: cli.main(["--torch", "2.9", "--offline", *place])) == 0
    assert run(lambda: cli.main(["coverage", "--offline", "--html", str(mine / "out.html"), *place])) == 0
    assert run(lambda: images(["render", *place])) == 0
    assert run(lambda: images(["render", "--check", *place])) == 0
    assert run(lambda: images(["plan", *place])) == 0
    assert run(lambda: images(["lock", "--check", *place])) == 0
    capsys.readouterr()
    changed = {path for path, text in state(tmp_path).items() if elsewhere.get(path) != text}
    assert changed
    assert all(path.is_relative_to(mine) or path.is_relative_to(tmp_path / "cache") for path in changed)


@pytest.mark.parametrize(
    "command",
    [
        ["lock", "--offline", "--output", "OUTSIDE"],
        ["coverage", "--offline", "--html", "OUTSIDE"],
        ["lock", "--offline", "--matrix", "ANOTHER"],
    ],
)
def test_nothing_outside_of_a_root_is_written_even_where_it_is_named(
    mine: Path, tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    another = tmp_path / "another.yaml"
    shutil.copy(DATA_DIR / "matrix.yaml", another)
    named = {"OUTSIDE": str(tmp_path / "outside"), "ANOTHER": str(another)}
    words = [named.get(word, word) for word in command]
    assert run(lambda: cli.main([*words, "--root", str(mine)])) == 2
    assert "lies outside of --root" in capsys.readouterr().err
    assert not (tmp_path / "outside").exists()
    assert not lock_of(another).exists()


def test_a_root_that_is_no_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: cli.main(["--torch", "2.9", "--offline", "--root", str(tmp_path / "nowhere")])) == 2
    assert "nowhere: is not a folder" in capsys.readouterr().err


def test_an_alternative_repeats_the_root(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = ["--torch", "2.9", "--python", "3.11", "--cuda", "12.8", "--gpu", "A10G", "--offline"]
    assert run(lambda: cli.main([*question, "--root", str(mine)])) == 0
    assert f"--root {mine}" in capsys.readouterr().out
