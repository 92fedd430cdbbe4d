"""The command line: lists, skipped combinations, exit codes, JSON; all offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from matrix import DATA_DIR
from matrix.cli import run
from wheel_resolver import cli
from wheel_resolver.asking.options import VERBS

TEXT = {"type": "string", "minLength": 1}
MAYBE = {"type": ["string", "null"]}
RESOLUTION = {
    "type": "object",
    "required": [
        "cell", "attention", "backend", "reason", "remedy", "wheel", "evidence", "rejected", "nearest",
        "alternatives", "other_backends",
    ],
    "additionalProperties": False,
    "properties": {
        "cell": {
            "type": "object",
            "required": ["python", "torch", "cuda", "abi", "arch", "gpu", "platform"],
            "maxProperties": 7,
            "properties": {"abi": {"enum": ["TRUE", "FALSE"]}, "arch": MAYBE, "gpu": MAYBE},
        },
        "attention": {"enum": ["flash_attention_2", "sdpa", "eager", None]},
        "backend": {"enum": ["flash_attention_2", "flash", "efficient", "cudnn", "math", None]},
        "reason": TEXT,
        "remedy": MAYBE,
        "wheel": {
            "type": ["object", "null"],
            "required": ["name", "url", "sha256", "size", "version", "tag", "provider", "updated_at"],
            "maxProperties": 8,
            "properties": {"url": {"type": "string", "pattern": "^https://"}, "size": {"type": ["integer", "null"]}},
        },
        "evidence": {"enum": ["label", "recipe", "inspected", "loaded", None]},
        "rejected": {"type": "object", "additionalProperties": {"type": "integer"}},
        "nearest": {"type": "array", "maxItems": 5, "items": {"required": ["wheel", "rule", "detail"]}},
        "alternatives": {"type": "array", "maxItems": 5, "items": {"required": ["change", "wheel", "command"]}},
        "other_backends": {
            "type": "array",
            "minItems": 3,
            "items": {
                "required": ["name", "where", "needs", "can_run", "why_not"],
                "additionalProperties": False,
                "properties": {
                    "name": {"enum": ["flash_attention_3", "flash_attention_4", "kernels"]},
                    "where": TEXT, "needs": TEXT, "can_run": {"type": "boolean"}, "why_not": TEXT,
                },
            },
        },
        "trace": {"type": "array"},
        "source_build": {"type": "object", "required": ["sdist", "version", "sha256", "size", "builder"]},
    },
}  # fmt: skip
SCHEMA = {
    "type": "object",
    "required": ["schema", "catalogue", "skipped", "resolutions"],
    "additionalProperties": False,
    "properties": {
        "schema": {"const": 1},
        "catalogue": {
            "required": ["source", "as_of", "stale", "wheels"],
            "properties": {"source": {"enum": ["network", "cache", "snapshot"]}, "stale": {"type": "boolean"}},
        },
        "skipped": {"type": "object", "additionalProperties": {"type": "integer"}},
        "resolutions": {"type": "array", "items": RESOLUTION},
    },
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    for name in ("GH_TOKEN", "GITHUB_TOKEN", "GITHUB_API_URL"):
        monkeypatch.delenv(name, raising=False)


def ask(question: str) -> int:
    return run(lambda: cli.main([*question.split(), "--offline"]))


def answer(question: str, capsys: pytest.CaptureFixture[str], status: int = 0) -> dict[str, Any]:
    assert ask(question + " --json") == status
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    jsonschema.validate(data, SCHEMA)
    assert all((row["evidence"] is None) == (row["wheel"] is None) for row in data["resolutions"])
    return data


def test_the_json_of_a_whole_torch(capsys: pytest.CaptureFixture[str]) -> None:
    data = answer("--torch 2.9", capsys)
    assert data["catalogue"] == {
        "source": "snapshot",
        "as_of": "2026-08-01T00:00:00Z",
        "stale": True,
        "wheels": 832,
        "unparsed": 0,
    }
    by_python = {row["cell"]["python"]: row["attention"] for row in data["resolutions"] if row["cell"]["gpu"] == "A10G"}
    assert by_python == {"3.10": "sdpa", "3.11": "sdpa", "3.12": "flash_attention_2", "3.13": "sdpa", "3.14": "sdpa"}
    assert {row["attention"] for row in data["resolutions"] if row["cell"]["gpu"] == "T4"} == {"sdpa"}


def test_lists_make_a_product_and_count_what_never_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    data = answer("--torch 2.8,2.9 --python 3.12,3.9 --cuda 12.8,13.0 --gpu a10g,T4", capsys)
    assert len(data["resolutions"]) == 2 * 2 + 1 * 1 * 2 + 2  # 2.9/3.12: two CUDAs; 2.8: 12.8 on two Pythons
    assert data["skipped"] == {"torch never shipped this CUDA": 4, "torch never shipped this Python": 4}


def test_arch_and_abi_may_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = answer("--torch 2.9 --python 3.12 --cuda 12.8 --arch 8.6 --abi false", capsys)["resolutions"]
    assert (row["cell"]["arch"], row["cell"]["gpu"], row["cell"]["abi"]) == ("sm_86", None, "FALSE")
    assert row["attention"] == "sdpa"


def test_the_other_platform(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = answer("--torch 2.9 --python 3.12 --cuda 12.8 --gpu GH200 --platform linux_aarch64", capsys)["resolutions"]
    assert row["wheel"]["name"].endswith("-linux_aarch64.whl")


def test_cpu_has_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = answer("--torch 2.13 --python 3.11 --cuda cpu", capsys)["resolutions"]
    assert (row["cell"]["arch"], row["cell"]["gpu"], row["backend"]) == (None, None, "math")


def test_cpu_with_a_gpu_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    data = answer("--torch 2.13 --python 3.11 --cuda cpu --gpu T4", capsys, status=1)
    assert data["skipped"] == {"a CPU build of torch uses no GPU": 1}


def test_a_wheel_may_be_unpinned(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = answer("--torch 2.8 --python 3.11 --cuda 12.8 --gpu A10G", capsys)["resolutions"]
    assert row["wheel"]["version"] == "2.8.3.post1"
    assert row["wheel"]["sha256"] is None


def test_a_full_trace(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = answer("--torch 2.9 --python 3.11 --cuda 12.8 --gpu A10G --explain", capsys)["resolutions"]
    assert len(row["trace"]) == 831
    assert ask("--torch 2.9 --python 3.11 --cuda 12.8 --gpu A10G --explain") == 0
    assert "python refuses" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ("--torch 2.9", 0),
        ("--torch 2.6 --cuda 12.4 --gpu B200", 1),  # a named cell is unsupported
        ("--torch 2.6 --gpu B200", 0),  # no CUDA named: some builds cannot run, and the table says so
        ("--torch 2.9 --cuda 12.4", 1),  # never shipped
        ("--torch 2.9 --python 3.12 --cuda 12.8 --gpu A10G --require flash_attention_2", 0),
        ("--torch 2.9 --python 3.11 --cuda 12.8 --gpu A10G --require flash_attention_2", 1),
        ("--torch 2.9 --python 3.11 --cuda 12.8 --gpu A10G --require sdpa", 0),
        ("--torch 2.99", 2),
        ("--gpu nothing", 2),
        ("--arch 99", 2),
        ("--arch x", 2),
        ("--abi x", 2),
        ("--platform win_amd64", 0),
        ("--platform macosx_14_0_arm64", 0),
        ("--torch 2.9 --python 3.12 --cuda rocm6.4", 0),
        ("--platform linux_riscv64", 2),
        ("--flash-attn x", 2),
        ("--flash-attn 2.8.3,2.8.1", 0),
        ("--flash-attn >=2.8,<3", 0),
        ("--matrix /nonexistent/matrix.yaml", 2),
        ("--torch 2.9 --python 3.12 --cuda 12.8 --gpu A10G --driver 535.104.05", 0),
        ("--torch 2.9 --python 3.12 --cuda 13.0 --gpu A10G --driver 535.104.05", 1),  # under CUDA 13's floor
        ("--torch 2.12 --python 3.12 --cuda 13.0 --gpu A10G --require flash_attention_2", 1),
        ("--torch 2.12 --python 3.12 --cuda 13.0 --gpu A10G --require flash_attention_2 --reuse measured", 0),
        ("--torch 2.13 --python 3.13 --cuda 13.0 --gpu H100 --require flash_attention_2 --source-build", 0),
        ("--torch 2.14 --python 3.13 --cuda 13.0 --gpu H100 --require flash_attention_2 --source-build", 1),
        ("--torch 2.9 --python 3.12 --cuda 12.8 --gpu A10G --glibc 2.31 --require flash_attention_2", 1),
        ("--torch 2.9.0a0+145a3a7bda --python 3.12 --cuda 12.9 --gpu H100", 0),
        ("--torch 2.9.0a0+145a3a7bda --python 3.12 --cuda 12.9 --gpu H100 --require sdpa", 0),
        ("--torch 2.99.0a0", 2),
        ("--torch 2.9.1+cu128", 0),
        ("--torch 2.9.1+cu128 --cuda 12.6", 2),
        ("--torch not+one", 2),
    ],
)
def test_exit_codes(question: str, status: int) -> None:
    assert ask(question) == status


def test_unknown_values_list_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("--gpu Nvidai_A100") == 2
    assert "perhaps you meant 'A100'" in capsys.readouterr().err
    assert ask("--gpu A10H") == 2  # a misspelt A10G or A10, or a GPU of tomorrow
    assert "perhaps" not in capsys.readouterr().err
    assert ask("--torch 2.99") == 2
    err = capsys.readouterr().err
    assert "--torch 2.99: newer than our facts: compat.yaml of 2026-" in err
    assert "ends at torch 2.15" in err
    assert "known: 2.0, 2.0.0" in err


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("--torch 2.16", "newer than our facts"),
        ("--torch 2.9.7", "newer than our facts"),
        ("--torch 1.13", "older than our facts"),
        ("--cuda 12.7", "not known to compat.yaml"),
        ("--python 3.16", "not known to compat.yaml"),
    ],
)
def test_a_version_is_never_taken_for_another_one(question: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(question) == 2
    err = capsys.readouterr().err
    assert f"{question}: {said}" in err
    assert "perhaps" not in err
    assert "known: " in err


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("--cuda 12.8 --gpu A10G --platform win_amd64", "flash-attn's releases have no wheel for Windows"),
        ("--cuda cpu --platform macosx_14_0_arm64", "flash-attn's releases have no wheel for macOS"),
        ("--cuda rocm6.4", "flash-attn's releases have no wheel for ROCm"),
    ],
)
def test_where_no_wheel_can_be_sdpa_runs_and_says_why(
    place: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = answer(f"--torch 2.9 --python 3.12 {place}", capsys)["resolutions"]
    assert (row["attention"], row["wheel"], row["alternatives"]) == ("sdpa", None, [])
    assert row["reason"].startswith(said)
    assert row["reason"].endswith("torch's own SDPA runs there")


def test_a_cuda_that_no_release_note_names_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = answer("--torch 2.9 --python 3.12 --cuda 12.9 --gpu A10G", capsys)["resolutions"]
    assert (row["attention"], row["evidence"]) == ("flash_attention_2", "label")
    assert row["reason"].endswith("; its SASS is inferred: its tag's build recipe does not list this wheel")


def test_an_exclusion_yields_to_a_question_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer("--torch 2.15", capsys)["skipped"]["excluded by the matrix"] > 0
    assert answer("--torch 2.15 --cuda 13.0", capsys)["resolutions"]


def test_another_matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "matrix.yaml"
    text = (DATA_DIR / "matrix.yaml").read_text().replace("gpu: [T4, A100, A10G, L4, H100, B200, RTX 50]", "gpu: [L4]")
    path.write_text(text)
    data = answer(f"--torch 2.9 --cuda 12.8 --matrix {path}", capsys)
    assert {row["cell"]["gpu"] for row in data["resolutions"]} == {"L4"}


def test_the_process_as_people_run_it(tmp_path: Path) -> None:
    """Stdout is the result, stderr the talk, and offline `requests` is not even loaded."""
    environment = {**os.environ, "WHEELWRIGHT_CACHE": str(tmp_path)}
    command = [sys.executable, "-X", "importtime", "-m", "wheel_resolver", "--torch", "2.9", "--offline", "--json"]
    done = subprocess.run(
        command, check=False, env=environment, capture_output=True, text=True, cwd=DATA_DIR.parent, timeout=60
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["schema"] == 1
    assert "using the snapshot of 2026-08-01" in done.stderr
    assert "requests" not in done.stderr


@pytest.mark.parametrize("options", ["--driver x", "--glibc x", "--reuse always", "--dtype int8"])
def test_wrong_policies_are_usage_errors(options: str) -> None:
    with pytest.raises(SystemExit) as caught:
        ask(options)
    assert caught.value.code == 2


def test_the_matrix_may_ask_for_reuse_and_the_option_decides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "matrix.yaml"
    text = (DATA_DIR / "matrix.yaml").read_text()
    path.write_text(text.replace("schema: 1\n", "schema: 1\nreuse: measured\n", 1))
    question = f"--torch 2.11 --python 3.12 --cuda 12.8 --gpu A10G --matrix {path}"
    (row,) = answer(question, capsys)["resolutions"]
    assert row["attention"] == "flash_attention_2"
    assert "built for torch 2.10, and reused: measured to load on 2.11, 2.12" in row["reason"]
    assert answer(f"{question} --reuse none", capsys)["resolutions"][0]["attention"] == "sdpa"
    path.write_text(text.replace("schema: 1\n", "schema: 1\nreuse: always\n", 1))
    assert ask(question) == 2
    assert "known: none, measured" in capsys.readouterr().err


def test_a_lock_of_such_a_matrix_holds_the_evidence(tmp_path: Path) -> None:
    text = (DATA_DIR / "matrix.yaml").read_text().replace('torch: "2.9.1"', 'torch: "2.11.0"')
    matrix, made = tmp_path / "matrix.yaml", tmp_path / "lock.yaml"
    matrix.write_text(text)
    command = ["lock", "--offline", "--matrix", str(matrix), "--output", str(made)]
    assert run(lambda: cli.main(command)) == 2  # no wheel for torch 2.11, and reuse was not asked for
    assert not made.exists()
    matrix.write_text(text.replace("schema: 1\n", "schema: 1\nreuse: measured\n", 1))
    assert run(lambda: cli.main(command)) == 0
    assert "reused: measured to load on 2.11, 2.12" in " ".join(made.read_text().split())


def test_a_source_build_in_json_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    question = "--torch 2.13 --python 3.13 --cuda 13.0 --gpu H100 --source-build"
    (row,) = answer(question, capsys)["resolutions"]
    assert (row["attention"], row["backend"], row["wheel"]) == ("flash_attention_2", "flash_attention_2", None)
    assert row["source_build"]["sdist"] == "flash_attn-2.8.3.post2.tar.gz"
    assert row["source_build"]["builder"].startswith("nvidia/cuda:13.0")
    assert ask(question) == 0
    assert "flash_attention_2, compiled" in capsys.readouterr().out
    assert ask("--torch 2.13 --cuda 13.0 --source-build") == 0
    assert "compiled from 2.8.3.post2's source" in capsys.readouterr().out


def test_the_dtype_names_the_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    for dtype, backend in (("float16", "efficient"), ("bfloat16", "math")):
        (row,) = answer(f"--torch 2.9 --python 3.12 --cuda 12.8 --gpu T4 --dtype {dtype}", capsys)["resolutions"]
        assert row["backend"] == backend


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lok"], "lok: no such verb; perhaps you meant 'lock'"),
        (["--tort", "2.9"], "--tort: no such option; perhaps you meant '--torch'"),
        (["--gpus=T4"], "--gpus=T4: no such option; perhaps you meant '--gpu'"),
        (["--torc", "2.9"], "--torc: no such option; perhaps you meant '--torch'"),  # abbreviations break with options
        (["--torch", "2.9", "3.12"], "3.12: belongs to no option"),
        (["coverage", "--htm", "page"], "--htm: no such option; perhaps you meant '--html'"),
        (["--provider", "nobody"], "--provider nobody: neither a provider of the matrix nor a repository"),
        (["--here", "--torch", "2.9"], "--here reads the host, and --torch was given too"),
    ],
)
def test_what_cannot_be_asked_is_an_error_that_names_the_nearest(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda: cli.main(words)) == 2
    err = capsys.readouterr().err
    assert f"error: {said}" in err
    assert "  remedy: " in err


@pytest.mark.parametrize("words", ["--offline --refresh", "--torch", "--torch 2.9,,", "--require fa9"])
def test_usage_errors_of_argparse_are_2(words: str) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words.split())
    assert caught.value.code == 2


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_names_every_verb_and_each_has_its_own(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], [verb, "--help"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(words)
        assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert f"\n  {verb} " in shown
    assert f"usage: python -m wheel_resolver {verb} " in shown
