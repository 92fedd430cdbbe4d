"""`--here`: the running Python's real torch, the machine by fake `nvidia-smi` programs, other hosts by their values."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from matrix import Abi, Arch, Cuda, Driver, PythonVersion, load_project
from matrix.cli import run
from matrix.errors import UsageError
from wheel_resolver import cli
from wheel_resolver.asking.here import HostAnswer, answer_host, describe, host_cells, host_policy, install_command
from wheel_resolver.asking.host import Gpu, Host, Torch, read_host
from wheel_resolver.asking.installing import Install
from wheel_resolver.core.facts import Facts, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.resolve import Unsupported
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.catalogue import build_catalogue

PROJECT = load_project()
COMPAT = PROJECT.compat
SHIPPED = build_catalogue(
    snapshot.read().releases,
    repository=COMPAT.flash_attn.repository, origin="https://github.com", source="snapshot", as_of="", stale=False,
)  # fmt: skip
HOST = Host(
    "/opt/my python/bin/python", PythonVersion(3, 12), "CPython", "linux_x86_64", Version("2.36"),
    Torch(Version("2.9.1+cu128"), Cuda(12, 8), Abi.TRUE), None, (Gpu("NVIDIA A10G", Arch(8, 6)),),
    Driver.parse("580.65"),
)  # fmt: skip
A10G, T4, B200 = Gpu("NVIDIA A10G", Arch(8, 6)), Gpu("Tesla T4", Arch(7, 5)), Gpu("NVIDIA B200", Arch(10, 0))


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def executable(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def nvidia_smi(tmp_path: Path, script: str) -> None:
    """A program of that name, first on PATH."""
    executable(tmp_path / "nvidia-smi", f"#!/bin/sh\n{script}\n")


def bare_python(tmp_path: Path) -> str:
    """A Python that runs ours without site-packages: no torch in it."""
    return executable(tmp_path / "bare", f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')


def ask(question: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = run(lambda: cli.main(["--here", "--offline", *question.split()]))
    return status, capsys.readouterr().out


def answer(host: Host) -> HostAnswer:
    index = WheelIndex(SHIPPED.wheels, Facts(COMPAT, PROJECT.known_broken), host_policy(host, default_policy(COMPAT)))
    return answer_host(host, PROJECT, index)


def with_torch(version: str, cuda: str, **change: Any) -> Host:
    return replace(HOST, torch=Torch(Version(version), Cuda.parse(cuda), Abi.TRUE), **change)


def test_the_running_python_and_its_real_torch(capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    status, out = ask("--json", capsys)
    data = json.loads(out)
    assert data["host"]["torch"] == torch.__version__
    assert data["host"]["python"] == "{}.{}".format(*sys.version_info[:2])
    assert (data["host"]["cuda"], data["host"]["abi"]) == ("cpu", "TRUE")
    assert Version(data["host"]["glibc"]) > Version("2.17")
    assert (status, data["install"]) == (4, None)
    assert "CPU build of torch" in data["why_not"]
    assert data["resolutions"][0]["backend"] == "math"
    status, out = ask("--require sdpa", capsys)
    assert status == 0
    assert "no wheel fits this host" in out


def test_gpus_and_driver_by_nvidia_smi(tmp_path: Path) -> None:
    nvidia_smi(tmp_path, "printf 'Tesla T4, 7.5, 535.104.05\\nNVIDIA A10G, 8.6, 535.104.05\\n'")
    host = read_host(bare_python(tmp_path))
    assert host.gpus == (T4, A10G)
    assert str(host.driver) == "535.104.05"
    assert host.torch is None


@pytest.mark.parametrize(
    "script",
    [
        "exit 9",
        "echo 'NVIDIA-SMI has failed'",
        "echo 'Field \"compute_cap\" is not a valid field'; exit 2",
        "printf 'a,b,c'",
    ],
)
def test_an_nvidia_smi_that_fails_is_no_gpu(tmp_path: Path, script: str) -> None:
    nvidia_smi(tmp_path, script)
    host = read_host(bare_python(tmp_path))
    assert (host.gpus, host.driver) == ((), None)


def test_a_cpu_torch_on_a_gpu_machine_says_what_to_install(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    nvidia_smi(tmp_path, "echo 'NVIDIA A10G, 8.6, 535.104.05'")
    status, out = ask("", capsys)
    assert status == 4
    assert "for the NVIDIA A10G of this machine, install torch 2." in out
    assert "/cu12" in out  # the driver runs no CUDA 13


def test_no_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = ask(f"--python {bare_python(tmp_path)}", capsys)
    assert status == 4
    assert "torch is not installed; no GPU is seen either: install torch, then ask again" in out
    nvidia_smi(tmp_path, "echo 'NVIDIA H100 80GB HBM3, 9.0, 580.65.06'")
    status, out = ask(f"--python {bare_python(tmp_path)}", capsys)
    assert status == 4
    assert "torch is not installed; install torch 2." in out


@pytest.mark.parametrize(
    ("module", "trouble"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "importing torch crashed with SIGSEGV"),
        ("import os\nos._exit(7)\n", "importing torch ended the process with status 7"),
        ("raise ImportError('libcudart.so.13: cannot open')\n", "torch cannot be imported: libcudart.so.13"),
        ("import no_such_module\n", "torch cannot be imported: No module named 'no_such_module'"),
    ],
)
def test_a_broken_torch_is_told(tmp_path: Path, module: str, trouble: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text(module)
    script = f'#!/bin/sh\nPYTHONPATH={tmp_path}/broken exec {sys.executable} -S "$@"\n'
    status, out = ask(f"--python {executable(tmp_path / 'python', script)}", capsys)
    assert status == 4
    assert trouble in out


def test_what_a_python_prints_at_its_start_is_not_an_answer(tmp_path: Path) -> None:
    script = f'#!/bin/sh\nprintf \'\\377 noise\\n[1]\\n{{"python": 2}}\\n\'\nexec {sys.executable} -S "$@"\n'
    host = read_host(executable(tmp_path / "noisy", script))
    assert (host.python.major, host.python.minor) == sys.version_info[:2]
    assert host.trouble == "torch is not installed"


@pytest.mark.parametrize(("version", "cuda"), [("unknown", "12.8"), ("2.9.1", "twelve")])
def test_a_torch_with_a_strange_version_is_told(tmp_path: Path, version: str, cuda: str) -> None:
    """A stand-in interpreter that answers the probe as such a torch would make it."""
    basics = {
        "executable": "/x/python", "python": "3.12", "implementation": "CPython", "free_threaded": False,
        "platform": "linux_x86_64", "libc": "glibc 2.36", "packages": {},
    }  # fmt: skip
    torch = {"torch": version, "cuda": cuda, "devices": [], "hip": None, "abi": True}
    script = f"#!/bin/sh\ncat <<'END'\n{json.dumps(basics)}\n{json.dumps(torch)}\nEND\n"
    host = read_host(executable(tmp_path / "strange", script))
    assert host.torch is None
    assert f"torch {version} for CUDA {cuda} is not a build that we know" in str(host.trouble)


def test_what_is_no_python_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "nowhere", Path(executable(tmp_path / "other", "#!/bin/sh\necho hello\n"))):
        assert ask(f"--python {path}", capsys)[0] == 2
        with pytest.raises(UsageError):
            read_host(str(path))


@pytest.mark.parametrize("question", ["--torch 2.9", "--gpu T4 --cuda 12.8", "--python a,b"])
def test_the_host_is_read_not_asked(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(question, capsys)[0] == 2


def test_a_host_with_a_wheel_gets_its_command() -> None:
    found = answer(HOST)
    assert found.wheel is not None
    assert found.wheel.name.python == "cp312"
    command = install_command(HOST, found.wheel)
    assert command.command.startswith("'/opt/my python/bin/python' -m pip install 'https://github.com/Dao-AILab/")
    assert f"#sha256={found.wheel.sha256}'" in command.command
    assert describe(HOST, found, command).endswith(f"\n\n{command.command}")


def test_all_gpus_of_a_host_must_be_served_by_one_wheel() -> None:
    assert answer(replace(HOST, gpus=(A10G, B200, A10G))).wheel is not None
    mixed = answer(replace(HOST, gpus=(A10G, T4)))
    assert mixed.wheel is None
    assert mixed.why_not is not None
    assert "Tesla T4 (sm_75)" in mixed.why_not
    assert len(mixed.answers) == 2


def test_the_hosts_own_glibc_and_driver_are_judged() -> None:
    old = answer(replace(HOST, glibc=Version("2.31")))
    assert old.wheel is None
    assert "needs glibc 2.32" in str(old.answers[0].resolution)
    driver = answer(with_torch("2.9.1+cu130", "13.0", driver=Driver.parse("535.104")))
    assert isinstance(driver.answers[0].resolution, Unsupported)
    assert "the floor of CUDA 13" in str(driver.why_not)


def test_without_a_gpu_the_rest_is_judged() -> None:
    found = answer(replace(HOST, gpus=()))
    assert found.wheel is not None
    assert "no GPU is seen here" in describe(replace(HOST, gpus=()), found, Install("command"))


@pytest.mark.parametrize(
    ("host", "why"),
    [
        (replace(HOST, platform="darwin_arm64"), "the wheels are for linux_x86_64 and linux_aarch64"),
        (replace(HOST, implementation="PyPy"), "the wheels are for CPython"),
        (replace(HOST, glibc=None), "the wheels are for glibc"),
        (replace(HOST, torch=Torch(Version("2.9.1"), Cuda(None, None), Abi.TRUE, "6.4")), "ROCm 6.4"),
        (
            with_torch("2.99.0+cu130", "13.0"),
            f"torch 2.99.0+cu130 is not in compat.yaml of {COMPAT.as_of}, which knows 2.0 to 2.15",
        ),
        (with_torch("2.9.0a0+145a3a7bda.nv25.10", "13.0"), "is a pre-release, as NGC builds are"),
        (replace(HOST, python=PythonVersion(3, 13, free_threaded=True)), "no flash-attn wheel exists for Python 3.13t"),
    ],
)
def test_hosts_that_no_wheel_fits(host: Host, why: str) -> None:
    found = answer(host)
    assert found.wheel is None
    assert why in str(found.why_not)
    assert why in describe(host, found, None)


def test_an_unknown_patch_of_a_known_torch_is_judged_by_its_minor() -> None:
    host = with_torch("2.9.7+cu128", "12.8")
    assert host.torch is not None
    assert host_cells(host, host.torch)[0].torch == Version("2.9.7")
    assert answer(host).wheel is not None


def test_without_a_gpu_the_changes_are_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    (told,) = answer(with_torch("2.13.0+cu130", "13.0", gpus=())).answers
    assert dict(told.alternatives[0].change) == {"torch": "2.10.0"}
    words = told.alternatives[0].command.split()
    assert not {"--gpu", "--arch"} & set(words)
    assert run(lambda: cli.main([*words[3:], "--offline"])) == 0
    assert told.alternatives[0].wheel.name.version in capsys.readouterr().out


def test_the_changes_that_a_host_is_told_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    """A driver's name for a GPU is not one of ours: the command asks by architecture."""
    (told,) = answer(with_torch("2.13.0+cu130", "13.0", gpus=(Gpu("NVIDIA H200", Arch(9, 0)),))).answers
    assert told.alternatives
    for each in told.alternatives:
        words = each.command.split()
        assert words[words.index("--arch") + 1] == "sm_90"
        assert run(lambda words=words: cli.main([*words[3:], "--offline", "--require", "flash_attention_2"])) == 0
