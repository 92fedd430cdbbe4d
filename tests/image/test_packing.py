"""How the engine keeps what was built."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import oci_archive
import pytest
from space import REPOSITORY, Space

from images.engine import Engine

pytestmark = pytest.mark.engine


def test_our_layers_are_zstd_and_the_stack_is_no_image_of_its_own(
    engine: Engine, make_space: Callable[[str], Space], tmp_path: Path
) -> None:
    space = make_space("")
    answer = space.images("build", "cpu", "--no-cache", "--json")  # over its budget or not
    assert answer.json["targets"][0]["status"] == "built", answer.out
    assert "moby-dangling" not in (space.root / ".build/logs/cpu.build.log").read_text()
    if not engine.containerd_store:  # the classic store keeps layers unpacked, and that is said
        assert answer.json["targets"][0]["weight"]["packed"] is None
        return
    archive = tmp_path / "cpu.tar"
    subprocess.run(["docker", "image", "save", "--output", str(archive), f"{REPOSITORY}:cpu"], check=True)
    _, *ours = oci_archive.read_layers(archive)  # the base stays as it was pulled
    assert {layer.media_type.rpartition("+")[2] for layer in ours} == {"zstd"}
