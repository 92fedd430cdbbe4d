"""Rows 2 and 24 of the log, and its fault 5: the lock of somebody's own matrix."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from matrix import DATA_DIR
from matrix.cli import run
from wheel_resolver import cli, lock

MATRIX = """schema: 1
axes:
  python: ["3.11"]
  torch: ["{torch}"]
  cuda: ["{cuda}"]
  abi: [derived]
  gpu: [A100]
  platform: [linux_x86_64]
exclude: []
targets:
  mine:
    description: what pip installs by default
    tier: default
    python: "3.11"
    torch: "{torch}"
    cuda: "{cuda}"
    platform: linux_x86_64
    gpus: [{gpus}]
    model: Qwen/Qwen3-TTS-12Hz-1.7B-Base
    base: slim
    flash_attn: null
    source_build: false
    attention: {{value: flash_attention_2, because: it was asked for, source: the log of public reports}}
aliases: {{}}
"""


@pytest.fixture(autouse=True)
def _checkout() -> Iterator[None]:
    """What this checkout has locked; it is put back where a test fails to leave it alone."""
    ours = DATA_DIR / "lock.yaml"
    before = ours.read_bytes()
    yield
    after = ours.read_bytes()
    if after != before:
        ours.write_bytes(before)
    assert hashlib.sha256(after).digest() == hashlib.sha256(before).digest(), "this checkout's lock was overwritten"


def matrix(folder: Path, name: str = "mine.yaml", torch: str = "2.6.0", cuda: str = "12.4", gpus: str = "A100") -> Path:
    path = folder / name
    path.write_text(MATRIX.format(torch=torch, cuda=cuda, gpus=gpus), encoding="utf-8")
    return path


def test_torch_2_6_of_the_default_index_is_locked_to_no_mislabelled_wheel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """https://github.com/Dao-AILab/flash-attention/issues/1783: 2.8.x ``torch2.6 abiFALSE`` fails to import there.

    The wheel that fits, 2.7.4.post1, has no published digest: offline it cannot be pinned, and nothing else is.
    """
    out = tmp_path / "out.yaml"
    assert run(lambda: cli.main(["lock", "--matrix", str(matrix(tmp_path)), "--output", str(out), "--offline"])) == 2
    said = capsys.readouterr().err
    assert "flash_attn-2.7.4.post1+cu12torch2.6cxx11abiFALSE-cp311-cp311-linux_x86_64.whl" in said
    assert "flash_attn-2.8" not in said
    assert not out.exists()


def test_torch_2_6_for_cuda_12_6_is_locked_to_a_true_wheel(tmp_path: Path) -> None:
    """https://github.com/Dao-AILab/flash-attention/issues/1644."""
    out = tmp_path / "out.yaml"
    mine = matrix(tmp_path, cuda="12.6")
    assert run(lambda: cli.main(["lock", "--matrix", str(mine), "--output", str(out), "--offline"])) == 0
    wheel = lock.read(out).targets["mine"].wheel
    assert wheel is not None
    assert wheel.name == "flash_attn-2.8.3+cu12torch2.6cxx11abiTRUE-cp311-cp311-linux_x86_64.whl"
    assert wheel.evidence == "recipe"


@pytest.mark.parametrize(("name", "written"), [("mine.yaml", "mine.lock.yaml"), ("matrix.yaml", "lock.yaml")])
def test_the_lock_of_another_matrix_is_written_beside_it(tmp_path: Path, name: str, written: str) -> None:
    """Fault 5: without ``--output`` it overwrote the lock of this checkout."""
    (tmp_path / "theirs").mkdir()
    mine = matrix(tmp_path / "theirs", name, torch="2.8.0", cuda="12.8")
    assert run(lambda: cli.main(["lock", "--matrix", str(mine), "--offline"])) == 0
    assert {path.name for path in mine.parent.iterdir()} == {name, written}
    assert list(lock.read(mine.with_name(written)).targets) == ["mine"]


def test_gpus_that_no_wheel_serves_together_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Row 24, https://github.com/tdrussell/diffusion-pipe/issues/137: never moved to SDPA in silence."""
    mine = matrix(tmp_path, torch="2.8.0", cuda="12.8", gpus="L4, T4")
    assert run(lambda: cli.main(["lock", "--matrix", str(mine), "--offline"])) == 2
    said = capsys.readouterr().err
    assert "mine asks for flash_attention_2" in said
    assert "T4 (sm_75)" in said
    assert not mine.with_name("mine.lock.yaml").exists()
