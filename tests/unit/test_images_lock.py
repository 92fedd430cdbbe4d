"""The requirement locks: what they are computed from, and what is said when they do not fit."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pytest

from images import lock
from images.lock_inputs import origin_for, torch_requirement
from images.planned import Workspace, read_base_digests
from images.requirement_files import parse_pins, read_stack_lock
from matrix.errors import DataError
from matrix.seal import sealed

OWN = Workspace.load()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A copy of this checkout's data."""
    for folder in ("matrix", "dockerfiles", "serve"):
        shutil.copytree(OWN.root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return Workspace.load(tmp_path)


def check(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    status = lock.run(argparse.Namespace(check=True, upgrade=False, allow_build=[], json=True), workspace)
    return status, json.loads(capsys.readouterr().out)["not_fresh"]


def test_the_committed_locks_are_fresh(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(workspace, capsys) == (0, {})


@pytest.mark.parametrize("name", ["requirements.in", "overrides.txt"])
def test_a_changed_input_makes_every_stack_stale(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = workspace.root / "serve" / name
    path.write_text(path.read_text() + "# changed\n")
    status, faults = check(workspace, capsys)
    assert status == 1
    assert len(faults) == len(list(workspace.locks.glob("*/torch.txt"))) == 3


def test_a_stack_without_a_target_is_told(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(workspace.locks / "py3.11-torch2.13.0-cpu", workspace.locks / "py3.9-torch2.4.0-cpu")
    status, faults = check(workspace, capsys)
    assert status == 1
    assert set(faults) == {f"dockerfiles/locks/py3.9-torch2.4.0-cpu/{name}.txt" for name in ("torch", "model")}


def test_a_missing_stack_is_told_with_the_remedy(workspace: Workspace) -> None:
    with pytest.raises(DataError) as caught:
        read_stack_lock(workspace.locks / "py3.9-torch2.4.0-cpu")
    assert caught.value.remedy == "make lock"


def test_every_layer_of_a_stack_has_its_list() -> None:
    lists = {path.name: read_stack_lock(path).lists for path in OWN.locks.iterdir() if path.is_dir()}
    assert set(lists["py3.11-torch2.13.0-cpu"]) == {"torch.txt", "model.txt"}
    assert set(lists["py3.12-torch2.9.1-cu128"]) == {"nvidia.txt", "torch.txt", "model.txt"}
    assert set(lists["py3.13-torch2.13.0-cu130"]) == {
        "nvidia.txt",
        "torch.txt",
        "model.txt",
        "build.txt",
        "toolkit.txt",
    }
    # Left out of what runs, and still there for what builds.
    assert "psutil" in {pin.name for pin in parse_pins(lists["py3.13-torch2.13.0-cu130"]["build.txt"])}
    for stack in OWN.locks.glob("*/"):
        locked = read_stack_lock(stack).lists
        names = {pin.name for name, text in locked.items() if name != "build.txt" for pin in parse_pins(text)}
        assert not names & {"gradio", "librosa", "numba", "onnxruntime", "psutil", "scipy", "sox", "torchaudio"}
        assert {"torch", "qwen-tts", "transformers"} <= names
        assert not any("://" in line for path in stack.glob("*.txt") for line in path.read_text().splitlines())


def test_only_images_for_a_gpu_have_the_engine_that_needs_one(workspace: Workspace) -> None:
    for stack in {target.stack: target for target in workspace.project.matrix.targets.values()}.values():
        names = {pin.name for pin in read_stack_lock(workspace.locks / stack.stack).pins()}
        assert ("faster-qwen3-tts" in names) is not stack.cuda.is_cpu


def test_the_torch_of_the_default_index_has_no_local_version() -> None:
    asked = {name: torch_requirement(OWN, target) for name, target in OWN.project.matrix.targets.items()}
    assert asked["a10g"] == "torch==2.9.1"
    assert asked["cpu"] == "torch==2.13.0+cpu"
    assert origin_for(OWN, OWN.project.matrix.targets["a10g"]) is None
    assert str(origin_for(OWN, OWN.project.matrix.targets["cpu"])).endswith("/whl/cpu")


def test_an_origin_can_be_overridden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEELWRIGHT_PYTORCH_WHEELS", "https://mirror.example/torch/")
    assert origin_for(OWN, OWN.project.matrix.targets["cpu"]) == "https://mirror.example/torch/cpu"


def test_base_digests_are_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "bases.yaml"
    assert read_base_digests(path) == {}
    digest = f"sha256:{'0' * 64}"
    path.write_text(lock.bases_text({"a": None, "b:1": digest}))
    assert read_base_digests(path) == {"b:1": digest}
    for wrong in ("bases: [", "- a\n", "bases: 1\n", "bases: {b: 'sha256:00'}\n", "bases: {'$(id)': null}\n"):
        path.write_text(sealed(wrong))
        with pytest.raises(DataError, match=r"bases\.yaml"):
            read_base_digests(path)
