"""Questions that people asked in public, answered from the shipped snapshot: ``questions.yaml`` has them all.

They are the rows of "Which wheel" in the log of public reports, and its ranked faults, as far as they ask what a wheel
really is, which builds of torch exist, and what runs where none fits. Left out, because they are about something else:
plain values and the local part of a version (rows 12 and 19, and the table of typed values: GPU names as nvidia-smi
prints them, ``2.9.0+cu128``, ``--python 3.14.3t`` of row 13), exports for uv (27), pip in the command of ``--here``
(28), files of a folder provider (29), and networks, engines and CI (30 to 42). Row 2 and the lock's half of row 24 are
in ``test_lock_of_another_matrix.py``; what holds of every wheel of the snapshot is in ``test_every_wheel.py``.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from matrix.cli import run
from matrix.errors import ExitCode
from tests.field.rows import Machine, Row, read_rows
from wheel_resolver import cli

ROWS = read_rows()


def _param(row: Row) -> Any:
    return pytest.param(row, id=row.name)


QUESTIONS = [_param(row) for row in ROWS if row.host is None]
HOSTS = [_param(row) for row in ROWS if row.host is not None]


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def stand_in(machine: Machine, folder: Path) -> Path:
    """A program that answers as such a machine's Python would, and an ``nvidia-smi`` that knows its driver."""
    basics = {
        "executable": "/opt/venv/bin/python",
        "python": machine.python,
        "implementation": "CPython",
        "free_threaded": False,
        "platform": machine.platform,
        "libc": f"glibc {machine.glibc}" if machine.glibc else None,
        "packages": dict(machine.packages),
    }
    torch = {
        "torch": machine.torch,
        "cuda": machine.cuda,
        "devices": [list(gpu) for gpu in machine.gpus],
        "hip": machine.hip,
        "abi": machine.abi,
    }
    lines = [f"{name}, {arch}, {machine.driver}" for name, arch in machine.gpus] if machine.driver else []
    program(folder / "bin" / "nvidia-smi", "\n".join(f"echo {shlex.quote(line)}" for line in lines) or "exit 9")
    return program(
        folder / "bin" / "python", "\n".join(f"echo {shlex.quote(json.dumps(row))}" for row in (basics, torch))
    )


def check(row: Row, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Ask for the JSON; and, where a row says what a person reads, for the text."""
    expected = row.expected
    status = run(lambda: cli.main([*words, "--offline", "--json"]))
    answered = capsys.readouterr()
    assert status == expected.get("exit", 0), answered
    if "shows" in expected:
        assert run(lambda: cli.main([*words, "--offline"])) == status
        shown = capsys.readouterr().out
        assert all(part in shown for part in expected["shows"]), shown
    if status == ExitCode.USAGE:
        assert all(part in answered.err for part in expected["says"]), answered.err
        assert not any(part in answered.err for part in expected.get("never", ())), answered.err
        return
    data = json.loads(answered.out)
    resolutions = data["resolutions"]
    if "cells" in expected:
        assert len(resolutions) == expected["cells"]
        reasons = [data.get("why_not") or answered.err]
    else:
        assert resolutions
        reasons = [each["reason"] for each in resolutions]
    assert all(part in reason for reason in reasons for part in expected.get("says", ())), reasons
    told = json.dumps([{**each, "nearest": []} for each in resolutions]) + " ".join(reasons)
    assert not any(part in told for part in expected.get("never", ())), told
    for resolution in resolutions:
        check_one(expected, resolution)
    if row.host is not None and expected.get("wheel"):  # by its URL, and with its digest where that is published
        assert expected["wheel"].replace("+", "%2B") in data["install"]


def check_one(expected: Any, resolution: dict[str, Any]) -> None:
    for key in expected.keys() & {"attention", "backend", "evidence", "remedy"}:
        assert resolution[key] == expected[key], key
    if "wheel" in expected:
        wheel = resolution["wheel"]
        assert (wheel["name"] if wheel else None) == expected["wheel"]
    if "near" in expected:
        near = expected["near"]
        assert any(
            (miss["wheel"], miss["rule"]) == (near["wheel"], near["rule"]) and near["detail"] in miss["detail"]
            for miss in resolution["nearest"]
        ), resolution["nearest"]
    if "change" in expected:
        assert resolution["alternatives"][0]["change"] == expected["change"]
    if "others" in expected:
        assert {each["name"]: each["can_run"] for each in resolution["other_backends"]} == expected["others"]
        assert all(each["needs"] and each["why_not"] for each in resolution["other_backends"])


@pytest.mark.parametrize("row", QUESTIONS)
def test_a_question(row: Row, capsys: pytest.CaptureFixture[str]) -> None:
    check(row, list(row.ask), capsys)


@pytest.mark.parametrize("row", HOSTS)
def test_a_host(row: Row, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert row.host is not None
    check(row, ["--here", "--python", str(stand_in(row.host, tmp_path))], capsys)


def test_every_row_names_where_it_comes_from() -> None:
    assert all(link.startswith("https://") for row in ROWS for link in row.source)
    assert len({(row.name, row.host is None) for row in ROWS}) == len(ROWS)


def test_every_row_of_the_log_that_concerns_wheels_is_asked() -> None:
    asked = {row.name.partition(",")[0].split()[0] for row in ROWS}
    elsewhere = {"2", "12", "19", "27", "28", "29"}
    assert {str(number) for number in range(1, 30)} - elsewhere <= asked
