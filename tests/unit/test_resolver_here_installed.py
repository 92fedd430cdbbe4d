"""``--here`` ends in an import of what is installed, in a child process; and knows what must not stand next to it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from matrix import Abi, Arch, Cuda, Driver, PythonVersion, load_project
from matrix.cli import run
from wheel_resolver import cli
from wheel_resolver.asking.here import HostAnswer, answer_host, host_policy
from wheel_resolver.asking.host import Gpu, Host, Torch
from wheel_resolver.core.facts import Facts, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.catalogue import build_catalogue

PROJECT = load_project()
HOST = Host(
    "/opt/python", PythonVersion(3, 12), "CPython", "linux_x86_64", Version("2.36"),
    Torch(Version("2.9.1+cu128"), Cuda(12, 8), Abi.TRUE), None, (Gpu("NVIDIA A10G", Arch(8, 6)),),
    Driver.parse("580.65.06"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def install(folder: Path, module: str) -> str:
    """A folder of packages with a flash-attn whose extension is this module."""
    info = folder / "flash_attn-2.8.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flash_attn\nVersion: 2.8.3\n")
    (folder / "flash_attn_2_cuda.py").write_text(module)
    return str(folder)


@pytest.mark.parametrize(
    ("module", "loads", "said"),
    [
        ("", True, "flash_attn_2_cuda was imported next to torch"),
        ('raise ImportError("undefined symbol: _ZN3c105ErrorC2E")', False, "undefined symbol: _ZN3c105ErrorC2E"),
        ("import os; os.kill(os.getpid(), 11)", False, "crashed with SIGSEGV"),
    ],
)
def test_what_is_installed_is_imported(
    tmp_path: Path,
    module: str,
    loads: bool,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("PYTHONPATH", install(tmp_path / "site", module))  # for the child processes
    status = run(lambda: cli.main(["--here", "--offline", "--json"]))
    installed = json.loads(capsys.readouterr().out)["installed"]
    assert status == 4  # a CPU build of torch: no wheel fits, whatever is installed
    assert (installed["version"], installed["loads"], installed["evidence"]) == ("2.8.3", loads, "loaded")
    assert said in installed["reason"]


def test_nothing_installed_is_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert run(lambda: cli.main(["--here", "--offline", "--json"])) == 4
    assert json.loads(capsys.readouterr().out)["installed"] is None


def answer(**change: Any) -> HostAnswer:
    host = replace(HOST, **change)
    known = build_catalogue(
        snapshot.read().releases, repository=PROJECT.compat.flash_attn.repository, origin="https://github.com",
        source="snapshot", as_of="", stale=False,
    )  # fmt: skip
    policy = host_policy(host, default_policy(PROJECT.compat))
    return answer_host(host, PROJECT, WheelIndex(known.wheels, Facts(PROJECT.compat, PROJECT.known_broken), policy))


@pytest.mark.parametrize(
    ("packages", "version"),
    [
        ({}, "2.8.3"),
        ({"nvidia-cutlass-dsl": "4.2.1"}, "2.8.3"),
        ({"nvidia-cutlass-dsl": "4.6.2"}, "2.8.1"),
        ({"flash-attn-4": "4.0.0b36", "nvidia-cutlass-dsl": "4.8.1"}, "2.8.1"),
        ({"flash-attn-4": "4.0.0b36"}, "2.8.1"),
    ],
)
def test_a_stale_flash_attn_cute_is_not_put_next_to_flash_attn_4_and_what_it_brings(
    packages: dict[str, str], version: str
) -> None:
    found = answer(packages=packages)
    assert found.wheel is not None
    assert found.wheel.name.version == version
    refused = found.answers[0].resolution.rejected.get("known_broken", 0)  # type: ignore[union-attr]
    assert bool(refused) == (version == "2.8.1")


def test_an_installed_torch_is_judged_by_what_it_is() -> None:
    """PyTorch never built torch 2.9.1 for CUDA 12.4; somebody did, and it runs here."""
    found = answer(torch=Torch(Version("2.9.1+cu124"), Cuda(12, 4), Abi.TRUE))
    assert found.wheel is not None
    assert found.wheel.name.version == "2.8.3"
    assert "not known to compat.yaml" not in found.answers[0].resolution.reason
