"""What the resolver prints for the real matrix and the shipped snapshot. UPDATE_GOLDENS=1 rewrites the files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from matrix import DATA_DIR
from wheel_resolver import cli, lock

FOLDER = Path(__file__).parent / "resolver"
QUESTIONS = {
    "torch-2.9.txt": "--torch 2.9",
    "torch-2.6-b200.txt": "--torch 2.6 --cuda 12.4 --gpu B200",
    "python-3.11-a10g.txt": "--torch 2.9 --python 3.11 --cuda 12.8 --gpu A10G",
    "t4.json": "--torch 2.9 --python 3.12 --cuda 12.8 --gpu T4 --json",
    "a10g.json": "--torch 2.9 --python 3.12 --cuda 12.8 --gpu A10G --json",
    "b200.json": "--torch 2.6 --python 3.12 --cuda 12.4 --gpu B200 --json",
}


def compare(path: Path, text: str) -> None:
    if os.environ.get("UPDATE_GOLDENS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path.name} differs: UPDATE_GOLDENS=1 rewrites it"


@pytest.mark.parametrize("name", QUESTIONS)
def test_answer(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path))
    cli.main([*QUESTIONS[name].split(), "--offline"])
    compare(FOLDER / name, capsys.readouterr().out)


def test_the_documentation_shows_the_real_table() -> None:
    table = (FOLDER / "torch-2.9.txt").read_text(encoding="utf-8").split("\n\n")[1]
    text = (DATA_DIR.parent / "docs" / "resolver.md").read_text(encoding="utf-8")
    assert "\n".join(f"    {line}" for line in table.splitlines()) in text


def test_the_committed_lock_is_what_the_shipped_data_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    made = tmp_path / "lock.yaml"
    assert cli.main(["lock", "--offline", "--output", str(made)]) == 0
    assert made.read_bytes() == (DATA_DIR / "lock.yaml").read_bytes()
    assert lock.dumps(lock.read()) == made.read_text(encoding="utf-8")
