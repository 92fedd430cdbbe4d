"""The Dockerfile line that `export` writes, run by the engine; the wheel lies on the loopback."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pip
import pytest
from road import GitHub, make_wheel, serve_github
from space import REPOSITORY, ROOT, Space

from images.bases import bootstrap
from images.engine import Engine

pytestmark = pytest.mark.engine

MATRIX = ROOT / "tests" / "image" / "fa2_matrix.yaml"
TAG = f"{REPOSITORY}:exported-line"


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHub]:
    with serve_github(make_wheel(tmp_path_factory.mktemp("wheel"))) as server:
        yield server


@pytest.fixture(scope="module")
def context(engine: Engine, github: GitHub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A context whose Dockerfile ends in what was exported, on the bootstrapped base and this Python's pip."""
    folder = tmp_path_factory.mktemp("context")
    lock = ["--matrix", str(MATRIX)]
    env = {
        "GITHUB_API_URL": github.url,
        "WHEELWRIGHT_TRUST_ORIGINS": github.url,
        "WHEELWRIGHT_CACHE": str(tmp_path_factory.mktemp("cache")),
    }
    where = str(tmp_path_factory.mktemp("lock") / "lock.yaml")
    resolver = Space(folder)
    assert resolver.python("wheel_resolver", "lock", *lock, "--output", where, **env).status == 0
    line = resolver.python("wheel_resolver", "export", "fa2", "--format", "dockerfile", *lock, "--lock", where, **env)
    assert line.status == 0
    shutil.copytree(Path(pip.__file__).parent, folder / "pip", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "Dockerfile").write_text(
        f"FROM {bootstrap(engine.client, 'bookworm')}\n"
        "COPY pip /opt/pip/pip\n"
        "ENV PYTHONPATH=/opt/pip PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1\n"
        "RUN ln -sf /usr/bin/python3 /usr/local/bin/python\n" + line.out
    )
    return folder


def build(engine: Engine, context: Path) -> subprocess.CompletedProcess[str]:
    """Build on the engine's own network, where the loopback's server is; the line is run anew each time."""
    command = [
        "docker", "--host", engine.host, "buildx", "build", "--progress=plain", "--no-cache", "--load", "--tag", TAG,
        "--network=host", "--allow=network.host", str(context),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_the_engine_runs_the_line_and_the_wheel_is_there(engine: Engine, context: Path) -> None:
    done = build(engine, context)
    assert done.returncode == 0, done.stderr[-3000:]
    code = "from importlib.metadata import version; print(version('flash-attn'))"
    out = engine.client.containers.run(TAG, ["python", "-c", code], entrypoint="", remove=True)
    assert out.decode().strip() == "2.8.3"


def test_another_file_stops_the_build(engine: Engine, context: Path, github: GitHub) -> None:
    good, github.wheel = github.wheel, github.wheel[:10] + bytes([github.wheel[10] ^ 2]) + github.wheel[11:]
    try:
        done = build(engine, context)
    finally:
        github.wheel = good
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
