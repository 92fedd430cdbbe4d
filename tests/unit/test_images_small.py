"""The small parts: tables, WAV measures, target selection, the host's record."""

from __future__ import annotations

import array
import math
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images import apt
from images.bake import BuildError, bake, failing_step
from images.compiling import compiled_wheel, keep_wheel
from images.planned import Workspace, default_targets, load_planned, select_targets, split_names
from images.proving import flash_serves
from images.quickstart import by_hand
from images.table import Column, format_table
from images.wav import RATE, read_wav, reference_voice, write_wav
from matrix.errors import UsageError, WheelwrightError


def test_a_table_wraps_its_last_column_and_loses_nothing() -> None:
    columns = [Column("name", lambda row: row[0]), Column("why", lambda row: row[1])]
    reason = " ".join(f"word{n}" for n in range(40))
    text = format_table(columns, [("a", reason), ("long-name", "short")], 60)
    assert max(map(len, text.splitlines())) <= 60
    assert " ".join(text.split()).count("word39") == 1
    assert text.splitlines()[0].split() == ["name", "why"]


def test_the_reference_voice_is_sound_of_the_right_form() -> None:
    sound = read_wav(reference_voice(1.5))
    assert (sound.rate, sound.channels, sound.bits) == (24000, 1, 16)
    assert sound.seconds == pytest.approx(1.5)
    assert sound.faults(1, 2) == []
    assert 0.03 < sound.rms < sound.peak < 0.9


@given(st.floats(0.01, 1.0), st.integers(200, 2000))
def test_rms_is_that_of_a_sine(amplitude: float, hertz: int) -> None:
    samples = array.array("h", (int(32767 * amplitude * math.sin(2 * math.pi * hertz * n / RATE)) for n in range(RATE)))
    assert read_wav(write_wav(samples)).rms == pytest.approx(amplitude / math.sqrt(2), rel=0.02, abs=1e-4)


def test_faults_name_each_thing_that_is_wrong() -> None:
    silent = read_wav(write_wav(array.array("h", [0] * RATE)))
    assert silent.faults(2, 3) == ["silent: RMS 0.00000 of full scale", "1.00 s long, not 2 to 3"]
    loud = read_wav(write_wav(array.array("h", [32767] * RATE)))
    assert loud.faults(0, 3) == ["100% of the samples are at full scale"]
    with pytest.raises(ValueError, match="not a PCM WAV file"):
        read_wav(b"RIFF....junk")


@pytest.mark.parametrize(("python", "shown"), [(".venv/bin/python", ".venv/bin/python"), ("/usr/bin/python3",) * 2])
def test_the_lines_by_hand_can_be_pasted_in_the_checkout(
    python: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / python))
    _, service, client, _ = by_hand(tmp_path, "wheelwright:cpu", Path("my out"), gpu=True)
    assert "--gpus all -p 127.0.0.1:8000:8000 " in service
    assert "--gpus" not in by_hand(tmp_path, "wheelwright:cpu", Path("out"), gpu=False)[1]
    assert client.startswith(f"{shown} -m serve client --wait 60 ")
    assert shlex.split(client)[-2:] == ["--out", "my out/clone.wav"]


def test_names_may_be_separated_by_commas() -> None:
    assert split_names(["cpu,t4", "a10g"]) == ["cpu", "t4", "a10g"]
    assert split_names([]) is None
    assert split_names([","]) is None


def test_unknown_targets_are_named_with_the_known() -> None:
    targets = Workspace.load().project.matrix.targets
    with pytest.raises(UsageError, match="'a100'") as caught:
        select_targets(targets, ["cpu", "a100"])
    assert "a10g, t4" in str(caught.value.remedy)
    assert default_targets(targets) == ["a10g", "t4", "cpu"]
    assert [item.target.name for item in load_planned(Workspace.load(), ["cpu"])] == ["cpu"]


@pytest.mark.parametrize(
    ("sass", "capability", "serves"),
    [
        (["sm_80", "sm_90"], [8, 6], True),
        (["sm_80", "sm_90"], [9, 0], True),
        (["sm_80", "sm_90"], [7, 5], False),
        (["sm_90"], [8, 6], False),
        (["sm_100", "sm_120"], [12, 1], True),
        ([], [9, 0], False),
    ],
)
def test_what_a_smoke_test_expects_follows_from_the_gpu(sass: list[str], capability: list[int], serves: bool) -> None:
    assert flash_serves({"wheel_sass": sass}, {"capability": capability}) is serves
    assert not flash_serves({"wheel_sass": sass}, None)


