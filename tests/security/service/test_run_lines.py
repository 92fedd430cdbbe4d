"""Every line of ours that starts a container gives it an init, which reaps what loses its parent."""

from __future__ import annotations

import re
import subprocess

from images.container import TrackedContainer
from tests.serve.conftest import ROOT

RUN = re.compile(r"\b(?:docker|podman|nerdctl) (?:container )?run\b(?P<options>[^`\n]*)")


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if not name.startswith("tests/") and (ROOT / name).is_file():
            yield name, (ROOT / name).read_text(encoding="utf-8", errors="replace")


def test_every_run_line_has_an_init():
    lines = [(name, found[0]) for name, text in tracked() for found in RUN.finditer(text)]
    assert len(lines) >= 9
    assert [line for line in lines if "--init" not in line[1]] == []


def test_every_compose_file_has_an_init():
    composed = [(name, text) for name, text in tracked() if re.search(r"^services:", text, re.MULTILINE)]
    for name, text in composed:
        assert text.count("image:") <= text.count("init: true"), name


def test_the_smoke_test_runs_containers_so(tmp_path):
    class Engine:
        gpu_runtime = False

    container = TrackedContainer(Engine(), "image", log=tmp_path / "log")
    assert container._arguments["init"] is True
