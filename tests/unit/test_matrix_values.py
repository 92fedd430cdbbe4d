"""The small values: every accepted form, the canonical form, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix import Abi, Arch, Cuda, PythonVersion


@pytest.mark.parametrize(("text", "tag"), [("3.12", "cp312"), ("3.9", "cp39"), ("3.13t", "cp313t"), ("3.10", "cp310")])
def test_python_round_trips_and_has_a_wheel_tag(text: str, tag: str) -> None:
    assert str(PythonVersion.parse(text)) == text
    assert PythonVersion.parse(text).tag == tag


def test_pythons_order_as_numbers() -> None:
    assert (
        PythonVersion.parse("3.9")
        < PythonVersion.parse("3.10")
        < PythonVersion.parse("3.13")
        < PythonVersion(3, 13, True)
    )


@pytest.mark.parametrize(("text", "tag"), [("12.8", "cu128"), ("13.0", "cu130"), ("11.8", "cu118"), ("cpu", "cpu")])
def test_cuda_round_trips_and_names_its_index(text: str, tag: str) -> None:
    assert str(Cuda.parse(text)) == text
    assert Cuda.parse(text).tag == tag
    assert Cuda.parse(text).is_cpu == (text == "cpu")


@pytest.mark.parametrize("text", ["8.6", "86", "sm_86"])
def test_arch_reads_three_forms(text: str) -> None:
    assert str(Arch.parse(text)) == "sm_86"
    assert Arch.parse(text).capability == "8.6"


def test_arch_of_two_digit_majors() -> None:
    assert Arch.parse("100") == Arch.parse("10.0") == Arch.parse("sm_100") == Arch(10, 0)
    assert Arch(9, 0) < Arch(10, 0)


@pytest.mark.parametrize(
    ("code", "gpu", "runs"),
    [("8.0", "8.6", True), ("8.0", "8.9", True), ("8.6", "8.0", False), ("8.9", "9.0", False), ("10.0", "10.3", True)],
)
def test_a_cubin_runs_within_its_major(code: str, gpu: str, runs: bool) -> None:
    assert Arch.parse(code).cubin_runs_on(Arch.parse(gpu)) is runs


@pytest.mark.parametrize("parse", [PythonVersion.parse, Cuda.parse, Arch.parse, Abi.parse])
@given(text=st.text(max_size=12))
def test_anything_else_is_a_value_error(parse, text: str) -> None:  # type: ignore[no-untyped-def]
    try:
        value = parse(text)
    except ValueError:
        return
    assert parse(str(value)) == value
