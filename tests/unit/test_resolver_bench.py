"""The right answers that the documentation claims, and that the benchmark measures what it says (no times here)."""

from __future__ import annotations

import bench_resolver
import guess
import pytest
import synthetic
from packaging.version import Version

from matrix import DATA_DIR, Abi, Arch, Cell, Cuda, PythonVersion, load_project

COMPAT = load_project().compat
DOCS = (DATA_DIR.parent / "docs" / "resolver.md").read_text(encoding="utf-8")


def test_of_185_cells_we_find_79_and_the_guessed_url_55_18_and_0() -> None:
    assert len(guess.official_cells(COMPAT)) == 185
    ours, *guesses = guess.compare().values()
    assert ours == guess.Score(79, 0, 106)
    assert [score.right for score in guesses] == [55, 18, 0]
    assert [score.wrong for score in guesses] == [1, 0, 0]  # torch 2.9 for CUDA 13 is given the wheel for CUDA 12
    assert guess.table(guess.compare()) in DOCS
    assert guess.answers_table() in DOCS


def test_the_guess_is_that_of_flash_attns_setup() -> None:
    cell = Cell(PythonVersion(3, 12), Version("2.9.1"), Cuda(13, 0), Abi.TRUE, Arch(8, 0), "A100", "linux_x86_64")
    name = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
    assert guess.guessed(cell, "2.8.3") == ("v2.8.3", name)


def test_the_synthetic_data_are_what_the_benchmark_says() -> None:
    wheels = synthetic.wheels(COMPAT, 500)
    assert len({wheel.filename for wheel in wheels}) == 500
    known = synthetic.all_cells(COMPAT)
    assert len(set(known)) == len(known) > 30_000
    assert list(synthetic.cells(COMPAT, 10)) == list(synthetic.cells(COMPAT, 10))
    assert len(list(synthetic.cells(COMPAT, len(known) + 1))) == len(known) + 1


def test_the_benchmark_answers_every_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_resolver, "WHEELS", 2000)
    row = bench_resolver.answer_many(50)
    assert (row["cells"], row["wheels"]) == (50, 2000)
    assert 0 < row["matched"] < 50
