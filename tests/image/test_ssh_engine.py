"""An engine of another machine, reached by ssh as docs/scale.md says: images are built and smoke-tested there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker.errors import ImageNotFound
from small import SmallSpace
from space import Space
from sshd import Machine, cannot_start, machine

from images.engine import Engine

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def _possible(no_engine: Callable[[str], None]) -> None:
    if reason := cannot_start():
        no_engine(reason)


@pytest.fixture
def here(engine: Engine, tmp_path: Path) -> Iterator[Machine]:
    """This machine, behind ssh."""
    with machine(tmp_path / "ssh", engine.host) as found:
        yield found


def test_an_image_is_built_in_the_engine_behind_ssh_and_nowhere_else(
    small: SmallSpace, engine: Engine, tmp_path: Path
) -> None:
    with machine(tmp_path / "ssh", small.engine.host) as far:
        again = ["docker", "--config", str(small.config), "context", "update", "second", "--docker", f"host={far.url}"]
        subprocess.run(again, check=True, capture_output=True, env=os.environ | far.environment)
        with small.serving():
            answer = small.build(**far.environment)
    (target,) = answer.json["targets"]
    assert answer.status == 0, answer.out
    assert target["status"] == "built"
    assert f"at {far.url}" in answer.err
    assert small.engine.has(target["tag"])
    with pytest.raises(ImageNotFound):
        engine.client.images.get(target["tag"])


def test_the_real_image_is_built_and_smoke_tested_through_ssh(
    here: Machine, make_space: Callable[[str], Space]
) -> None:
    """The service's port is on the other machine's loopback."""
    answer = make_space("").images("build", "cpu", "--smoke", "--json", DOCKER_HOST=here.url, **here.environment)
    assert answer.status == 0, answer.out
    (target,) = answer.json["targets"]
    assert target["smoke"]["verdict"] == "passed"


@pytest.mark.parametrize("how", ["DOCKER_HOST", "DOCKER_CONTEXT"])
def test_each_way_to_name_it_is_taken(
    how: str, here: Machine, make_space: Callable[[str], Space], tmp_path: Path
) -> None:
    environment = {**here.environment, "DOCKER_CONFIG": str(tmp_path / "docker")}
    create = ["docker", "context", "create", "far", "--docker", f"host={here.url}"]
    subprocess.run(create, check=True, capture_output=True, env=os.environ | environment)
    named = {"DOCKER_HOST": here.url} if how == "DOCKER_HOST" else {"DOCKER_CONTEXT": "far"}
    answer = make_space("").python("images", "engine", "status", **environment, **named)
    assert answer.status == 0, answer.err
    assert f"at {here.url}" in answer.out


def test_a_host_that_is_not_known_is_refused_with_a_remedy_for_that_machine(
    here: Machine, make_space: Callable[[str], Space]
) -> None:
    here.known_hosts.write_text("")
    for verb in ("status", "ensure"):
        answer = make_space("").python("images", "engine", verb, DOCKER_HOST=here.url, **here.environment)
        assert answer.status == 5
        assert f"no engine answers at {here.url}: " in answer.err
        assert "Host key verification failed" in answer.err  # what ssh itself says
        assert "see what `ssh big.example docker version` says" in answer.err
        assert "change or unset DOCKER_HOST" in answer.err
        assert "make engine" not in answer.err
