"""Row 27 of the log: every form that `export` writes is installed from, by the real pip and the real uv."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from road import WHEEL, GitHub, make_wheel, serve_github

from images.uv import uv_executable
from tests.field.fresh_pythons import (
    TORCH_VERSION,
    around_flash_attn,
    flipped,
    said_by,
    settings,
    with_pip,
    without_pip,
)  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
MATRIX = ROOT / "tests" / "image" / "fa2_matrix.yaml"
SEE = "import flash_attn, torch; print(flash_attn.__version__, torch.__version__)"
SEEN = f"2.8.3 {TORCH_VERSION}"
FORMS = ("requirements", "uv", "pylock", "dockerfile", "shell")
#: The first pip that reads a pylock.toml; 26.0 takes it for a requirements file.
PYLOCK_PIP = (26, 1)


@dataclass(frozen=True)
class Road:
    """A lock whose wheel lies on the loopback, and a venv with what flash-attn requires."""

    github: GitHub
    home: Path
    around: list[Path]

    def resolver(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = settings(
            GITHUB_API_URL=self.github.url, WHEELWRIGHT_CACHE=str(self.home / "cache"),
            WHEELWRIGHT_TRUST_ORIGINS=self.github.url,
        )  # fmt: skip
        return subprocess.run(
            [sys.executable, "-m", "wheel_resolver", *arguments],
            cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def export(self, form: str, *more: str) -> str:
        lock = ["--matrix", str(MATRIX), "--lock", str(self.home / "lock.yaml")]
        done = self.resolver("export", "fa2", "--format", form, *lock, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def venv(self, name: str) -> Path:
        """A venv without pip, made anew: the stand-in torch and einops are in it."""
        shutil.rmtree(self.home / name, ignore_errors=True)
        return without_pip(self.home / name, self.around)


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    home = tmp_path_factory.mktemp("road")
    with serve_github(make_wheel(home / "wheel")) as github:
        found = Road(github, home, around_flash_attn(home / "around"))
        done = found.resolver("lock", "--matrix", str(MATRIX), "--output", str(home / "lock.yaml"))
        assert done.returncode == 0, done.stderr
        yield found


@pytest.fixture
def another_wheel(road: Road) -> Iterator[None]:
    good = road.github.wheel
    road.github.wheel = flipped(good)
    yield
    road.github.wheel = good


def run_in(folder: Path, command: list[str], **more: str) -> tuple[int, str]:
    done = subprocess.run(
        command, cwd=folder, env=settings(**more), capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def uv(*arguments: str) -> list[str]:
    return [uv_executable(), "--no-progress", *arguments]


def through_uv_project(road: Road, folder: Path) -> tuple[int, str, Path]:
    """A project whose pyproject.toml is what was exported, and a name; torch and einops come from a folder."""
    head = '[project]\nname = "app"\nversion = "0"\nrequires-python = "==3.11.*"\n'
    text = road.export("uv").replace("[project]\n", head)
    text = text.replace("dependencies = [", 'dependencies = ["torch", "einops", ', 1)
    text += "".join(f'{wheel.name.partition("-")[0]} = {{ path = "{wheel}" }}\n' for wheel in road.around)
    (folder / "pyproject.toml").write_text(text)
    return *sync(folder), folder / ".venv" / "bin" / "python"


def sync(folder: Path) -> tuple[int, str]:
    """Lock and install a project."""
    env = settings(XDG_CONFIG_HOME=str(folder))
    del env["UV_NO_CONFIG"]  # else uv would not read the project's settings
    done = subprocess.run(
        uv("sync", "--python", sys.executable), cwd=folder, env=env, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_pyproject_of_uv_locks_and_syncs(road: Road, tmp_path: Path) -> None:
    status, said, python = through_uv_project(road, tmp_path)
    assert status == 0, said
    assert said_by(python, SEE) == SEEN
    (source,) = [
        each for each in (tmp_path / "pyproject.toml").read_text().splitlines() if each.startswith("flash-attn =")
    ]
    assert f'{road.github.url}/download/{WHEEL.replace("+", "%2B")}"' in source
    lock = tomllib.loads((tmp_path / "uv.lock").read_text())
    (package,) = [each for each in lock["package"] if each["name"] == "flash-attn"]
    assert package["wheels"][0]["hash"].removeprefix("sha256:") in road.export("requirements")


@pytest.mark.usefixtures("another_wheel")
def test_a_pyproject_of_uv_refuses_another_file(road: Road, tmp_path: Path) -> None:
    status, said, python = through_uv_project(road, tmp_path)
    assert status != 0
    assert "Hash mismatch" in said
    assert "2.8.3" not in said_by(python, SEE)


def _pip() -> list[str]:
    import pip  # noqa: PLC0415

    version = tuple(map(int, pip.__version__.split(".")[:2]))
    assert version >= PYLOCK_PIP, f"pip {pip.__version__} reads no pylock.toml: `make venv` brings a newer one"
    return [sys.executable, str(Path(pip.__file__).parent)]


def pylock(tool: str, python: Path, file: Path) -> list[str]:
    if tool == "pip":
        return [*_pip(), "--python", str(python), "install", "--no-deps", "-r", str(file)]
    return uv("pip", "install", "--python", str(python), "-r", str(file))


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_pylock_installs_and_refuses_another_file(road: Road, tmp_path: Path, tool: str) -> None:
    file = tmp_path / "pylock.toml"
    assert road.export("pylock", "--output", str(file)) == ""
    python = road.venv(f"pylock-{tool}")
    command = pylock(tool, python, file)
    good, road.github.wheel = road.github.wheel, flipped(road.github.wheel)
    status, said = run_in(tmp_path, command)
    road.github.wheel = good
    assert status != 0
    assert "hash" in said.lower()
    assert "No module named 'flash_attn'" in said_by(python, SEE)
    status, said = run_in(tmp_path, command)
    assert status == 0, said
    assert said_by(python, SEE) == SEEN


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_pylock_of_the_file_in_the_cache(road: Road, tmp_path: Path, tool: str) -> None:
    lock = ["--matrix", str(MATRIX), "--lock", str(road.home / "lock.yaml")]
    assert road.resolver("fetch", "fa2", *lock).returncode == 0
    file = tmp_path / "pylock.toml"
    road.export("pylock", "--local", "--output", str(file))
    python = road.venv(f"local-{tool}")
    path = Path(tomllib.loads(file.read_text())["packages"][0]["archive"]["path"])
    good = path.read_bytes()
    path.write_bytes(flipped(good))
    status, said = run_in(tmp_path, pylock(tool, python, file))
    path.write_bytes(good)
    assert status != 0
    assert "hash" in said.lower()
    status, said = run_in(tmp_path, pylock(tool, python, file))
    assert status == 0, said
    assert said_by(python, SEE) == SEEN


def test_a_pyproject_gets_no_file_that_uv_would_not_check(road: Road) -> None:
    lock = ["--matrix", str(MATRIX), "--lock", str(road.home / "lock.yaml")]
    done = road.resolver("export", "fa2", "--format", "uv", "--local", *lock)
    assert done.returncode == 2
    assert "--format requirements or pylock" in done.stderr


def test_a_pylock_is_what_the_standard_says(road: Road) -> None:
    """By packaging's own reader, where it has one, and for no other Python or machine."""
    data = tomllib.loads(road.export("pylock"))
    assert (data["lock-version"], data["requires-python"]) == ("1.0", "==3.11.*")
    (package,) = data["packages"]
    assert package["archive"]["size"] == len(road.github.wheel)
    pylocks = pytest.importorskip("packaging.pylock")
    read = pylocks.Pylock.from_dict(data)
    read.validate()
    (environment,) = read.environments
    here = {"python_version": "3.11", "sys_platform": "linux", "platform_machine": "x86_64"}
    assert environment.evaluate(here)
    assert not environment.evaluate(here | {"python_version": "3.12"})
    assert not environment.evaluate(here | {"platform_machine": "aarch64"})


