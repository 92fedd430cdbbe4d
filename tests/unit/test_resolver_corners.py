"""Corners of the open world: where two true statements could be told as if they contradicted each other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from matrix import DATA_DIR, Abi, Arch, Cuda, Driver, PythonVersion, load_project
from matrix.cli import run
from matrix.compat_file import load_compat
from matrix.errors import DataError
from matrix.spec import perhaps
from tests.judging import says
from wheel_resolver import cli
from wheel_resolver.asking.here import answer_host, host_policy
from wheel_resolver.asking.host import Gpu, Host
from wheel_resolver.core.build import recipe_of
from wheel_resolver.core.facts import Facts, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.core.wheel_rules import WHEEL_RULES
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.catalogue import build_catalogue

PROJECT = load_project()
COMPAT = PROJECT.compat
FACTS = Facts(COMPAT)
OFFICIAL = COMPAT.flash_attn.repository


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")


def wheel(name: str, tag: str) -> Wheel:
    parsed = WheelName.parse(name)
    assert parsed is not None
    return Wheel(parsed, name, "https://example.org/w", "0" * 64, None, tag, OFFICIAL, None)


@pytest.mark.parametrize(
    "question",
    [
        "--torch 2.9 --python 3.12 --cuda 13.0 --gpu A10G --driver 535.104.05",
        "--torch 2.6 --python 3.12 --cuda 12.4 --gpu B200",
        "--torch 2.9 --python 3.12 --cuda 12.8 --gpu GH200 --platform linux_x86_64",
    ],
)
def test_no_other_backend_could_run_where_torch_cannot(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: cli.main([*question.split(), "--offline", "--json"])) == 1
    (row,) = json.loads(capsys.readouterr().out)["resolutions"]
    assert row["attention"] is None
    assert [each["can_run"] for each in row["other_backends"]] == [False] * 3
    assert all(each["why_not"] == row["reason"] for each in row["other_backends"])


@pytest.mark.parametrize(
    ("gpu", "able"),
    [
        ("H100", ["flash_attention_3", "flash_attention_4", "kernels"]),
        ("B200", ["flash_attention_4", "kernels"]),
        ("A10G", ["kernels"]),
        ("T4", []),
    ],
)
def test_each_other_backend_says_where_it_runs(gpu: str, able: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--torch", "2.9", "--python", "3.12", "--cuda", "12.8", "--gpu", gpu, "--offline"]
    assert run(lambda: cli.main([*words, "--json"])) == 0
    (row,) = json.loads(capsys.readouterr().out)["resolutions"]
    assert [each["name"] for each in row["other_backends"] if each["can_run"]] == able
    assert all(each["needs"] and each["where"] and each["why_not"] for each in row["other_backends"])
    assert run(lambda: cli.main(words)) == 0
    text = capsys.readouterr().out
    assert (f"also       {', '.join(able)} could run there" in text) == bool(able)


def test_a_host_without_torch_is_sent_to_a_build_that_release_notes_name() -> None:
    host = Host(
        "/opt/python", PythonVersion(3, 12), "CPython", "linux_x86_64", Version("2.36"), None, "torch is not installed",
        (Gpu("NVIDIA A10G", Arch(8, 6)),), Driver.parse("535.104.05"),
    )  # fmt: skip
    known = build_catalogue(
        snapshot.read().releases, repository=OFFICIAL, origin="https://github.com", source="snapshot", as_of="",
        stale=False,
    )  # fmt: skip
    index = WheelIndex(known.wheels, FACTS, host_policy(host, default_policy(COMPAT)))
    why = answer_host(host, PROJECT, index).why_not
    assert why is not None
    assert "install torch 2.9.1 for CUDA 12.8" in why
    assert why.endswith("/cu128")


@pytest.mark.parametrize("question", ["--torch 2.12.1 --python 3.13t --cuda 13.0", "--torch 2.12.0 --cuda 12.9"])
def test_what_was_never_built_is_not_listed_as_built(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: cli.main([*question.split(), "--gpu", "A10G", "--offline"])) == 1
    said = capsys.readouterr().err
    assert "no cell is left" in said
    shipped = next(line for line in said.splitlines() if "was shipped for" in line)
    assert question.split()[3] not in shipped.replace(",", " ").split()


@pytest.mark.parametrize("word", ["2.16", "RTX 60", "H800", "13.9", "3.16", "12.8.1", "sm_99"])
def test_a_hint_never_leads_to_another_version_or_generation(word: str) -> None:
    known = ["2.6", "RTX 50", "H100", "H200", "13.2", "12.8", "3.13", "3.1.6", "sm_90"]
    assert perhaps(word, known, numbered=True) == ""


def test_a_hint_is_for_misspelt_words() -> None:
    assert perhaps("a10 g", ["a10g", "a10", "a100"], numbered=True) == "; perhaps you meant 'a10g'"
    assert perhaps("h10", ["h100", "t4"]) == "; perhaps you meant 'h100'"  # the name of a target is a word
    assert perhaps("flash_atention_2", ["flash_attention_2", "sdpa"]) == "; perhaps you meant 'flash_attention_2'"
    assert perhaps("tagrets", ["targets", "axes"]) == "; perhaps you meant 'targets'"


@pytest.mark.parametrize(
    ("platform", "system"), [("macosx_14_0_arm64", "macOS"), ("win_amd64", "Windows"), ("win_arm64", "Windows")]
)
def test_the_table_gives_the_reason_for_systems_that_have_no_wheel(
    platform: str, system: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda: cli.main(["--torch", "2.9", "--platform", platform, "--offline"])) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"flash-attn's releases have no wheel for {system}" in text
    assert "a CPU build of torch" not in text


@pytest.mark.parametrize(
    ("name", "tag", "listed"),
    [
        ("flash_attn-2.8.3+cu12torch2.6cxx11abiTRUE-cp312-cp312-linux_x86_64.whl", "v2.8.3", True),
        ("flash_attn-2.8.3+cu12torch2.6cxx11abiTRUE-cp312-cp312-linux_x86_64.whl", "v2.8.3.post1", False),
        ("flash_attn-2.8.3+cu124torch2.6-cp312-cp312-linux_x86_64.whl", "v2.8.3", False),
        ("flash_attn-2.8.3+cu128torch2.6cxx11abiTRUE-cp312-cp312-linux_x86_64.whl", "v2.8.3", False),
        ("flash_attn-2.6.3+cu123torch2.4cxx11abiTRUE-cp312-cp312-linux_x86_64.whl", "v2.6.3", True),
        ("flash_attn-2.8.3+cu12torch2.6cxx11abiTRUE-cp39-abi3-linux_x86_64.whl", "v2.8.3", False),
        ("flash_attn-2.8.3+cu12torch2.6cxx11abiTRUE-cp312-cp312-linux_aarch64.whl", "v2.8.3", False),
    ],
)
def test_a_recipe_lists_the_names_that_it_makes(name: str, tag: str, listed: bool) -> None:
    assert (recipe_of(wheel(name, tag), FACTS) is not None) is listed


def test_every_wheel_of_the_snapshot_that_is_unlisted_is_one_of_the_31() -> None:
    known = [wheel(asset.name, release.tag) for release in snapshot.read().releases for asset in release.assets]
    assert sum(recipe_of(each, FACTS) is None for each in known) == 31


def test_what_is_not_known_of_a_torch_is_not_told_as_known() -> None:
    rule = next(rule for rule in WHEEL_RULES if rule.name == "abi")
    cell = PROJECT.matrix.targets["a10g"].cells(COMPAT)[0]
    policy = default_policy(COMPAT)
    old = wheel("flash_attn-2.8.3+cu12torch1.13-cp312-cp312-linux_x86_64.whl", "v2.8.3")
    both = wheel("flash_attn-2.8.3+cu12torch2.6-cp312-cp312-linux_x86_64.whl", "v2.8.3")
    assert says(rule, old, cell, FACTS, policy) == "its ABI is not known: compat.yaml knows no torch 1.13"
    said = says(rule, both, replace(cell, abi=Abi.TRUE, cuda=Cuda(12, 6)), FACTS, policy)
    assert said == "its ABI is not known: torch 2.6 was built with both, and cu12 says neither"


def test_a_build_is_announced_or_not(tmp_path: Path) -> None:
    text = (DATA_DIR / "compat.yaml").read_text(encoding="utf-8")
    path = tmp_path / "compat.yaml"
    path.write_text(text.replace('cuda_unannounced: ["12.9"]', 'cuda_unannounced: ["12.8"]', 1), encoding="utf-8")
    with pytest.raises(DataError, match=r"torch\.2\.9\.cuda_unannounced\[0\]: '12\.8' stands in cuda, too"):
        load_compat(path)


def test_a_target_does_not_put_an_arm_gpu_into_an_x86_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "matrix.yaml"
    text = (DATA_DIR / "matrix.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("gpus: [H100, H200]", "gpus: [H100, GH200]", 1), encoding="utf-8")
    assert run(lambda: cli.main(["--torch", "2.9", "--offline", "--matrix", str(path)])) == 2
    said = capsys.readouterr().err
    assert "targets.h100.gpus[1]: no linux_x86_64 machine has GH200" in said
    assert "it comes with: linux_aarch64" in said


@pytest.mark.parametrize(
    ("tags", "python", "fits"),
    [
        ("cp315-abi3.abi3t", "3.15", True),
        ("cp315-abi3.abi3t", "3.15t", True),
        ("cp315-abi3t", "3.15t", True),
        ("cp315-abi3t", "3.15", False),
        ("cp310-abi3", "3.15t", False),
    ],
)
def test_the_stable_abi_of_free_threaded_pythons(tags: str, python: str, fits: bool) -> None:
    rule = next(rule for rule in WHEEL_RULES if rule.name == "python")
    cell = replace(PROJECT.matrix.targets["a10g"].cells(COMPAT)[0], python=PythonVersion.parse(python))
    name = f"flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-{tags}-linux_x86_64.whl"
    assert (says(rule, wheel(name, "v2.8.3"), cell, FACTS, default_policy(COMPAT)) is None) is fits


def test_a_local_part_that_is_no_cuda_build_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: cli.main(["--torch", "2.9.1+xpu", "--offline"])) == 2
    assert "remedy: flash-attn's wheels are for CUDA builds of torch" in capsys.readouterr().err
