"""``watch`` and ``lock --check --refresh``: a local GitHub moves, and they say what that means for us."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from matrix import Provider, load_project
from matrix.cli import run
from wheel_resolver import cli, lock
from wheel_resolver.core.names import WheelName
from wheel_resolver.locked.watch_cli import shipped_catalogue
from wheel_resolver.locked.watching import compare
from wheel_resolver.upstream.catalogue import Listed
from wheel_resolver.upstream.same_name import Superseded

LOCKED = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
SCHEMA = {
    "type": "object",
    "required": ["schema", "attention", "catalogue", "snapshot", "changes"],
    "additionalProperties": False,
    "properties": {
        "schema": {"const": 1},
        "attention": {"type": "boolean"},
        "catalogue": {"required": ["source", "as_of", "wheels"], "maxProperties": 3},
        "snapshot": {"required": ["as_of", "wheels"], "maxProperties": 2},
        "changes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["kind", "attention", "subject", "text", "command", "cells"],
                "maxProperties": 6,
                "properties": {"text": {"type": "string", "minLength": 10}, "cells": {"type": "array"}},
            },
        },
    },
}

Rows = list[dict[str, Any]]


@pytest.fixture
def watch(
    upstream: Any, known: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, dict[str, Any]]]:
    """Watch an upstream that was changed; gives the changes by kind (the first of each)."""
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))

    def watch(change: Callable[[Rows], None], status: int, *options: str) -> dict[str, dict[str, Any]]:
        rows = deepcopy(known)
        change(rows)
        upstream.releases(1, rows)
        assert run(lambda: cli.main(["watch", "--json", *options])) == status
        data = json.loads(capsys.readouterr().out)
        jsonschema.validate(data, SCHEMA)
        assert data["attention"] is (status == 1)
        return {each["kind"]: each for each in reversed(data["changes"])}

    return watch


def asset(rows: Rows, name: str = LOCKED) -> dict[str, Any]:
    return next(each for row in rows for each in row["assets"] if each["name"] == name)


def add(name: str, **change: Any) -> Callable[[Rows], None]:
    new = {"name": name, "state": "uploaded", "size": 9, "digest": "sha256:" + "c" * 64, **change}
    return lambda rows: rows.insert(0, {"tag_name": "v9", "assets": [new]})


def test_where_nothing_moved_nothing_is_said(watch: Any, upstream: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(lambda rows: None, 0) == {}
    assert run(lambda: cli.main(["watch"])) == 0
    assert capsys.readouterr().out == "nothing changed for us\n"


def test_a_locked_asset_that_vanished(watch: Any) -> None:
    def remove(rows: Rows) -> None:
        for row in rows:
            row["assets"] = [each for each in row["assets"] if each["name"] != LOCKED]

    found = watch(remove, 1)
    assert found["vanished"]["text"] == f"the locked asset {LOCKED} vanished from Dao-AILab/flash-attention"
    assert found["vanished"]["subject"] == "a10g, h100"
    assert found["vanished"]["command"] == "python -m wheel_resolver lock --upgrade a10g h100"


def test_a_digest_that_changed(watch: Any) -> None:
    found = watch(lambda rows: asset(rows).update(digest="sha256:" + "d" * 64), 1)
    assert found["digest"]["text"].startswith(f"the digest of {LOCKED} changed: dddd")
    assert "4e2f9e39" in found["digest"]["text"]
    assert LOCKED in found["uploads"]["text"]
    assert found["uploads"]["attention"] is False


@pytest.mark.parametrize("first", [True, False])
def test_two_digests_of_one_name_are_told_and_the_rest_is_compared(watch: Any, first: bool) -> None:
    """The other verbs stop at them (exit 2)."""

    def change(rows: Rows) -> None:
        other = {**asset(rows), "digest": "sha256:" + "d" * 64}
        rows.insert(0 if first else len(rows), {"tag_name": "v1", "assets": [other]})
        add(LOCKED.replace("torch2.9", "torch2.11"))(rows)

    found = watch(change, 1)
    assert found["conflict"]["subject"] == "a10g, h100"
    assert f"{LOCKED} has 2 digests: " in found["conflict"]["text"]
    assert f"{'d' * 64} on tag v1" in found["conflict"]["text"]
    assert set(found) == {"conflict", "movable", "uploads"}  # the locked digest is still one of them
    assert "1 wheels more, 0 gone" in found["uploads"]["text"]


def test_two_digests_that_are_both_new(watch: Any) -> None:
    def change(rows: Rows) -> None:
        asset(rows)["digest"] = "sha256:" + "c" * 64
        rows.append({"tag_name": "v1", "assets": [{**asset(rows), "digest": "sha256:" + "d" * 64}]})
        for digest in ("e", "f"):
            add(LOCKED.replace("torch2.9", "torch2.11"), digest="sha256:" + digest * 64)(rows)

    found = watch(change, 1)
    assert set(found) == {"conflict", "digest", "uploads"}  # a disputed new wheel moves no cell


def test_a_better_wheel_for_a_target(watch: Any) -> None:
    newer = LOCKED.replace("2.8.3", "2.8.3.post2")
    found = watch(add(newer), 1)
    assert found["better"]["text"] == f"a better wheel for a10g: {newer} (flash-attn 2.8.3.post2 instead of 2.8.3)"
    assert found["better"]["command"] == "python -m wheel_resolver lock --upgrade a10g"
    assert "torch 2.9 cells get a newer flash-attn: Python 3.12; CUDA 12.6, 12.8" in found["newer"]["text"]


def test_cells_that_can_move_to_flash_attention(watch: Any) -> None:
    name = LOCKED.replace("torch2.9", "torch2.11").replace("cp312", "cp313")
    found = watch(add(name), 1)
    text = found["movable"]["text"]
    assert text.startswith("torch 2.11 cells can move from sdpa to flash_attention_2: Python 3.13; CUDA 12.6")
    assert text.endswith(name)
    assert "T4" not in text
    assert {cell["python"] for cell in found["movable"]["cells"]} == {"3.13"}


def test_a_target_that_can_move(watch: Any) -> None:
    """The target devel is compiled, because no wheel for torch 2.13 and CUDA 13 was known."""
    name = "flash_attn-2.8.3+cu13torch2.13cxx11abiTRUE-cp313-cp313-linux_x86_64.whl"
    found = watch(add(name), 1)
    assert found["movable"]["subject"] == "devel"
    assert "target devel can move from being compiled to flash_attention_2 with a wheel" in found["movable"]["text"]


def test_cells_that_fall_back(watch: Any) -> None:
    def remove(rows: Rows) -> None:
        for row in rows:
            row["assets"] = [each for each in row["assets"] if "torch2.10" not in each["name"]]

    found = watch(remove, 1)
    assert "torch 2.10 cells fall back from flash_attention_2 to sdpa" in found["fallback"]["text"]


def test_an_upload_that_means_nothing_to_us_needs_no_attention(watch: Any) -> None:
    found = watch(add(LOCKED.replace("linux_x86_64", "win_amd64").replace("2.8.3", "2.8.4")), 0)
    assert list(found) == ["uploads"]
    assert "1 wheels more, 0 gone" in found["uploads"]["text"]


def test_a_target_that_could_not_be_locked_today(watch: Any) -> None:
    def strip(rows: Rows) -> None:
        for row in rows:
            for each in row["assets"]:
                each["digest"] = None

    found = watch(strip, 1)
    assert "no wheel that is listed now can be locked for a10g: target a10g: each of the" in found["unfit"]["text"]


def test_another_place_with_the_same_digest(watch: Any, upstream: Any) -> None:
    found = watch(lambda rows: asset(rows).update(browser_download_url=f"{upstream.url}/elsewhere"), 0)
    assert found["place"]["text"].endswith("/elsewhere now, with the same digest")


def test_the_network_is_demanded(
    upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path))
    upstream.releases(1, {}, status=500)
    assert run(lambda: cli.main(["watch"])) == 3
    assert run(lambda: cli.main(["lock", "--check", "--refresh"])) == 3


def test_lock_check_asks_upstream_only_when_told_to(
    upstream: Any,
    known: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path))
    rows = deepcopy(known)
    add(LOCKED.replace("2.8.3", "2.8.3.post2"))(rows)
    upstream.releases(1, rows)
    assert run(lambda: cli.main(["lock", "--check"])) == 0
    assert upstream.asked == []
    capsys.readouterr()
    assert run(lambda: cli.main(["lock", "--check", "--refresh"])) == 1
    assert "upstream:\n! better     a better wheel for a10g" in capsys.readouterr().out
    assert run(lambda: cli.main(["lock", "--check", "--refresh", "--json"])) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["changed"], data["written"]) == (False, False)
    assert {each["kind"] for each in data["upstream"]} == {"better", "newer", "uploads"}
    upstream.releases(1, known)
    assert run(lambda: cli.main(["lock", "--check", "--refresh"])) == 0


def test_only_the_named_targets_are_upgraded(
    upstream: Any,
    known: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "lock.yaml"
    verb = ["lock", "--output", str(path)]
    assert run(lambda: cli.main([*verb, "--offline"])) == 0
    capsys.readouterr()
    rows = deepcopy(known)
    add(LOCKED.replace("2.8.3", "2.8.3.post2"))(rows)
    upstream.releases(1, rows)
    assert run(lambda: cli.main([*verb, "--refresh", "--upgrade", "h100", "t4", "--json"])) == 0
    wheels = {name: row["wheel"] for name, row in json.loads(capsys.readouterr().out)["targets"].items()}
    assert (wheels["a10g"], wheels["h100"]) == (LOCKED, LOCKED.replace("2.8.3", "2.8.3.post2"))
    assert run(lambda: cli.main([*verb, "--upgrade", "h10"])) == 2
    assert "perhaps you meant 'h100'" in capsys.readouterr().err
    assert run(lambda: cli.main([*verb, "--upgrade", "--json"])) == 0
    assert {row["wheel"] for row in json.loads(capsys.readouterr().out)["targets"].values()} == {None, wheels["h100"]}


def test_a_provider_that_was_not_reached_makes_no_asset_vanish() -> None:
    project = load_project()
    wheel = lock.read().targets["a10g"].wheel
    assert wheel is not None
    foreign = replace(lock.read().targets["a10g"], wheel=replace(wheel, provider="community"))
    before = shipped_catalogue(project.compat)
    silent = Listed("community", "none", "", stale=True, wheels=0)
    now = replace(before, providers=(*before.providers, silent))
    (change,) = [each for each in compare(project, lock.Lock({"a10g": foreign}), before, now) if each.subject == "a10g"]
    assert (change.kind, change.attention) == ("unreached", True)
    assert "community could not be listed" in change.text


def test_a_locked_wheel_that_its_provider_built_anew_is_told() -> None:
    """It still stands where it was locked: nobody has to act, and the digest of its name did not change."""
    project = load_project()
    wheel = lock.read().targets["a10g"].wheel
    assert wheel is not None
    foreign = replace(lock.read().targets["a10g"], wheel=replace(wheel, provider="community"))
    before = shipped_catalogue(project.compat)
    old = next(each for each in before.wheels if each.filename == wheel.name)
    old = replace(old, provider="community", sha256=wheel.sha256)
    new = replace(old, tag="v0.9", sha256="d" * 64)
    now = replace(before, wheels=(*before.wheels, new), superseded=(Superseded(old, new),))
    changes = [each for each in compare(project, lock.Lock({"a10g": foreign}), before, now) if each.subject == "a10g"]
    (told,) = [each for each in changes if each.kind != "better"]
    assert (told.kind, told.attention) == ("superseded", False)
    assert "built anew on tag v0.9" in told.text
    assert f"sha256 {'d' * 64}" in told.text


def test_the_wheels_of_other_providers_are_no_news() -> None:
    """The snapshot knows the official ones only: what it cannot remember must not be news each week."""
    project = load_project()
    before = shipped_catalogue(project.compat)
    name = LOCKED.replace("torch2.9", "torch2.11")
    foreign = replace(before.wheels[0], name=WheelName.parse(name), filename=name, provider="community")
    trusting = replace(
        project,
        matrix=replace(
            project.matrix,
            providers=(*project.matrix.providers, Provider("community", "github", "a/b", "a test", "a test")),
        ),
    )
    now = replace(before, wheels=(*before.wheels, foreign))
    assert compare(trusting, lock.read(), before, now) == ()
