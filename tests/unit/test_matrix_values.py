"""The small values: every accepted form, the canonical form, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix import Abi, Arch, Cuda, Driver, PythonVersion


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


@pytest.mark.parametrize(
    ("text", "tag"), [("12.8", "cu128"), ("13.0", "cu130"), ("11.8", "cu118"), ("cpu", "cpu"), ("rocm6.4", "rocm6.4")]
)
def test_cuda_round_trips_and_names_its_index(text: str, tag: str) -> None:
    assert str(Cuda.parse(text)) == text
    assert Cuda.parse(text).tag == tag
    assert Cuda.parse(text).is_cpu == (text == "cpu")
    assert Cuda.parse(text).is_rocm == text.startswith("rocm")


@pytest.mark.parametrize("text", ["8.6", "86", "sm_86"])
def test_arch_reads_three_forms(text: str) -> None:
    assert str(Arch.parse(text)) == "sm_86"
    assert Arch.parse(text).capability == "8.6"


def test_arch_of_two_digit_majors() -> None:
    assert Arch.parse("100") == Arch.parse("10.0") == Arch.parse("sm_100") == Arch(10, 0)
    assert Arch(9, 0) < Arch(10, 0)


@pytest.mark.parametrize(
    ("code", "gpu", "runs"),
    [
        ("8.0", "8.6", True),
        ("8.0", "8.9", True),
        ("8.6", "8.0", False),
        ("8.9", "9.0", False),
        ("10.0", "10.3", True),
        ("9.0a", "9.0", True),
        ("10.0a", "10.3", False),  # for this very architecture
        ("10.0f", "10.3", True),  # for its family
        ("8.0", "8.7", False),  # an Orin is a Tegra: it runs its own code only
        ("8.6", "8.7", False),
        ("8.7", "8.7", True),
        ("8.7", "8.9", False),
    ],
)
def test_a_cubin_runs_within_its_major(code: str, gpu: str, runs: bool) -> None:
    assert Arch.parse(code).cubin_runs_on(Arch.parse(gpu)) is runs


@pytest.mark.parametrize(
    ("text", "written"),
    [("535.247.01", "535.247.01"), ("535.247.1", "535.247.01"), ("580.65", "580.65"), ("470.82.00", "470.82.00"),
     ("580", "580")],
)  # fmt: skip
def test_a_driver_is_printed_as_nvidia_writes_it(text: str, written: str) -> None:
    assert str(Driver.parse(text)) == written


@pytest.mark.parametrize(
    ("driver", "floor", "reaches"),
    [
        ("535.247.01", "550", False),
        ("550.54.14", "550", True),
        ("525.60.12", "525.60.13", False),
        ("525.60.13", "525.60.13", True),
        ("525.105.17", "525.60.13", True),  # numbers, not text
        ("570", "570.86.10", True),  # a branch reaches every floor within it
        ("1000.10", "580.65.06", True),
    ],
)
def test_drivers_are_compared_as_far_as_they_are_known(driver: str, floor: str, reaches: bool) -> None:
    assert Driver.parse(driver).reaches(Driver.parse(floor)) is reaches


@pytest.mark.parametrize("parse", [Driver.parse, PythonVersion.parse, Cuda.parse, Arch.parse, Abi.parse])
@given(text=st.text(max_size=12))
def test_anything_else_is_a_value_error(parse, text: str) -> None:  # type: ignore[no-untyped-def]
    try:
        value = parse(text)
    except ValueError:
        return
    assert parse(str(value)) == value
