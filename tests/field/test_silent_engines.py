"""Engines that were named and give no answer, by the real docker CLI: no other is taken or installed in their place."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from images.address import Address
from images.baking import _in_a_registry
from images.bases import BaseProvider, UnavailableError
from images.engine import Engine
from images.planned import Workspace, load_planned
from images.requirements_in import read_requirements
from matrix.errors import DataError
from tests.running import Done, tool

ROOT = Path(__file__).resolve().parents[2]
FAR = "tcp://127.0.0.1:1"


@pytest.fixture
def docker(no_engine: Callable[[str], None]) -> None:
    """The real CLI; no engine needs to answer."""
    if shutil.which("docker") is None:
        no_engine("there is no docker CLI")


@pytest.fixture
def config(docker: None, tmp_path: Path) -> Path:
    """A docker CLI's configuration with the context ``far``."""
    folder = tmp_path / "config"
    create = ["docker", "--config", str(folder), "context", "create", "far", "--docker", f"host={FAR}"]
    subprocess.run(create, check=True, capture_output=True)
    return folder


def images(config: Path, *arguments: str, **environment: str) -> Done:
    cache = str(config.parent / "cache")
    named = {"DOCKER_HOST": "", "DOCKER_CONFIG": str(config), "WHEELWRIGHT_CACHE": cache}
    return tool(ROOT, "images", *arguments, **named | environment)


@pytest.mark.engine
@pytest.mark.parametrize("action", ["status", "ensure"])
@pytest.mark.parametrize("how", ["DOCKER_HOST", "DOCKER_CONTEXT", "BUILDX_BUILDER", "context use"])
def test_an_engine_that_was_named_and_is_silent_is_not_installed_here(how: str, action: str, config: Path) -> None:
    named = {how: FAR if how == "DOCKER_HOST" else "far"}
    if how == "context use":
        named = {}
        subprocess.run(["docker", "--config", str(config), "context", "use", "far"], check=True, capture_output=True)
    done = images(config, "engine", action, "--yes", **named)
    assert done.status == 5, done.said
    assert f"no engine answers at {FAR}" in done.err
    assert "make engine" not in done.err


@pytest.mark.engine
def test_a_silent_builder_is_named_and_no_other_engine_builds(config: Path) -> None:
    done = images(config, "build", "cpu", "--builder", "far")
    assert done.status == 5, done.said
    assert f"no engine answers at {FAR}" in done.err
    assert "builder far names it" in done.err
    assert "make engine" not in done.err


@pytest.mark.engine
def test_a_context_that_is_not_there_is_no_reason_to_take_another(config: Path) -> None:
    done = images(config, "engine", "status", DOCKER_CONTEXT="elsewhere")
    assert done.status == 2, done.said
    assert "no context 'elsewhere'" in done.err


def test_a_base_is_not_bootstrapped_for_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace.load()
    (item,) = load_planned(workspace, ["cpu"])
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    client: Any = None
    engine = Engine(client, Address("unix:///x"), "26.1.5", "0.13", gpu_runtime=False, containerd_store=True)
    stack = replace(item.recipe.stack, platform="linux_aarch64")
    with pytest.raises(UnavailableError, match=r"for linux_aarch64.*\(for x86_64\)"):
        BaseProvider(engine, workspace.project.compat, "bootstrap").provide(stack)


def test_a_list_that_is_not_there_may_be_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"overrides\.txt: there is no such file") as caught:
        read_requirements(tmp_path / "overrides.txt")
    assert "an empty overrides.txt asks for nothing" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("tag", "pushed"),
    [
        ("ghcr.io/me/speech:cpu", True),
        ("localhost:5000/speech:cpu", True),
        ("wheelwright:cpu", False),
        ("me/speech:cpu", False),
    ],
)
def test_a_tag_of_a_registry_is_known_by_its_host(tag: str, pushed: bool) -> None:
    assert _in_a_registry(tag) is pushed
