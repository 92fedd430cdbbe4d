"""What a machine can and cannot build says so: nothing is moved to another Python or to SDPA in silence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from space import AS_USUAL, REPOSITORY, ROOT, Space

from images.engine import Engine
from images.quoting import bake_value

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def space(engine: Engine, make_space: Callable[[str], Space]) -> Space:
    return make_space("")


def test_a_base_that_cannot_be_had_is_unavailable(space: Space) -> None:
    answer = space.images("build", "t4", "--base", "bootstrap", "--json")
    (t4,) = answer.json["targets"]
    assert answer.status == 1
    assert t4["status"] == "unavailable"
    assert t4["detail"].startswith("unavailable here: no base with Python 3.12")


def test_an_unknown_target_is_a_usage_error_with_the_known_ones(space: Space) -> None:
    answer = space.images("build", "a100")
    assert answer.status == 2
    assert "'a100'" in answer.err
    assert "a10g" in answer.err


def test_stale_generated_files_are_not_built(space: Space) -> None:
    rendered = space.root / "dockerfiles/rendered/cpu.image.json"
    rendered.write_text(rendered.read_text() + " ")
    answer = space.images("build", "cpu")
    assert answer.status == 2
    assert "cpu.image.json" in answer.err
    assert "make render" in answer.err


def test_a_smoke_of_what_was_never_built_says_so(space: Space) -> None:
    answer = space.images("smoke", "h100")
    assert answer.status == 1
    assert "build it first" in answer.out


def test_an_engine_that_does_not_answer_is_exit_5(space: Space) -> None:
    answer = space.images("build", "cpu", DOCKER_HOST="unix:///nonexistent/docker.sock")
    assert answer.status == 5
    assert "no engine answers at unix:///nonexistent/docker.sock" in answer.err
    assert "change or unset DOCKER_HOST" in answer.err
    assert "make engine" not in answer.err  # which would install another one


def test_ctrl_c_stops_the_build_and_is_exit_130(make_space: Callable[[str], Space], engine: Engine) -> None:
    space = make_space("")
    log = space.root / ".build/logs/cpu.build.log"
    process = subprocess.Popen(
        [*AS_USUAL, sys.executable, "-m", "images", "build", "--root", str(space.root), "cpu", "--no-cache"],
        cwd=ROOT, env=os.environ | {"REGISTRY": f"{REPOSITORY}-interrupted"}, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.exists() and " torch 1/1]" in log.read_text()):
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err


def test_credentials_of_an_index_are_in_no_message(make_space: Callable[[str], Space]) -> None:
    space = make_space((Path(__file__).parent / "fa2_matrix.yaml").read_text())
    index = "http://someone:s3cr3t-canary@127.0.0.1:9/simple"
    answer = space.images("lock", UV_DEFAULT_INDEX=index, UV_HTTP_RETRIES="0")
    assert answer.status == 3
    assert "uv could not resolve" in answer.err
    assert "127.0.0.1:9" in answer.err
    assert "s3cr3t-canary" not in answer.err + answer.out
    assert not list((space.root / "dockerfiles").rglob("*.txt"))


NASTY = ("${EVIL}", "$${EVIL}", "$$${A}", "%{if true}x%{endif}", "%%{", 'a"b', "a\nb", "`x`", "$x", "\\${y}", "{}")


def test_an_image_carries_the_labels_that_were_meant(tmp_path: Path, engine: Engine) -> None:
    """Through the real bake, whose strings are templates, into a real image."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    meant = {f"label{number}": text for number, text in enumerate(NASTY)}
    tag = f"{REPOSITORY}:labels"
    target = {"labels": bake_value(meant), "tags": [tag], "output": ["type=docker"]}
    (tmp_path / "bake.json").write_text(json.dumps({"target": {"x": target}}))
    command = ["docker", "buildx", "bake", "-f", "bake.json", "x"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert engine.client.images.get(tag).labels == meant
