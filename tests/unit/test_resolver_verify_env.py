"""``verify --env``: the real torch of this environment, stand-ins that crash or hang, and a real C++ ABI fault."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from matrix.cli import run
from tests.packing import TAG, members, pack
from wheel_resolver import cli
from wheel_resolver.inside.loading import load_extension

NAME = f"flash_attn-2.8.2+cu12torch2.9cxx11abiTRUE-{TAG}-{TAG}-linux_x86_64.whl"
MEMBER = f"flash_attn_2_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"

# The call of torch is what an ABI fault breaks: std::string is named differently in each.
SOURCE = """
#include <Python.h>
#include <string>
namespace c10 { namespace detail { void torchCheckFail(const char*, const char*, unsigned, const std::string&); } }
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "flash_attn_2_cuda", 0, -1, 0};
extern "C" PyObject* PyInit_flash_attn_2_cuda() { return PyModule_Create(&module); }
extern "C" void call() { c10::detail::torchCheckFail("", "", 0, std::string("x")); }
"""

FAKE_TORCH = """
__version__ = "2.9.1+cu128"
class version: cuda = "12.8"; hip = None
class _C: _GLIBCXX_USE_CXX11_ABI = True
class cuda:
    device_count = staticmethod(lambda: 0)
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Modules that the child processes find before the installed ones."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))

    def put(**modules: str) -> None:
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(text)

    return put


def verify(capsys: pytest.CaptureFixture[str], *arguments: str, status: int) -> dict[str, Any]:
    assert run(lambda: cli.main(["verify", "--env", "--json", *arguments])) == status
    here: dict[str, Any] = json.loads(capsys.readouterr().out)["here"]
    return here


needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs torch (make test-venv)")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@needs_torch
def test_the_torch_of_this_environment(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a CPU build, in which no flash-attn loads."""
    here = verify(capsys, status=1)
    assert (here["loads"], here["evidence"]) == (False, "rules")
    assert "this is a CPU build of torch" in here["reason"]
    assert (here["host"]["cuda"], here["host"]["executable"]) == ("cpu", sys.executable)


@needs_torch
@needs_compiler
@pytest.mark.parametrize("abi", [1, 0])
def test_the_abi_of_the_real_torch_decides(tmp_path: Path, capsys: pytest.CaptureFixture[str], abi: int) -> None:
    spec = find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    library = Path(spec.origin).parent / "lib"
    source, result = tmp_path / "extension.cpp", tmp_path / "extension.so"
    source.write_text(SOURCE)
    done = subprocess.run(
        [
            "g++", "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}", f"-D_GLIBCXX_USE_CXX11_ABI={abi}",
            str(source), f"-L{library}", "-lc10", "-o", str(result),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wheel = pack(tmp_path / NAME, members({MEMBER: result.read_bytes()}, version="2.8.2"))
    ruled = verify(capsys, str(wheel), status=1)
    assert (ruled["loads"], ruled["evidence"]) == (False, "rules")
    here = verify(capsys, str(wheel), "--import", status=0 if abi else 1)
    assert (here["loads"], here["evidence"]) == (bool(abi), "imported")
    assert here["rules"]  # what the name says would not have been installed here
    if not abi:
        assert "undefined symbol: _ZN3c106detail14torchCheckFailEPKcS2_jRKSs" in here["reason"]


def test_an_installed_one_that_loads(site: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    site(torch=FAKE_TORCH, flash_attn_2_cuda="print('{not ours')")
    here = verify(capsys, status=0)
    assert (here["loads"], here["evidence"]) == (True, "imported")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "flash_attn_2_cuda: crashed with SIGSEGV"),
        ("raise ImportError('undefined symbol: _ZN3c10')", "ImportError: undefined symbol: _ZN3c10"),
        ("import time; time.sleep(60)", "did not end within 2 s"),
        ("import sys; sys.exit(7)", "ended the process with status 7"),
        ("import os; os._exit(0)", "ended the process with status 0"),
    ],
)
def test_an_installed_one_that_does_not(
    site: Callable[..., None], capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    site(torch=FAKE_TORCH, flash_attn_2_cuda=text)
    here = verify(capsys, "--timeout", "2", status=1)
    assert (here["loads"], here["evidence"]) == (False, "imported")
    assert words in here["reason"]


def test_none_installed_names_the_wheel_that_would_load(
    site: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    site(torch=FAKE_TORCH)
    here = verify(capsys, status=0 if TAG == "cp312" else 1)  # torch 2.9 has official wheels for Python 3.12 only
    assert here["evidence"] == "rules"
    assert ("not installed; flash_attn-2.8" in here["reason"]) is (TAG == "cp312")
    assert (here["install"] is not None) is (TAG == "cp312")


def test_a_wheel_is_judged_by_the_rules(
    site: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site(torch=FAKE_TORCH)
    compiled = Path(sysconfig.get_config_var("DESTSHARED")).glob("*.so")
    extension = next(iter(sorted(compiled))).read_bytes()
    wheel = pack(tmp_path / NAME, members({MEMBER: extension}, version="2.8.2"))
    here = verify(capsys, str(wheel), status=0)
    assert (here["loads"], here["evidence"], here["reason"]) == (True, "rules", "no rule refuses it here")
    here = verify(capsys, str(wheel), "--import", status=1)
    assert "PyInit_flash_attn_2_cuda" in here["reason"]  # another extension under this name
    other = wheel.rename(wheel.with_name(NAME.replace("torch2.9", "torch2.8")))
    assert "torch 2.8 is not 2.9" in verify(capsys, str(other), status=1)["reason"]
    home = other.rename(wheel.with_name(NAME.replace("+cu12torch2.9cxx11abiTRUE", "")))
    assert verify(capsys, str(home), status=1)["loads"] is None


def test_a_torch_that_cannot_be_imported(site: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    site(torch="raise ImportError('libcudart.so.12: cannot open shared object file')")
    here = verify(capsys, status=1)
    assert "torch cannot be imported: libcudart.so.12" in here["reason"]


def test_a_python_that_is_none() -> None:
    assert (
        load_extension("/nonexistent/python").trouble == "/nonexistent/python cannot be run: No such file or directory"
    )


def test_the_text(site: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    site(torch=FAKE_TORCH, flash_attn_2_cuda="")
    assert run(lambda: cli.main(["verify", "--env"])) == 0
    assert "loads here  yes (imported): flash_attn_2_cuda was imported beside torch" in capsys.readouterr().out
