"""Rendering: committed outputs are fresh, and no value can become an instruction."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images import quoting
from images.lock import stale
from images.planned import Planned, Workspace, load_planned
from images.recipe import Recipe, base_for, lock_hash
from images.render import bake_file, labels, render_all, render_dockerfile
from matrix import PythonVersion
from matrix.errors import DataError

WORKSPACE = Workspace.load()
PLANNED = {item.target.name: item for item in load_planned(WORKSPACE)}
FA2, SDPA, SOURCE = (PLANNED[name].recipe for name in ("a10g", "t4", "devel"))
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
    assert stale(WORKSPACE) == []


def test_every_generated_file_says_so() -> None:
    for path, text in WORKSPACE.rendered.items():
        assert path.endswith(".image.json") or "enerated by `python -m images render`" in text, path


@pytest.mark.parametrize("recipe", [FA2, SDPA, SOURCE], ids=lambda recipe: recipe.name)
def test_a_dockerfile_ends_with_an_unprivileged_service(recipe: Recipe) -> None:
    text = render_dockerfile(recipe)
    assert instructions(text)[-6:] == ["COPY", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "CMD"]
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]


def test_the_fa2_and_the_sdpa_image_share_every_layer_below_flash_attn() -> None:
    def below(recipe: Recipe) -> str:
        return render_dockerfile(recipe).partition("AS os")[2].partition("\n\nFROM model AS")[0]

    assert FA2.stack == SDPA.stack
    assert below(FA2) == below(SDPA)


def test_targets_with_one_recipe_share_one_dockerfile() -> None:
    assert PLANNED["a10g"].recipe == PLANNED["h100"].recipe
    targets = bake_file(list(PLANNED.values()), "0")["target"]
    assert targets["a10g"]["dockerfile"] == targets["h100"]["dockerfile"]
    tags = [tag for target in targets.values() for tag in target["tags"]]
    assert len(tags) == len(set(tags))  # no two targets fight for a tag


@given(NASTY)
def test_one_instruction_in_one_out_for_a_wheel_name(text: str) -> None:
    assert FA2.wheel is not None
    check(replace(FA2, wheel=replace(FA2.wheel, name=text)), instructions(render_dockerfile(FA2)), text)
    check(
        replace(FA2, wheel=replace(FA2.wheel, name=f"flash_attn-2.8.3{text}-cp312-cp312-linux_x86_64.whl")),
        instructions(render_dockerfile(FA2)),
        text,
    )


@given(NASTY, st.sampled_from(["sha256", "version"]))
def test_one_instruction_in_one_out_for_a_wheels_values(text: str, field: str) -> None:
    assert FA2.wheel is not None
    check(replace(FA2, wheel=replace(FA2.wheel, **{field: text})), instructions(render_dockerfile(FA2)), text, field)


@given(NASTY, st.sampled_from(["base", "stack", "name", "python", "cuda", "cuda_devel", "archs"]))
def test_one_instruction_in_one_out_for_a_recipes_values(text: str, field: str) -> None:
    check(replace(SOURCE, **{field: text}), instructions(render_dockerfile(SOURCE)), text, field)


def check(recipe: Recipe, wanted: list[str], text: str, field: str = "") -> None:
    """Refused with a clear error, or rendered into the very same instructions."""
    try:
        rendered = render_dockerfile(recipe)
    except DataError as error:
        assert error.remedy  # noqa: PT017 - either outcome is right; an error must say what to do
        return
    assert instructions(rendered) == wanted
    assert text in rendered or field == "version"  # the version of a wheel stands in no instruction


@given(NASTY, NASTY)
def test_free_text_goes_through_a_serializer(description: str, because: str) -> None:
    item = PLANNED["a10g"]
    facts = {**item.facts, "attention": {"default": "sdpa", "because": because}}
    bake = json.loads(json.dumps(bake_file([replace_target(item, description, facts)], "1")))
    found = {key: unescape(value) for key, value in bake["target"]["a10g"]["labels"].items()}
    assert found == labels(facts, "1", description)
    assert found["org.opencontainers.image.description"] == description
    assert json.loads(found["wheelwright.attention"])["because"] == because


def replace_target(item: Planned, description: str, facts: dict[str, object]) -> Planned:
    return replace(item, target=replace(item.target, description=description), facts=facts)


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
    before = lock_hash(item.recipe, item.locked)
    other = replace(item.recipe.stack_lock, lists={**item.recipe.stack_lock.lists, "build.txt": "pip==1"})
    assert lock_hash(replace(item.recipe, stack_lock=other), item.locked) == before  # a builder's tools are not in it
    assert lock_hash(replace(item.recipe, base="python:3.12-slim-bookworm@sha256:" + "0" * 64), item.locked) != before
    assert lock_hash(item.recipe, replace(item.locked, reason="other")) != before


def test_a_base_digest_stands_in_the_from_line() -> None:
    base = "python:3.12-slim-bookworm@sha256:" + "a" * 64
    assert f"FROM {base} AS os" in render_dockerfile(replace(SDPA, base=base))


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
    with pytest.raises(DataError, match=r"target a10g is locked for .* torch 2\.9\.1.*the matrix says .*2\.9\.0"):
        load_planned(Workspace.load(tmp_path))
