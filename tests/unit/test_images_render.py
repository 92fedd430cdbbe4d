"""Rendering: committed outputs are fresh, and no value can become an instruction."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images import quoting
from images.graph import bake_file, builder_target, stack_target, toolkit_target
from images.lock import stale
from images.planned import Workspace, load_planned
from images.recipe import Recipe, base_for, lock_hash
from images.render import labels, render_all, render_builder, render_image, render_stack, render_toolkit
from matrix import Cuda, PythonVersion, Trim
from matrix.errors import DataError
from wheel_resolver import lock
from wheel_resolver.locked.inputs import inputs_of

WORKSPACE = Workspace.load()
PLANNED = {item.target.name: item for item in load_planned(WORKSPACE)}
FA2, SDPA, SOURCE = (PLANNED[name].recipe for name in ("a10g", "t4", "devel"))
TRIM = Trim("static", "torch.txt", ("torch/lib/*.a",), "why", "seen", (), (Cuda(12, 8),), "import torch")
# What people try: ends of instructions, quotes, expansions, heredocs, continuations, and anything else.
NASTY = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        ["a\nRUN evil", 'a" b', "a' ; evil", "$(evil)", "`evil`", "${EVIL}", "a\\\nb", "<<EOF", "a\r\nUSER root", "%2B"]
    ),
    st.builds(lambda a, b, c: a + b + c, st.text(max_size=8), st.sampled_from("\n\r\"'$`\\<#&;|"), st.text(max_size=8)),
)


def instructions(dockerfile: str) -> list[str]:
    """The keyword of each instruction, as the parser sees them: comments dropped, continuations joined."""
    lines = [line for line in dockerfile.split("\n") if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [line.split()[0] for line in joined.split("\n") if line.strip()]


def test_the_committed_files_are_fresh() -> None:
    assert render_all(load_planned(WORKSPACE), WORKSPACE.version) == WORKSPACE.rendered


def test_the_committed_requirements_are_fresh() -> None:
    assert stale(WORKSPACE) == {}


def test_every_generated_file_says_so() -> None:
    for path, text in WORKSPACE.rendered.items():
        assert path.endswith(".image.json") or "enerated by `python -m images render`" in text, path


@pytest.mark.parametrize("recipe", [FA2, SDPA, SOURCE], ids=lambda recipe: recipe.name)
def test_a_dockerfile_ends_with_an_unprivileged_service(recipe: Recipe) -> None:
    text = render_image(recipe)
    assert instructions(text)[-6:] == ["RUN", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "CMD"]
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]


def test_the_fa2_and_the_sdpa_image_take_one_stack_as_their_context() -> None:
    targets = graph()
    stack = stack_target(FA2.stack)
    assert FA2.stack == SDPA.stack
    assert targets["a10g"]["contexts"]["stack"] == targets["t4"]["contexts"]["stack"] == f"target:{stack}"
    assert targets[stack]["output"] == ["type=cacheonly"]
    assert instructions(render_image(SDPA))[0] == instructions(render_image(FA2))[0] == "FROM"
    assert "FROM stack AS flash-attn" in render_image(FA2)
    assert "FROM stack AS runtime" in render_image(SDPA)


def test_a_source_build_has_a_builder_and_a_toolkit_of_its_own() -> None:
    targets = graph()
    assert {builder_target(SOURCE), toolkit_target(SOURCE.stack)} <= targets.keys()
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in targets)  # bake's rule for a target's name
    assert targets[builder_target(SOURCE)]["contexts"]["cuda-devel"].startswith("docker-image://nvidia/cuda:13.0")
    assert "rm -r" not in render_builder(SOURCE).partition("AS torch")[2]  # untrimmed: a compiler needs the headers
    assert "--require-hashes" in render_builder(SOURCE).partition("pip wheel")[2]


def graph() -> dict[str, Any]:
    planned = list(PLANNED.values())
    targets: dict[str, Any] = bake_file(planned, {item.target.name: {} for item in planned})["target"]
    return targets


def test_targets_with_one_recipe_share_one_dockerfile() -> None:
    assert PLANNED["a10g"].recipe == PLANNED["h100"].recipe
    targets = graph()
    assert targets["a10g"]["dockerfile"] == targets["h100"]["dockerfile"]
    tags = [tag for target in targets.values() for tag in target.get("tags", [])]
    assert len(tags) == len(set(tags))  # no two targets fight for a tag


Render = Callable[[Recipe], str]


def stack_of(recipe: Recipe) -> str:
    return render_stack(recipe.stack)


@given(NASTY)
def test_one_instruction_in_one_out_for_a_wheel_name(text: str) -> None:
    assert FA2.wheel is not None
    check(render_image, FA2, replace(FA2, wheel=replace(FA2.wheel, name=text)), text)
    name = f"flash_attn-2.8.3{text}-cp312-cp312-linux_x86_64.whl"
    check(render_image, FA2, replace(FA2, wheel=replace(FA2.wheel, name=name)), text)


@given(NASTY, st.sampled_from(["sha256", "version"]))
def test_one_instruction_in_one_out_for_a_wheels_values(text: str, field: str) -> None:
    assert FA2.wheel is not None
    check(render_image, FA2, replace(FA2, wheel=replace(FA2.wheel, **{field: text})), text, field)


@given(NASTY, st.sampled_from(["name", "archs"]))
def test_one_instruction_in_one_out_for_a_recipes_values(text: str, field: str) -> None:
    check(render_builder, SOURCE, replace(SOURCE, **{field: text}), text, field)


@given(
    NASTY,
    st.sampled_from(["base", "name", "python", "cuda"]),
    st.sampled_from([stack_of, render_builder, render_toolkit]),
)
def test_one_instruction_in_one_out_for_a_stacks_values(text: str, field: str, render: Render) -> None:
    check(render, SOURCE, replace(SOURCE, stack=replace(SOURCE.stack, **{field: text})), text, field)


@given(NASTY, st.sampled_from(["name", "paths"]))
def test_one_instruction_in_one_out_for_a_trim(text: str, field: str) -> None:
    def trimmed(**changes: object) -> Recipe:
        trim = replace(TRIM, **changes)
        return replace(SDPA, stack=replace(SDPA.stack, trims={**SDPA.stack.trims, "torch.txt": (trim,)}))

    check(stack_of, trimmed(), trimmed(**{field: (text,) if field == "paths" else text}), text, field)


def check(render: Render, good: Recipe, changed: Recipe, text: str, field: str = "") -> None:
    """Refused with a clear error, or rendered into the very same instructions."""
    try:
        rendered = render(changed)
    except DataError as error:
        assert error.remedy  # noqa: PT017 - either outcome is right; an error must say what to do
        return
    assert instructions(rendered) == instructions(render(good))
    assert text in rendered or field in {"version", "cuda", "python"}  # not all stand in an instruction of each file


@given(NASTY, NASTY)
def test_free_text_goes_through_a_serializer(description: str, because: str) -> None:
    item = PLANNED["a10g"]
    facts = {**item.facts, "attention": {"default": "sdpa", "because": because}}
    wanted = labels(facts, "1", description)
    bake = json.loads(json.dumps(bake_file([item], {"a10g": wanted})))
    found = {key: unescape(value) for key, value in bake["target"]["a10g"]["labels"].items()}
    assert found == wanted
    assert found["org.opencontainers.image.description"] == description
    assert json.loads(found["wheelwright.attention"])["because"] == because


def unescape(value: str) -> str:
    """What HCL reads: the doubled sign before a brace is one sign (tests/image proves it with the real bake)."""
    assert not re.search(r"(?<![$%])(?:\$\$)*\$\{|(?<![$%])(?:%%)*%\{", value)
    return re.sub(r"([$%])\1(?=\{)", r"\1", value)


def test_a_base_prefers_the_suite_whose_own_python_it_is() -> None:
    compat = WORKSPACE.project.compat
    assert base_for(PythonVersion(3, 11), compat) == ("python:3.11-slim-bookworm", "bookworm")
    assert base_for(PythonVersion(3, 13), compat) == ("python:3.13-slim-trixie", "trixie")
    assert base_for(PythonVersion(3, 12), compat) == ("python:3.12-slim-bookworm", "bookworm")
    with pytest.raises(DataError, match=r"no base image has Python 3\.8"):
        base_for(PythonVersion(3, 8), compat)


def test_the_lock_hash_moves_with_its_own_recipe_only() -> None:
    item = PLANNED["a10g"]
    before, stack = lock_hash(item.recipe, item.locked), item.recipe.stack

    def changed(**changes: object) -> str:
        return lock_hash(replace(item.recipe, stack=replace(stack, **changes)), item.locked)

    tools = replace(stack.lock, lists={**stack.lock.lists, "build.txt": "pip==1", "toolkit.txt": "nvcc==1"})
    assert changed(lock=tools) == before  # a builder's tools are not in it
    assert changed(base="python:3.12-slim-bookworm@sha256:" + "0" * 64) != before
    assert changed(trims={"torch.txt": (TRIM,)}) != before
    assert lock_hash(item.recipe, replace(item.locked, reason="other")) != before


def test_a_base_digest_stands_in_the_from_line() -> None:
    base = "python:3.12-slim-bookworm@sha256:" + "a" * 64
    assert f"FROM {base} AS os" in render_stack(replace(SDPA.stack, base=base))


def test_a_trim_happens_in_the_layer_that_installs_what_it_removes() -> None:
    assert TRIM.list == "torch.txt"
    layers = render_stack(replace(SDPA.stack, trims={**SDPA.stack.trims, "torch.txt": (TRIM,)})).split("\nRUN ")
    (layer,) = (layer for layer in layers if "trim static" in layer)
    assert "--requirement /run/locks/torch.txt" in layer
    assert r"-path '*/torch/lib/*.a'" in layer


def test_targets_of_one_stack_must_agree_on_its_trims(tmp_path: Path) -> None:
    shutil.copytree(WORKSPACE.root / "dockerfiles/locks", tmp_path / "dockerfiles/locks")
    (tmp_path / "serve").mkdir()
    for name in ("requirements.in", "requirements-gpu.in", "overrides.txt"):
        shutil.copy(WORKSPACE.root / "serve" / name, tmp_path / "serve" / name)
    (tmp_path / "matrix").mkdir()
    own = WORKSPACE.root / "matrix"
    (tmp_path / "matrix/matrix.yaml").write_text((own / "matrix.yaml").read_text())
    workspace = Workspace.load(tmp_path)
    stack = PLANNED["t4"].target
    matrix = replace(
        workspace.project.matrix, targets={**workspace.project.matrix.targets, "t4": replace(stack, trims=("static",))}
    )
    project = replace(workspace.project, matrix=matrix, trims={**workspace.project.trims, "static": TRIM})
    fresh = {
        name: replace(entry, inputs=inputs_of(matrix.targets[name], project))
        for name, entry in lock.read().targets.items()
    }
    lock.write(lock.Lock(fresh), workspace.lock_file)
    with pytest.raises(DataError, match=r"target t4 shares the stack .* but not its trims"):
        load_planned(replace(workspace, project=project))


def test_image_json_of_a_fallback_does_not_promise_flash_attention() -> None:
    facts = PLANNED["t4"].facts
    assert facts["flash_attn"] is None
    assert facts["wheel_sass"] == []
    assert facts["attention"]["default"] == "sdpa"
    assert PLANNED["a10g"].facts["wheel_sass"] == ["sm_80", "sm_90", "sm_100", "sm_120"]


def test_bake_values_escape_templates_and_nothing_else() -> None:
    assert quoting.bake_value({"a": ["${X}", "%{if}", "$x %y"], "b": 1}) == {"a": ["$${X}", "%%{if}", "$x %y"], "b": 1}


def test_the_lock_of_another_torch_is_refused(tmp_path: Path) -> None:
    (tmp_path / "matrix").mkdir()
    own = WORKSPACE.root / "matrix"
    text = (own / "matrix.yaml").read_text().replace('torch: "2.9.1"', 'torch: "2.9.0"', 1)
    (tmp_path / "matrix/matrix.yaml").write_text(text)
    (tmp_path / "matrix/lock.yaml").write_text((own / "lock.yaml").read_text())
    with pytest.raises(DataError, match=r"matrix/lock\.yaml: a10g: decided from another matrix") as caught:
        load_planned(Workspace.load(tmp_path))
    assert "run `make lock`" in (caught.value.remedy or "")
