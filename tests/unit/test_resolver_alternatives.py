"""Alternatives: every command that is told can be pasted and gets its wheel; other providers' are known unasked."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.version import Version

from matrix import DATA_DIR, Abi, Arch, Cell, Cuda, PythonVersion, load_project
from matrix.cli import run
from wheel_resolver import cli
from wheel_resolver.core.alternatives import Neighbours
from wheel_resolver.core.facts import Facts, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.wheel import Asset, Release, Wheel
from wheel_resolver.upstream.github import Api
from wheel_resolver.upstream.ladder import TIME
from wheel_resolver.upstream.snapshot import Snapshot, dumps
from wheel_resolver.upstream.source import cache_path

COMPAT = load_project().compat
OFFICIAL = COMPAT.flash_attn.repository
CELL = Cell(
    PythonVersion.parse("3.13"), Version("2.11.0"), Cuda.parse("12.8"), Abi.TRUE, Arch(8, 6), "A10G", "linux_x86_64"
)
COMMUNITY = "flash_attn-2.8.3+cu128torch2.11-cp313-cp313-linux_x86_64.whl"
QUESTION = "--torch 2.11 --python 3.13 --cuda 12.8 --gpu A10G"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GH_TOKEN", "GITHUB_TOKEN", "GITHUB_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def remember(cache: Path, repository: str, *names: str, token: str | None = None) -> Path:
    """Leave in the cache what a question that named the repository would have left there."""
    path = cache_path(Api(COMPAT.origins["github_api"], token), repository, cache)
    releases = (Release("v1", tuple(Asset(name, "c" * 64, 7, None) for name in names)),)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(Snapshot(repository, datetime.now(UTC).strftime(TIME), releases)))
    return path


def ask(question: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run(lambda: cli.main([*shlex.split(question), "--offline", "--json"])) == 0
    return json.loads(capsys.readouterr().out)["resolutions"][0]


def pasted(command: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run a command as it was told; the wheels that it gets."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "wheel_resolver"]
    capsys.readouterr()
    assert run(lambda: cli.main([*words[3:], "--offline", "--json", "--require", "flash_attention_2"])) == 0, command
    return [row["wheel"]["name"] for row in json.loads(capsys.readouterr().out)["resolutions"]]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_command_that_is_told_gets_exactly_its_wheel(
    capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    """Over every torch, its builds and Pythons, every GPU, and what may be asked beside them."""
    known = data.draw(st.sampled_from(list(COMPAT.torch.values())))
    question = f"--torch {data.draw(st.sampled_from(known.patches))} --cuda {data.draw(st.sampled_from(known.cuda))}"
    question += f" --python {data.draw(st.sampled_from(known.python))}"
    gpu = data.draw(st.sampled_from(list(COMPAT.gpus)))
    question += data.draw(st.sampled_from([f" --gpu {shlex.quote(gpu)}", f" --arch {COMPAT.gpus[gpu]}"]))
    for option, values in {
        "platform": ["linux_x86_64", "linux_aarch64"], "driver": ["535.104.05", "580.65.06"], "glibc": ["2.31", "2.39"],
        "reuse": ["measured", "none"], "flash-attn": ["2.8.1,2.8.3", "'>=2.6,<2.8'"], "abi": ["TRUE", "FALSE"],
        "dtype": ["float32"],
    }.items():  # fmt: skip
        if data.draw(st.booleans(), label=option):
            question += f" --{option} {data.draw(st.sampled_from(values))}"
    capsys.readouterr()
    run(lambda: cli.main([*shlex.split(question), "--offline", "--json"]))
    for row in json.loads(capsys.readouterr().out)["resolutions"]:
        assert len(row["alternatives"]) <= 5
        for each in row["alternatives"]:
            assert pasted(each["command"], capsys) == [each["wheel"]]


def test_a_repository_that_was_asked_for_once_is_an_alternative(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert all("provider" not in each["change"] for each in ask(QUESTION, capsys)["alternatives"])
    remember(cache, "someone/wheels", COMMUNITY)
    row = ask(QUESTION, capsys)
    assert (row["attention"], row["wheel"]) == ("sdpa", None)  # known is not trusted
    changes = [each["change"] for each in row["alternatives"]]
    assert changes.index({"torch": "2.10.0"}) < changes.index({"provider": "someone/wheels"})
    (told,) = [each for each in row["alternatives"] if each["change"] == {"provider": "someone/wheels"}]
    assert told["command"].endswith(f"--gpu A10G --provider {OFFICIAL},someone/wheels")
    assert pasted(told["command"], capsys) == [COMMUNITY]
    assert not [
        each
        for each in ask(f"{QUESTION} --cuda 13.0", capsys)["alternatives"]
        if each["change"] == {"provider": "someone/wheels"}
    ]


def test_what_another_identity_listed_or_is_damaged_is_not_known(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(cache, "someone/private", COMMUNITY, token="a token")
    remember(cache, "someone/damaged", COMMUNITY).write_text("{")
    remember(cache, "some one; rm", COMMUNITY)
    assert all("provider" not in each["change"] for each in ask(QUESTION, capsys)["alternatives"])


def test_a_provider_of_the_matrix_that_was_left_out_is_an_alternative(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf, matrix = tmp_path / "shelf", tmp_path / "my matrix.yaml"
    shelf.mkdir()
    (shelf / COMMUNITY).write_bytes(b"a wheel")
    row = "providers:\n  - {name: shelf, kind: folder, path: shelf, because: b, source: s}\n"
    matrix.write_text((DATA_DIR / "matrix.yaml").read_text(encoding="utf-8") + row)
    question = f"{QUESTION} --matrix {shlex.quote(str(matrix))}"
    assert ask(question, capsys)["wheel"]["provider"] == "shelf"
    left_out = ask(f"{question} --provider {OFFICIAL.lower()}", capsys)
    assert left_out["wheel"] is None
    (told,) = [each for each in left_out["alternatives"] if each["change"] == {"provider": "shelf"}]
    assert f"--matrix {shlex.quote(str(matrix))}" in told["command"]
    assert pasted(told["command"], capsys) == [COMMUNITY]
    others = [each for each in left_out["alternatives"] if "provider" not in each["change"]]
    assert all(f"--provider {OFFICIAL}" in each["command"] for each in others)
    alone = ask(
        f"--torch 2.9 --python 3.12 --cuda 12.8 --gpu A10G --provider shelf --matrix {shlex.quote(str(matrix))}", capsys
    )
    assert (alone["wheel"], alone["rejected"]["provider"]) == (None, 2)
    assert {"provider": OFFICIAL} in [each["change"] for each in alone["alternatives"]]


def test_fewer_axes_first_and_the_provider_is_the_dearest() -> None:
    def wheel(provider: str, name: str) -> Wheel:
        parsed = WheelName.parse(name)
        assert parsed is not None
        return Wheel(parsed, name, f"https://example.org/{provider}/{name}", "0" * 64, None, "v1", provider, None)

    name = "flash_attn-2.8.3+cu{}torch{}cxx11abiTRUE-{}-linux_x86_64.whl"
    ours = [
        wheel(OFFICIAL, name.format(*each))
        for each in (("12", "2.11", "cp312-cp312"), ("12", "2.10", "cp313-cp313"), ("13", "2.11", "cp313-cp313"))
    ]
    theirs = [
        wheel("a", name.format("12", "2.11", "cp313-cp313")),
        wheel("b", name.format("12", "2.11", "cp314-cp314")),
    ]
    index = WheelIndex(ours, Facts(COMPAT), default_policy(COMPAT))
    assert [dict(each.change) for each in Neighbours(index, lambda: theirs).of(CELL)] == [
        {"python": "3.12"},
        {"torch": "2.10.0"},
        {"cuda": "13.0"},
        {"provider": "a"},
        {"python": "3.14", "provider": "b"},
    ]


def test_nobody_else_is_looked_for_where_a_wheel_fits_or_no_gpu_is() -> None:
    def beyond() -> list[Wheel]:
        raise AssertionError("not needed")

    index = WheelIndex([], Facts(COMPAT), default_policy(COMPAT))
    assert Neighbours(index, beyond).of(replace(CELL, cuda=Cuda.parse("cpu"), arch=None, gpu=None)) == ()