def test_the_failing_step_is_named_with_the_last_line_that_it_said() -> None:
    text = """#5 [stack-x os 2/2] RUN true
#5 DONE 0.1s
#7 [stack-x model 1/1] RUN --mount=type=tmpfs,target=/tmp uv pip install
#7 1.234   Using Python 3.11
#7 2.345 error: Failed to fetch: `https://index.example/simple/a/`
#7 ERROR: process "/bin/sh -c ..." did not complete successfully: exit code: 2
------
 > [stack-x model 1/1] RUN:
2.345 error: Failed to fetch
------
ERROR: target cpu: failed to solve: process did not complete
"""
    step = "[stack-x model 1/1]: error: Failed to fetch: `https://index.example/simple/a/`: "
    assert failing_step(text) == step + "exit code: 2"
    cancelled = "#8 [runtime 1/1] RUN\n#8 ERROR: context canceled\n"
    assert failing_step(text + cancelled) == step + "exit code: 2"
    causes = text.replace("#7 ERROR", "#7 2.346   Caused by: reset\n#7 ERROR")
    assert failing_step(causes) == step.replace("/`: ", "/`; Caused by: reset: ") + "exit code: 2"
    gone = "\n".join(text.splitlines()[:3]) + "\nERROR: failed to receive status: EOF\n"
    assert failing_step(gone) == "[stack-x model 1/1]: ERROR: failed to receive status: EOF"
    assert failing_step('ERROR: no builder "x" found\n') == 'ERROR: no builder "x" found'
    assert failing_step("") == "no output"


def test_a_build_whose_partner_was_ended_is_made_once_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def fails(_workspace: object, target: str, *_: object, **__: object) -> None:
        asked.append(target)
        raise BuildError(f"[{target} runtime 1/2]: {said}", tmp_path / "log")

    monkeypatch.setattr("images.bake._bake", fails)
    lost = (
        "failed to commit a1 to b2 during finalize: failed to stat active key during commit: snapshot a1 does not exist"
    )
    for said, times in (("no active sessions", 3), (lost, 3), ("exit code: 2", 1)):
        asked.clear()
        with pytest.raises(BuildError, match=said):
            bake(Workspace.load(), "cpu", tmp_path, tmp_path / "log", output="type=docker")
        assert len(asked) == times


def test_a_step_that_is_no_instruction_is_named_too() -> None:
    pull = "#5 [stack-x base 1/1] FROM host/python:3.11@sha256:00\n#5 ERROR: short read: unexpected EOF\n"
    assert failing_step(pull) == "[stack-x base 1/1] FROM host/python:3.11@sha256:00: short read: unexpected EOF"
    late = "#5 [x os 1/2] FROM host/python:3.11\n#5 sha256:00 1MB / 2MB 0.2s\n#5 DONE 0.5s\n"
    late += "#6 [x os 2/2] RUN a\n#6 ERROR: unexpected EOF\n"
    assert failing_step(late) == "[x os 2/2]: unexpected EOF (while host/python:3.11 was pulled)"
    assert failing_step(late.replace("1MB / 2MB 0.2s", "2MB / 2MB 0.2s done")) == "[x os 2/2]: unexpected EOF"
    export = "#9 [cpu] exporting to image\n#9 exporting layers\n#9 ERROR: write: no space left on device\n"
    assert failing_step(export) == "[cpu] exporting to image: write: no space left on device"
    assert failing_step(export.replace("[cpu] ", "")) == "exporting to image: write: no space left on device"


def test_what_was_put_on_the_host_is_recorded_before_it_is_there(tmp_path: Path) -> None:
    record = tmp_path / "state" / "host.json"
    state = apt.HostState(packages=["a"], files=["/x"])
    state.save(record)
    assert apt.HostState.load(record) == state
    apt.HostState().save(record)
    assert not record.exists()
    assert apt.HostState.load(record) == apt.HostState()


@pytest.mark.parametrize(
    ("plan", "changed"),
    [
        ("Inst docker.io (26.1 Debian:13 [amd64])\nConf docker.io (26.1)\n", False),
        ("Inst libc6 [2.36] (2.41 Debian:13 [amd64])\nInst docker.io (26.1)\n", True),
        ("Remv podman [4.3]\nInst docker.io (26.1)\n", True),
    ],
)
def test_a_plan_that_changes_what_is_installed_is_refused(
    plan: str, changed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``apt-get -s`` prints these lines; the real apt runs in the fresh-machine test."""
    calls: list[tuple[str, ...]] = []

    def record(*command: str, check: bool = True) -> str:
        calls.append(command)
        return plan

    monkeypatch.setattr(apt, "_apt", record)
    monkeypatch.setattr(apt, "STATE", tmp_path / "host.json")
    monkeypatch.setattr(apt.HostState, "save", lambda self: None)
    state = apt.HostState()
    if changed:
        with pytest.raises(WheelwrightError, match="would change packages"):
            apt.install(["docker.io"], state)
        assert len(calls) == 1
        assert state.packages == []
    else:
        apt.install(["docker.io"], state)
        assert len(calls) == 2
        assert state.packages == ["docker.io"]


def test_a_compiled_wheel_that_is_damaged_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    made = tmp_path / "a-1-py3-none-any.whl"
    made.write_bytes(b"compiled")
    kept = keep_wheel("key", made)
    assert compiled_wheel("key") == kept
    kept.write_bytes(b"damaged")
    assert compiled_wheel("key") is None
    assert kept.with_name(f"{kept.name}.damaged").is_file()
    assert keep_wheel("key", made).read_bytes() == b"compiled"
    assert compiled_wheel("key") == kept