@pytest.mark.parametrize("form", ["shell", "dockerfile"])
def test_a_line_runs_in_a_shell(road: Road, tmp_path: Path, form: str) -> None:
    """A Dockerfile's RUN is a line for /bin/sh, too; tests/image has it run by the engine."""
    python = with_pip(tmp_path / "venv", road.around)
    line = road.export(form).splitlines()[-1].removeprefix("RUN ")
    path = f"{python.parent}:/usr/bin:/bin"
    good, road.github.wheel = road.github.wheel, flipped(road.github.wheel)
    status, said = run_in(tmp_path, ["/bin/sh", "-c", line], PATH=path)
    road.github.wheel = good
    assert status != 0
    assert "hash" in said.lower()
    status, said = run_in(tmp_path, ["/bin/sh", "-c", line], PATH=path)
    assert status == 0, said
    assert said_by(python, SEE) == SEEN


def test_hadolint_takes_the_line(road: Road, tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM python:3.11-slim\n" + road.export("dockerfile"))
    program = Path(sys.executable).with_name("hadolint")
    assert run_in(tmp_path, [str(program), "--no-color", str(file)]) == (0, "")
    file.write_text("FROM python\n")  # it reads the file
    assert run_in(tmp_path, [str(program), "--no-color", str(file)])[0] != 0


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_written_whole_or_not_at_all(road: Road, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "out"
    file = folder / "pylock.fa2.toml"
    assert road.export(form, "--output", str(file)) == ""
    assert file.read_text() == road.export(form)
    lock = ["--matrix", str(MATRIX), "--lock", str(road.home / "lock.yaml")]
    done = road.resolver("export", "plain", "--format", form, *lock, "--output", str(file))
    assert done.returncode == 1
    assert "plain: sdpa, no wheel" in done.stderr
    assert file.read_text() == road.export(form)  # what was there stays
    assert [each.name for each in folder.iterdir()] == [file.name]
    report = json.loads(road.export(form, "--json"))
    assert (report["format"], report["text"] + "\n") == (form, file.read_text())


def test_a_lock_file_has_a_name_that_pip_and_uv_take(road: Road, tmp_path: Path) -> None:
    lock = ["--matrix", str(MATRIX), "--lock", str(road.home / "lock.yaml")]
    done = road.resolver("export", "fa2", "--format", "pylock", *lock, "--output", str(tmp_path / "out" / "flash.toml"))
    assert done.returncode == 2
    assert "pylock.NAME.toml" in done.stderr
    assert not (tmp_path / "out").exists()
