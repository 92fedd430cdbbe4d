"""What a run ends with: each fault with its step, and an exit status."""

from __future__ import annotations

import pytest

from images.results import Built, Check, Proof, report

GOOD = Built("cpu", "built", "repo:cpu", "from the registry")
FAILED = Built("t4", "failed", "repo:t4", "[model 1/1]: exit code: 2", log="logs/t4.build.log")


def test_failures_are_summed_up_with_their_steps_and_logs(capsys: pytest.CaptureFixture[str]) -> None:
    assert report([GOOD, FAILED], [], smoked=False, as_json=False) == 1
    assert capsys.readouterr().err.splitlines() == [
        "t4: failed: [model 1/1]: exit code: 2",
        "t4: log: logs/t4.build.log",
        "1 of 2 targets are good; not t4",
    ]


def test_each_failed_check_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    proof = Proof(
        "cpu", "repo:cpu", "logs/cpu.smoke.log", [Check("torch imports", False, "no libcudart"), Check("x", True, "")]
    )
    assert report([GOOD], [proof], smoked=True, as_json=False) == 1
    assert capsys.readouterr().err.splitlines() == [
        "cpu: failed: torch imports: no libcudart",
        "cpu: log: logs/cpu.smoke.log",
    ]


def test_what_was_built_and_not_smoked_is_no_proof(capsys: pytest.CaptureFixture[str]) -> None:
    assert report([GOOD], [], smoked=True, as_json=False) == 1
    assert capsys.readouterr().err == "cpu: was not smoke-tested\n"
    assert report([GOOD], [], smoked=False, as_json=False) == 0
