"""What people type, where a tool of theirs printed it: read as it is meant, printed in one form, never mistaken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix import Abi, Arch, Cuda, Driver, PythonVersion, load_project
from matrix.cli import run
from matrix.gpu_names import words_of
from matrix.torch_asked import TorchAsked
from tests.field.capabilities import NAMES
from wheel_resolver import cli

COMPAT = load_project().compat
ALL = {"torch": "2.9", "python": "3.12", "cuda": "12.8", "gpu": "A10G"}


def ask(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0, **options: str | None) -> Any:
    """The cells of an answer for these options and the usual others; for another status what was said."""
    given_options = {name: text for name, text in {**ALL, **options}.items() if text is not None}
    line = [f"--{name.replace('_', '-')}={text}" for name, text in given_options.items()]
    assert run(lambda: cli.main([*line, *words, "--offline", "--json"])) == status
    told = capsys.readouterr()
    return [row["cell"] for row in json.loads(told.out)["resolutions"]] if status == 0 else told.err


# The rows of the log's table, in its order, and their likes: options, and what the answer's cells then say.
TYPED: list[tuple[dict[str, str | None], dict[str, list[str]]]] = [
    ({"torch": "2.9.0+cu128", "cuda": None}, {"torch": ["2.9.0"], "cuda": ["12.8"]}),
    ({"torch": "2.9.0+cu128", "cuda": "12.8"}, {"torch": ["2.9.0"], "cuda": ["12.8"]}),
    ({"torch": "2.9.0+cu128,2.10.0+cu130", "cuda": None}, {"torch": ["2.9.0", "2.10.0"], "cuda": ["12.8", "13.0"]}),
    ({"torch": "2.9.1+cpu", "cuda": None, "gpu": None}, {"torch": ["2.9.1"], "cuda": ["cpu"]}),
    ({"torch": "v2.9.1"}, {"torch": ["2.9.1"]}),
    ({"torch": "torch==2.9.*"}, {"torch": ["2.9.1"]}),
    ({"torch": "torch==2.9.0"}, {"torch": ["2.9.0"]}),
    ({"torch": "2.9.*"}, {"torch": ["2.9.1"]}),
    ({"torch": ">=2.9,<2.10"}, {"torch": ["2.9.1"]}),
    ({"torch": ">=2.9,<2.11,2.8"}, {"torch": ["2.9.1", "2.10.0", "2.8.0"]}),
    ({"torch": "torch>=2.9,!=2.9.1,<2.10"}, {"torch": ["2.9.0"]}),
    ({"cuda": "cu128"}, {"cuda": ["12.8"]}),
    ({"cuda": "128"}, {"cuda": ["12.8"]}),
    ({"cuda": "12.8.1"}, {"cuda": ["12.8"]}),
    ({"cuda": "V12.8.93"}, {"cuda": ["12.8"]}),
    ({"cuda": "12"}, {"cuda": ["12.6", "12.8", "12.9"]}),
    ({"cuda": "none", "gpu": None}, {"cuda": ["cpu"]}),
    ({"gpu": "NVIDIA A10G"}, {"gpu": ["A10G"]}),
    ({"gpu": "Tesla T4"}, {"gpu": ["T4"]}),
    ({"gpu": "NVIDIA A100-SXM4-80GB"}, {"gpu": ["A100"]}),
    ({"gpu": "NVIDIA H100 80GB HBM3"}, {"gpu": ["H100"]}),
    ({"gpu": "NVIDIA GeForce RTX 4090"}, {"gpu": ["RTX 40"]}),
    ({"gpu": "NVIDIA RTX PRO 6000 Blackwell Server Edition"}, {"gpu": ["RTX PRO 6000 Blackwell"]}),
    ({"gpu": "rtx4090,RTX 3060,RTX 5090"}, {"gpu": ["RTX 40", "RTX 30", "RTX 50"]}),
    ({"gpu": "4090"}, {"gpu": ["RTX 40"]}),
    ({"gpu": "Quadro RTX 8000"}, {"gpu": ["Quadro RTX"]}),
    ({"gpu": "GB10", "torch": "2.10", "cuda": "13.0"}, {"gpu": ["GB10 (DGX Spark)"], "platform": ["linux_aarch64"]}),
    ({"gpu": "A800,H20"}, {"gpu": ["A800", "H20"]}),
    ({"python": "3.12.3"}, {"python": ["3.12"]}),
    ({"python": "py312"}, {"python": ["3.12"]}),
    ({"python": "cp312"}, {"python": ["3.12"]}),
    ({"python": "python3.12"}, {"python": ["3.12"]}),
    ({"python": "3.14.3t"}, {"python": ["3.14t"]}),
    ({"platform": "linux/amd64"}, {"platform": ["linux_x86_64"]}),
    ({"platform": "x86_64"}, {"platform": ["linux_x86_64"]}),
    ({"platform": "amd64"}, {"platform": ["linux_x86_64"]}),
    ({"platform": "manylinux_2_28_x86_64"}, {"platform": ["linux_x86_64"]}),
    ({"platform": "arm64"}, {"platform": ["linux_aarch64"]}),
    ({"gpu": None, "arch": "sm86"}, {"arch": ["sm_86"]}),
    ({"abi": "1"}, {"abi": ["TRUE"]}),
    ({"abi": "cxx11abiTRUE"}, {"abi": ["TRUE"]}),
    ({"abi": "cxx11abiFALSE"}, {"abi": ["FALSE"]}),
    ({"torch": "2.12.0.dev20260401+cu130", "cuda": None}, {"cuda": ["13.0"]}),
    ({"torch": "2.12.0.dev20260401+cpu", "cuda": None, "gpu": None}, {"cuda": ["cpu"]}),
    ({"torch": "2.12.0.dev20260401+rocm6.4", "cuda": None, "gpu": None}, {"cuda": ["rocm6.4"]}),
    ({"torch": "2.9.1+rocm6.4", "cuda": None, "gpu": None}, {"torch": ["2.9.1"], "cuda": ["rocm6.4"]}),
]  # fmt: skip


@pytest.mark.parametrize(("options", "cells"), TYPED, ids=lambda each: json.dumps(each)[:60])
def test_it_is_read_as_it_is_meant(
    options: dict[str, str | None], cells: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    found = ask(capsys, **options)
    assert {axis: list(dict.fromkeys(cell[axis] for cell in found)) for axis in cells} == cells


@pytest.mark.parametrize(
    "words",
    ["--dtype=fp16", "--dtype=bf16", "--dtype=torch.float16", "--require=fa2", "--require=flash-attn",
     "--flash-attn=flash-attn>=2.8", "--flash-attn=flash_attn==2.8.3", "--flash-attn=v2.8.3", "--glibc=GLIBC_2.36",
     "--glibc=manylinux_2_36", "--driver=v580.65.06"],
)  # fmt: skip
def test_other_options_take_the_words_of_their_field(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(ask(capsys, words)) == 1


# What contradicts itself or means several, and what is said of it.
REFUSED: list[tuple[dict[str, str | None], str]] = [
    ({"torch": "2.9.0+cu128", "cuda": "12.6"}, "--torch 2.9.0+cu128 is for CUDA 12.8, and --cuda says 12.6"),
    ({"torch": "2.12.0.dev20260401+cu130", "cuda": "12.6"}, "is for CUDA 13.0, and --cuda says 12.6"),
    ({"torch": "2.12.0.dev20260401+cpu", "cuda": "13.0"}, "is for cpu, and --cuda says 13.0"),
    ({"torch": "2.12.0.dev20260401+rocm6.4", "cuda": "13.0"}, "is for rocm6.4, and --cuda says 13.0"),
    ({"torch": "2.16"}, "newer than our facts"),
    ({"torch": ">=2.16"}, "no torch that compat.yaml"),
    ({"torch": "2.9,>=2.11"}, "so write the range first"),
    ({"cuda": "13.1"}, "It is the CUDA that torch was built with"),
    ({"gpu": "RTX 6000"}, "Quadro RTX (sm_75), RTX 6000 Ada (sm_89), RTX PRO 6000 Blackwell (sm_120)"),
    ({"gpu": "TITAN X"}, "GTX 900 (sm_52), GTX 10 (sm_61)"),
    ({"gpu": "AMD Instinct MI300X"}, "AMD's, and flash-attn's wheels are for CUDA"),
    ({"gpu": "Nvidai A100"}, "perhaps you meant 'A100'"),
    ({"gpu": "GeFroce RXT 4090"}, "perhaps you meant 'RTX 40'"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "said"), REFUSED, ids=lambda each: json.dumps(each)[:60])
def test_what_is_wrong_is_said(options: dict[str, str | None], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in ask(capsys, status=2, **options)


@pytest.mark.parametrize(
    ("option", "text"),
    [("torch", "2.16"), ("torch", "2.2.7"), ("cuda", "13.1"), ("cuda", "12.5"), ("python", "3.7"), ("python", "3.16"),
     ("gpu", "P1000X"), ("gpu", "A1000G"), ("gpu", "H300"), ("gpu", "RTX 6090"), ("gpu", "K100"), ("gpu", "GTX 480"),
     ("platform", "linux_riscv64"), ("platform", "linux/arm"), ("arch", "sm_99"), ("dtype", "int8")],
)  # fmt: skip
def test_no_hint_leads_to_another_version_generation_or_machine(
    option: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        told = ask(capsys, status=2, **{option: text})
    except SystemExit:  # argparse's own
        told = capsys.readouterr().err
    assert "perhaps" not in told
    assert "known" in told or "is none of" in told or "newer" in told or "no GPU of" in told


@pytest.mark.parametrize(("name", "capability"), NAMES.items())
def test_every_name_has_nvidias_compute_capability(name: str, capability: str) -> None:
    found = COMPAT.gpu_name(name)
    assert found is not None, COMPAT.gpu_names.find(name)
    assert COMPAT.gpus[found].capability == capability


def test_no_product_is_listed_that_nvidias_list_above_does_not_have() -> None:
    nvidias = {words_of(name): capability for name, capability in NAMES.items()}
    for gpu, row in COMPAT.data["gpus"].items():
        for product in row.get("names", [gpu]):
            assert nvidias.get(words_of(product)) == row["arch"], (gpu, product)


NUMBER = st.integers(0, 9)


@given(NUMBER, st.integers(0, 99), st.booleans())
def test_a_python_that_is_printed_is_read_again(major: int, minor: int, free: bool) -> None:
    value = PythonVersion(major, minor, free)
    assert PythonVersion.parse(str(value)) == PythonVersion.parse(value.tag) == value


@given(st.integers(1, 99), NUMBER)
def test_a_cuda_that_is_printed_is_read_again(major: int, minor: int) -> None:
    for value in (Cuda(major, minor), Cuda(None, None), Cuda(minor, major, is_rocm=True)):
        assert Cuda.parse(str(value)) == value


@given(st.integers(1, 99), NUMBER, st.sampled_from(["", "a", "f"]))
def test_an_arch_that_is_printed_is_read_again(major: int, minor: int, suffix: str) -> None:
    value = Arch(major, minor, suffix)
    assert Arch.parse(str(value)) == Arch.parse(value.capability) == value


@given(st.integers(100, 9999), st.integers(-1, 999), st.integers(-1, 999))
def test_a_driver_that_is_printed_is_read_again(branch: int, minor: int, patch: int) -> None:
    value = Driver(branch, minor, patch if minor >= 0 else -1)
    assert Driver.parse(str(value)) == value


@pytest.mark.parametrize("value", list(Abi))
def test_an_abi_that_is_printed_is_read_again(value: Abi) -> None:
    assert Abi.parse(str(value)) is value


VERSIONS = st.from_regex(r"\A[1-9]\.[0-9]{1,2}(\.[0-9])?((a|b|rc|\.dev)[0-9]{1,3})?(\+(cu[0-9]{3}|cpu|nv[0-9]{2}))?\Z")
RANGES = st.from_regex(r"\A(>=|>|~=)[1-9]\.[0-9]{1,2}(,<[1-9]\.[0-9]{1,2})?\Z")


@given(st.one_of(VERSIONS, RANGES))
def test_a_torch_that_is_printed_is_read_again(text: str) -> None:
    value = TorchAsked.parse(text)
    assert TorchAsked.parse(str(value)) == value


@pytest.mark.parametrize("gpu", COMPAT.gpus)
def test_a_gpu_that_is_printed_is_read_again(gpu: str) -> None:
    assert COMPAT.gpu_name(gpu) == COMPAT.gpu_name(gpu.lower()) == COMPAT.gpu_name(f"NVIDIA {gpu}") == gpu
