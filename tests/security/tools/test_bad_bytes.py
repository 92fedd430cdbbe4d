"""Files of the repository that are damaged, or not what they seem: an error names the file and never is a traceback."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RENDER, PLAN, LOCK = ["images", "render", "--check"], ["images", "plan"], ["images", "lock", "--check"]
# What each file is read by, and the exit status where it is damaged: a check that differs, or data that is wrong.
FILES = [
    ("dockerfiles/rendered/cpu.image.json", RENDER, 1),
    ("dockerfiles/docker-bake.json", RENDER, 1),
    ("dockerfiles/templates/_macros.j2", RENDER, 2),
    ("dockerfiles/templates/Image.Dockerfile.j2", RENDER, 2),
    ("dockerfiles/locks/bases.yaml", PLAN, 2),
    ("dockerfiles/locks/bases.yaml", LOCK, 1),
    ("dockerfiles/locks/py3.11-torch2.13.0-cpu/model.txt", PLAN, 2),
    ("dockerfiles/locks/py3.11-torch2.13.0-cpu/model.txt", LOCK, 1),
    ("serve/requirements.in", PLAN, 2),
    ("serve/overrides.txt", LOCK, 2),
    ("matrix/matrix.yaml", PLAN, 2),
    ("matrix/lock.yaml", PLAN, 2),
    ("matrix/schema.json", ["matrix", "schema", "--check"], 1),
    ("pyproject.toml", PLAN, 2),
    ("wheel_resolver/upstream/snapshot.json", ["wheel_resolver", "--offline", "--torch", "2.9"], 2),
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.split("\0"):
        if name.partition("/")[0] in {"matrix", "wheel_resolver", "images", "dockerfiles", "serve", "pyproject.toml"}:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def run(folder: Path, module: str, *arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "WHEELWRIGHT_CACHE": str(cache), "HOME": str(cache)}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "command", "status"), FILES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_bytes_that_are_no_text(checkout: Path, tmp_path: Path, name: str, command: list[str], status: int) -> None:
    path = checkout / name
    before = path.read_bytes()
    try:
        path.write_bytes(before + b"\xff\xfe\n")
        done = run(checkout, *command, cache=tmp_path)
    finally:
        path.write_bytes(before)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert Path(name).name in done.stdout + done.stderr or Path(name).parent.name in done.stdout + done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "{% if",
        "{{ recipe.nothing_of_this_name }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__.os.system('touch owned') }}",
        "{% for n in range(10**9) %}x{% endfor %}",
    ],
)
def test_a_template_can_write_a_dockerfile_and_run_nothing(checkout: Path, tmp_path: Path, text: str) -> None:
    path = checkout / "dockerfiles/templates/Image.Dockerfile.j2"
    before = path.read_text()
    try:
        path.write_text(before + text)
        done = run(checkout, "images", "render", cache=tmp_path)
    finally:
        path.write_text(before)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "dockerfiles/templates/Image.Dockerfile.j2" in done.stderr
    assert not (checkout / "owned").exists()


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 5000, "[project]\nversion = 1", '[project]\nversion = "$(id)"', "version = '1.2'", ""]
)
def test_a_version_that_is_none(checkout: Path, tmp_path: Path, text: str) -> None:
    path = checkout / "pyproject.toml"
    before = path.read_text()
    try:
        path.write_text(text)
        done = run(checkout, "images", "plan", cache=tmp_path)
    finally:
        path.write_text(before)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "pyproject.toml" in done.stderr
