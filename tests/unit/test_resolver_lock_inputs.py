"""A lock knows its question: whatever an entry was decided from, changed alone, makes it stale for every reader."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from images.__main__ import main as images
from matrix import (
    DATA_DIR,
    Abi,
    Budget,
    Cuda,
    DefaultAttention,
    KnownBroken,
    Project,
    Provider,
    PythonVersion,
    Target,
    load_project,
)  # fmt: skip
from matrix.cli import run
from matrix.errors import DataError
from matrix.seal import sealed
from wheel_resolver import cli, lock
from wheel_resolver.locked import inputs
from wheel_resolver.locked.inputs import inputs_of, require_fresh

PROJECT = load_project()
LOCK = lock.read()
A10G = PROJECT.matrix.targets["a10g"]

#: Another value for each field of a target; a new field must be added here.
OTHER: dict[str, Any] = {
    "name": "other",
    "description": "something else",
    "tier": "extra",
    "python": PythonVersion(3, 13),
    "torch": Version("2.9.0"),
    "cuda": Cuda(12, 6),
    "platform": "linux_aarch64",
    "gpus": ("A10G",),
    "model": "Qwen/Qwen3-TTS-12Hz-0.6B-Base",
    "base": "devel",
    "flash_attn": SpecifierSet(">=2.8.1"),
    "source_build": True,
    "trims": (),
    "budget": None,
    "attention": DefaultAttention("sdpa", "a test wants it", "this test"),
}


def with_target(target: Target) -> Project:
    return replace(PROJECT, matrix=replace(PROJECT.matrix, targets={"a10g": target}))


def test_the_committed_lock_is_fresh() -> None:
    require_fresh(LOCK.targets.values(), PROJECT, lock.LOCK_FILE)


def test_every_field_of_a_target_has_another_value_here() -> None:
    assert set(OTHER) == {field.name for field in dataclasses.fields(Target)}


@pytest.mark.parametrize("field", OTHER)
def test_a_field_of_the_target_changed_alone_is_refused(field: str) -> None:
    changed = replace(A10G, **{field: OTHER[field]})
    assert changed != A10G
    with pytest.raises(DataError, match="a10g: decided from another matrix") as caught:
        require_fresh([LOCK.targets["a10g"]], with_target(changed), lock.LOCK_FILE)
    assert caught.value.exit_code == 2
    assert "run `make lock`" in str(caught.value)


@pytest.mark.parametrize("part", [field.name for field in dataclasses.fields(Budget)])
def test_so_is_a_part_of_its_budget(part: str) -> None:
    assert A10G.budget is not None
    changed = replace(A10G, budget=replace(A10G.budget, **{part: 1}))
    assert inputs_of(changed, with_target(changed)) != LOCK.targets["a10g"].inputs


@pytest.mark.parametrize("part", ["value", "because", "source"])
def test_and_a_part_of_its_attention(part: str) -> None:
    changed = replace(A10G, attention=replace(A10G.attention, **{part: "sdpa"}))
    assert inputs_of(changed, with_target(changed)) != LOCK.targets["a10g"].inputs


def test_what_the_matrix_allows_the_facts_and_the_rules_are_inputs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = inputs_of(A10G, PROJECT)
    matrix, compat = PROJECT.matrix, PROJECT.compat
    provider = Provider("ours", "folder", "/wheels", "b", "s")
    broken = KnownBroken(None, SpecifierSet("==2.8.3"), None, None, "b", "w", "s")
    data = {**compat.data, "gpus": {**compat.data["gpus"], "A10G": {"arch": "8.6", "driver": "460.32"}}}
    others = [
        replace(PROJECT, matrix=replace(matrix, reuse=True)),
        replace(PROJECT, matrix=replace(matrix, providers=(*matrix.providers, provider))),
        replace(PROJECT, known_broken=(*PROJECT.known_broken, broken)),
        replace(PROJECT, compat=replace(compat, data=data)),
    ]
    found = [inputs_of(A10G, project) for project in others]
    monkeypatch.setattr(inputs, "RULES_VERSION", inputs.RULES_VERSION + 1)
    assert len({before, inputs_of(A10G, PROJECT), *found}) == len(others) + 2


def test_the_inputs_are_no_part_of_what_an_image_is() -> None:
    entry = LOCK.targets["a10g"]
    assert replace(entry, inputs="0" * 64).hash() == entry.hash()
    assert replace(entry, abi=Abi.FALSE).hash() != entry.hash()


def test_another_target_changes_nothing() -> None:
    changed = replace(PROJECT.matrix.targets["t4"], description="something else")
    project = replace(PROJECT, matrix=replace(PROJECT.matrix, targets={**PROJECT.matrix.targets, "t4": changed}))
    require_fresh([LOCK.targets["a10g"]], project, lock.LOCK_FILE)
    with pytest.raises(DataError, match=r"lock\.yaml: t4: decided"):
        require_fresh(LOCK.targets.values(), project, lock.LOCK_FILE)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with our matrix, locks and generated files, in which t4 was changed and not locked."""
    root = tmp_path / "mine"
    (root / "matrix").mkdir(parents=True)
    for name in ("matrix.yaml", "lock.yaml"):
        shutil.copy(DATA_DIR / name, root / "matrix" / name)
    for name in ("dockerfiles", "serve"):
        shutil.copytree(DATA_DIR.parent / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def turn_t4_into_an_a10g(root: Path) -> None:
    """What the review of the house did: the T4's image was then built with the T4's reason for SDPA."""
    path = root / "matrix" / "matrix.yaml"
    text = path.read_text(encoding="utf-8")
    head, mark, rest = text.partition("  t4:\n")
    rest = rest.replace("gpus: [T4]", "gpus: [A10G]", 1).replace("flash_attn: null", 'flash_attn: ">=2.8.0.post2"', 1)
    path.write_text(head + mark + rest.replace("value: sdpa", "value: flash_attention_2", 1), encoding="utf-8")


@pytest.mark.parametrize(
    "command", [["plan", "t4"], ["render"], ["render", "--check"], ["build", "t4"], ["build", "cpu"], ["smoke", "t4"]]
)
def test_images_refuses_a_stale_lock_and_builds_nothing(
    checkout: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda: images(["plan", "--root", str(checkout)])) == 0
    turn_t4_into_an_a10g(checkout)
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    verb, *rest = command
    assert run(lambda: images([verb, "--root", str(checkout), *rest])) == 2
    said = capsys.readouterr().err
    assert "matrix/lock.yaml: t4: decided from another matrix" in said
    assert "run `make lock`" in said
    assert {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()} == before


def test_lock_makes_it_fresh_again(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    turn_t4_into_an_a10g(checkout)
    assert run(lambda: cli.main(["lock", "--check", "--root", str(checkout)])) == 1
    assert run(lambda: cli.main(["lock", "--offline", "--root", str(checkout)])) == 0
    capsys.readouterr()
    assert run(lambda: images(["plan", "t4", "--root", str(checkout)])) == 0
    assert "flash_attention_2" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["fetch", "export"])
def test_the_resolvers_readers_refuse_it_too(
    checkout: Path, verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    turn_t4_into_an_a10g(checkout)
    assert run(lambda: cli.main([verb, "t4", "--root", str(checkout)])) == 2
    assert "t4: decided from another matrix" in capsys.readouterr().err
    assert run(lambda: cli.main(["export", "a10g", "--root", str(checkout)])) == 0  # its entry still holds


def test_a_lock_of_an_older_wheelwright_is_stale_and_keeps_its_pins(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    path = checkout / "matrix" / "lock.yaml"
    new = ("    inputs:", "      evidence:", "      driver:", "      inspection:", "    refused:")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(sealed("".join(line for line in lines if not line.startswith(new))), encoding="utf-8")
    assert run(lambda: images(["plan", "--root", str(checkout)])) == 2
    assert "run `make lock`" in capsys.readouterr().err
    assert run(lambda: cli.main(["lock", "--offline", "--root", str(checkout)])) == 0
    assert path.read_bytes() == (DATA_DIR / "lock.yaml").read_bytes()
