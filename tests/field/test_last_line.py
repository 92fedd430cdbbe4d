"""Rows 27 and 28 of the log, and its fault 12: the last line is run as printed, by the real pip and the real uv."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from road import WHEEL, GitHub, make_wheel, serve_github

from tests.field.fresh_pythons import (
    TORCH_VERSION,
    around_flash_attn,
    flipped,
    said_by,
    settings,
    unpacked,
    with_pip,
    without_pip,
)  # fmt: skip
from wheel_resolver.asking.installing import Packaging, install

ROOT = Path(__file__).resolve().parents[2]
#: The Python that Debian marks as externally managed.
DEBIAN = Path("/usr/bin/python3.11")
SEE = "import flash_attn, torch; print(flash_attn.__version__, torch.__version__)"
SEEN = f"2.8.3 {TORCH_VERSION}"


@dataclass(frozen=True)
class Far:
    """The far end, and the wheels of what flash-attn requires."""

    github: GitHub
    around: list[Path]
    home: Path

    def here(self, python: Path, **more: str) -> dict[str, Any]:
        """What `--here --json` says of a Python, with the releases read from the far end."""
        env = settings(GITHUB_API_URL=self.github.url, WHEELWRIGHT_CACHE=str(self.home / "cache"), **more)
        command = [sys.executable, "-m", "wheel_resolver", "--here", "--refresh", "--json", "--python", str(python)]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert f"{self.github.url}/download/" in found["install"]
        return found

    def paste(self, line: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the line in a shell, in an empty folder."""
        folder = self.home / "pasted"
        folder.mkdir(exist_ok=True)
        return subprocess.run(
            ["/bin/sh", "-c", line], cwd=folder, env=settings(**more), capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip

    def when_flipped(self, line: str, **more: str) -> str:
        """What a line that must fail says when the far end serves the wheel with one bit flipped."""
        good = self.github.wheel
        self.github.wheel = flipped(good)
        try:
            done = self.paste(line, **more)
        finally:
            self.github.wheel = good
        assert done.returncode != 0, done.stdout
        return (done.stdout + done.stderr).lower()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def far(wheel: Path, tmp_path: Path) -> Iterator[Far]:
    with serve_github(wheel) as github:
        yield Far(github, around_flash_attn(tmp_path / "around"), tmp_path)


def uv_on_path(folder: Path) -> None:
    """Put uv where the tests' PATH finds it."""
    from uv import find_uv_bin  # noqa: PLC0415

    (folder / "bin" / "uv").symlink_to(find_uv_bin())


def test_a_venv_with_pip(far: Far) -> None:
    python = with_pip(far.home / "my venv", far.around)
    line = far.here(python)["install"]
    assert line.startswith(f"'{python}' -m pip install ")
    assert "hash" in far.when_flipped(line)
    assert "No module named 'flash_attn'" in said_by(python, SEE)
    done = far.paste(line)
    assert done.returncode == 0, done.stderr
    assert said_by(python, SEE) == SEEN


@pytest.mark.parametrize("on_path", [True, False], ids=["uv on PATH", "uv in our venv"])
def test_a_venv_without_pip(far: Far, *, on_path: bool) -> None:
    python = without_pip(far.home / "venv", far.around)
    if on_path:
        uv_on_path(far.home)
    found = far.here(python)
    line = found["install"]
    assert found["host"]["packaging"]["pip"] is False
    start = "uv" if on_path else f"{sys.executable} -m uv"
    assert line.startswith(f"{start} pip install --python {python} ")
    assert "einops" not in line.rpartition(" ")[2]  # it is there
    assert "hash" in far.when_flipped(line)
    done = far.paste(line)
    assert done.returncode == 0, done.stderr
    assert said_by(python, SEE) == SEEN


def test_uv_does_not_bring_another_torch_where_it_cannot_see_the_one_that_is_there(far: Far) -> None:
    """A torch outside the venv's own site-packages: uv looks into these only, and would install torch anew."""
    torch, einops = far.around
    python = without_pip(far.home / "venv", [einops])
    outside = unpacked(far.home / "outside", [torch])
    found = far.here(python, PYTHONPATH=str(outside))
    assert " --no-deps " in found["install"]
    assert "hash" in far.when_flipped(found["install"])
    done = far.paste(found["install"])
    assert done.returncode == 0, done.stderr
    assert said_by(python, SEE, PYTHONPATH=str(outside)) == SEEN


@pytest.mark.skipif(
    not Path("/usr/lib/python3.11/EXTERNALLY-MANAGED").exists(), reason="needs Debian 12's Python, which is marked so"
)
def test_an_externally_managed_python(far: Far) -> None:
    outside = unpacked(far.home / "outside", far.around)  # nothing is installed into the system's Python for a test
    found = far.here(DEBIAN, PYTHONPATH=str(outside))
    line = found["install"]
    assert found["host"]["packaging"]["managed"] is True
    assert line.startswith(f"{DEBIAN} -m venv --system-site-packages flash-attn-venv && flash-attn-venv/bin/python ")
    assert "externally managed (PEP 668)" in found["install_note"]
    plain = f"{DEBIAN} -m pip install {line.rpartition(' ')[2]}"
    assert "externally-managed-environment" in far.paste(plain, PYTHONPATH=str(outside)).stderr  # what the venv is for
    assert "hash" in far.when_flipped(line, PYTHONPATH=str(outside))
    done = far.paste(line, PYTHONPATH=str(outside))  # again: the venv that is there is taken
    assert done.returncode == 0, done.stderr
    made = far.home / "pasted" / "flash-attn-venv"
    assert said_by(made / "bin" / "python", SEE, PYTHONPATH=str(outside)) == SEEN
    assert (made / "lib/python3.11/site-packages/flash_attn").is_dir()
    assert not (made / "lib/python3.11/site-packages/torch").exists()


def test_one_who_told_pip_to_break_system_packages_needs_no_venv(far: Far) -> None:
    if not Path("/usr/lib/python3.11/EXTERNALLY-MANAGED").exists():
        pytest.skip("needs Debian 12's Python, which is marked as externally managed")
    outside = unpacked(far.home / "outside", far.around)
    found = far.here(DEBIAN, PYTHONPATH=str(outside), PIP_BREAK_SYSTEM_PACKAGES="1")
    assert found["install"].startswith(f"{DEBIAN} -m pip install ")
    assert found["install_note"] is None


def test_a_venv_without_pip_where_there_is_no_uv(far: Far) -> None:
    python = without_pip(far.home / "venv", far.around)
    there = Packaging(pip=False, isolated=True)
    line = install(str(python), there, [far.here(python)["install"].rpartition(" ")[2].strip("'")], []).command
    assert "ensurepip" in line
    assert "hash" in far.when_flipped(line)
    done = far.paste(line)
    assert done.returncode == 0, done.stderr
    assert said_by(python, SEE) == SEEN


def test_uv_makes_the_venv_where_a_managed_python_cannot(far: Far) -> None:
    """A Debian without python3-venv and python3-pip."""
    uv_on_path(far.home)
    outside = unpacked(far.home / "outside", far.around)
    wheel = far.here(without_pip(far.home / "venv", far.around))["install"].rpartition(" ")[2].strip("'")
    there = Packaging(pip=False, ensurepip=False, venv=False, managed=True, uv=("uv",))
    line = install("/usr/bin/python3", there, [wheel], []).command
    assert "hash" in far.when_flipped(line, PYTHONPATH=str(outside))
    done = far.paste(line, PYTHONPATH=str(outside))
    assert done.returncode == 0, done.stderr
    made = far.home / "pasted" / "flash-attn-venv" / "bin" / "python"
    assert said_by(made, SEE, PYTHONPATH=str(outside)) == SEEN


def test_the_text_ends_with_the_same_line(far: Far) -> None:
    python = without_pip(far.home / "venv", far.around)
    line = far.here(python)["install"]
    env = settings(GITHUB_API_URL=far.github.url, WHEELWRIGHT_CACHE=str(far.home / "cache"))
    told = subprocess.run(
        [sys.executable, "-m", "wheel_resolver", "--here", "--offline", "--python", str(python)],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert told.stdout.splitlines()[-1] == line
    assert WHEEL.replace("+", "%2B") in line
