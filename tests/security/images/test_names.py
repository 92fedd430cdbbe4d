"""What a matrix names may be no name that the build graph makes, nor one that it cannot hold."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml
from small import SmallSpace
from space import Space

from images.graph import HOST
from images.planned import Workspace, load_planned
from images.render import render_all
from matrix import DATA_DIR, load_project
from matrix.errors import DataError
from matrix.schema import matrix_schema
from matrix.shapes import GENERATED, TARGET, TIERS

MATRIX = (DATA_DIR / "matrix.yaml").read_text(encoding="utf-8")


def generated() -> list[str]:
    """Every name that the build graph generates, in addition to the targets of the matrix."""
    workspace = Workspace.load()
    graph = json.loads(render_all(load_planned(workspace), "0")["dockerfiles/docker-bake.json"])
    assert len(graph["target"]) > len(workspace.project.matrix.targets) + 3
    return sorted(({*graph["target"], *graph["group"]}) - set(workspace.project.matrix.targets))


def test_each_generated_name_is_one_that_no_target_may_have() -> None:
    """Found in the graph itself, so that a new kind of generated target cannot be forgotten."""
    assert not [name for name in generated() if re.search(TARGET.pattern, name)]
    assert {name for name in generated() if name != HOST} >= set(TIERS)
    assert {name.partition("-")[0] for name in generated()} >= set(GENERATED)


@pytest.mark.parametrize(
    "name",
    [
        *generated(), "t.4", "a.b.c", "stack-", "stack-x", "builder-mine", "toolkit-", "_x", "-x", "T4", "t4*",
        "x" * 64, "t4\\n", "tä", "",
    ],
)  # fmt: skip
def test_such_a_target_is_refused_with_its_line_and_a_remedy(tmp_path: Path, name: str) -> None:
    text = MATRIX.replace("\n  t4:\n", f'\n  "{name}":\n')
    path = tmp_path / "matrix.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        load_project(path)
    line = MATRIX[: MATRIX.index("\n  t4:\n")].count("\n") + 2
    assert f"matrix.yaml:{line} targets." in caught.value.what
    expected = (
        ("a control character", "without that") if "\\n" in name else ("is not a name of a target", "rename the target")
    )
    assert expected[0] in caught.value.what
    assert expected[1] in (caught.value.remedy or "")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), json.loads(matrix_schema()))


@pytest.mark.parametrize("name", ["defaults", "stack", "stacks-1", "builder", "0", "a_b-c", "sources", "x" * 63])
def test_such_a_target_is_fine(tmp_path: Path, name: str) -> None:
    text = MATRIX.replace("\n  t4:\n", f'\n  "{name}":\n')
    path = tmp_path / "matrix.yaml"
    path.write_text(text)
    assert name in load_project(path).matrix.targets
    jsonschema.validate(yaml.safe_load(text), json.loads(matrix_schema()))


@pytest.mark.parametrize("model", ["../..", "a/..", "./x", "a/.hidden", "-a/b", "a/b..c", "a/b--c", "a/b.", "a/ü"])
def test_a_model_that_the_hub_could_not_have_is_refused(tmp_path: Path, model: str) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text(MATRIX.replace("model: Qwen/Qwen3-TTS-12Hz-1.7B-Base", f'model: "{model}"', 1))
    with pytest.raises(DataError, match="is not a hub id"):
        load_project(path)


@pytest.mark.parametrize("pattern", ["*", "?", "*/x", ".", ".."])
def test_a_trim_names_the_folder_that_it_is_about(tmp_path: Path, pattern: str) -> None:
    from matrix.trims import load_trims  # noqa: PLC0415

    text = (DATA_DIR / "trims.yaml").read_text().replace("- torch/test\n", f'- "{pattern}"\n')
    (tmp_path / "trims.yaml").write_text(text)
    with pytest.raises(DataError, match="is not a path below site-packages"):
        load_trims(tmp_path / "trims.yaml")


def test_an_alias_is_no_tag_of_another_target(make_space: Callable[[str], Space]) -> None:
    space = make_space("")
    path = space.root / "matrix/matrix.yaml"
    text = path.read_text()
    assert "latest: a10g" in text
    path.write_text(text.replace("latest: a10g", 'latest: a10g\n  "py3.11-torch2.13.0-cpu-sdpa": a10g'))
    answer = space.images("render")
    assert answer.status == 2
    assert "py3.11-torch2.13.0-cpu-sdpa would be a tag of a10g and of cpu" in answer.err
    assert "choose another alias" in answer.err


@pytest.mark.engine
def test_bake_takes_each_name_that_a_matrix_may_have(make_space: Callable[[str], Space]) -> None:
    """Each is the one target that it names, and none of another."""
    space = make_space("")
    path = space.root / "matrix/matrix.yaml"
    content = yaml.safe_load(path.read_text())
    names = ["staging", "stack", "builder", "defaults", "0", "a_b-c", "target", "group", "x" * 63]
    content["targets"] |= dict.fromkeys(names, content["targets"]["cpu"])
    path.write_text(json.dumps(content))
    space.lock()
    assert space.images("render").status == 0
    for name in names:
        command = ["docker", "buildx", "bake", "--file", "dockerfiles/docker-bake.json", "--print", name]
        done = subprocess.run(command, cwd=space.root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        printed = json.loads(done.stdout)
        assert printed["group"]["default"]["targets"] == [name]
        assert printed["target"][name]["args"] == {"TARGET": name}


@pytest.mark.engine
def test_a_target_named_as_what_runs_wait_for_does_not_wait_for_itself(small: SmallSpace) -> None:
    path = small.space.root / "matrix/matrix.yaml"
    content = yaml.safe_load(path.read_text())
    content["targets"]["staging"] = content["targets"]["cpu"]
    path.write_text(json.dumps(content))
    small.space.lock()
    assert small.space.images("render").status == 0
    with small.serving():
        build = small.start_build(target="staging")
        try:
            assert build.wait(timeout=180) == 0, small.said("staging", "err").read_text()[-2000:]
        finally:
            build.kill()
