"""The grammar of wheel names: what it writes it reads, and it reads every name of the shipped snapshot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix import Abi
from wheel_resolver.core.names import WheelName
from wheel_resolver.upstream import snapshot

numbers = st.integers(0, 99).map(str)
versions = st.builds(
    lambda parts, end: ".".join(parts) + end,
    st.lists(numbers, min_size=1, max_size=4),
    st.sampled_from(["", ".post1", ".post2", "rc1", "a1", "b2", ".dev3"]),
)
machines = ["x86_64", "aarch64"]
linux = st.sampled_from(["linux", "manylinux1", "manylinux2014", "manylinux_2_24", "manylinux_2_28", "musllinux_1_2"])
linux_tags = st.builds("{}_{}".format, linux, st.sampled_from(machines))
platforms = st.one_of(st.just("win_amd64"), st.lists(linux_tags, min_size=1, max_size=3).map(".".join))
pythons = st.sampled_from(["cp37", "cp38", "cp39", "cp310", "cp312", "cp313", "cp315"])
names = st.builds(
    WheelName,
    version=versions,
    cuda=st.sampled_from(["11", "12", "13", "116", "123", "128", "130"]),
    torch=st.sampled_from(["1.12", "2.0", "2.9", "2.9.1", "2.10", "2.15"]),
    abi=st.sampled_from([Abi.TRUE, Abi.FALSE, None]),
    python=pythons,
    python_abi=st.sampled_from(["cp37m", "cp312", "cp313t", "abi3"]),
    platform=platforms,
    build=st.sampled_from([None, None, "1", "2build"]),
)


@given(names)
def test_what_it_writes_it_reads(name: WheelName) -> None:
    assert WheelName.parse(name.format()) == name


@given(st.text(max_size=80))
def test_other_text_is_no_wheel(text: str) -> None:
    name = WheelName.parse(text)
    assert name is None or name.format() == text


def test_it_reads_every_name_of_the_snapshot() -> None:
    assets = [asset.name for release in snapshot.read().releases for asset in release.assets]
    assert len(assets) == 832
    for text in assets:
        name = WheelName.parse(text)
        assert name is not None, text
        assert name.format() == text


@pytest.mark.parametrize(
    ("cuda", "major", "minor"), [("11", 11, None), ("118", 11, 8), ("12", 12, None), ("123", 12, 3), ("130", 13, 0)]
)
def test_cuda_with_and_without_its_minor(cuda: str, major: int, minor: int | None) -> None:
    name = WheelName.parse(f"flash_attn-2.8.3+cu{cuda}torch2.9-cp312-cp312-linux_x86_64.whl")
    assert name is not None
    assert (name.cuda_major, name.cuda_minor) == (major, minor)


def test_a_torch_patch_is_of_its_minor() -> None:
    name = WheelName.parse("flash_attn-2.8.3+cu128torch2.9.1-cp312-cp312-linux_x86_64.whl")
    assert name is not None
    assert (name.torch_minor, name.abi, str(name.flash_attn)) == ("2.9", None, "2.8.3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # name: version, CUDA, torch, ABI, Python, ABI tag, platform, build
        (
            "flash_attn-2.0.4+cu116torch1.12cxx11abiFALSE-cp37-cp37m-linux_x86_64.whl",
            ("2.0.4", "116", "1.12", Abi.FALSE, "cp37", "cp37m", "linux_x86_64", None),
        ),
        (
            "flash_attn-2.5.9.post1+cu122torch2.3cxx11abiTRUE-cp310-cp310-linux_x86_64.whl",
            ("2.5.9.post1", "122", "2.3", Abi.TRUE, "cp310", "cp310", "linux_x86_64", None),
        ),
        (
            "flash_attn-2.6.3+cu123torch2.4cxx11abiFALSE-cp312-cp312-linux_x86_64.whl",
            ("2.6.3", "123", "2.4", Abi.FALSE, "cp312", "cp312", "linux_x86_64", None),
        ),
        (
            "flash_attn-2.8.1+cu13torch2.10cxx11abiTRUE-cp313-cp313-linux_aarch64.whl",
            ("2.8.1", "13", "2.10", Abi.TRUE, "cp313", "cp313", "linux_aarch64", None),
        ),
        (
            "flash_attn-2.8.3+cu128torch2.10-cp312-cp312-linux_x86_64.whl",
            ("2.8.3", "128", "2.10", None, "cp312", "cp312", "linux_x86_64", None),
        ),
        (
            "flash_attn-2.8.3+cu130torch2.9-cp313-cp313t-linux_x86_64.whl",
            ("2.8.3", "130", "2.9", None, "cp313", "cp313t", "linux_x86_64", None),
        ),
        (
            "flash_attn-2.7.4+cu126torch2.6.0cxx11abiFALSE-cp311-cp311-win_amd64.whl",
            ("2.7.4", "126", "2.6.0", Abi.FALSE, "cp311", "cp311", "win_amd64", None),
        ),
        (
            "flash_attn-2.8.3+cu128torch2.9.1-1-cp39-abi3-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
            ("2.8.3", "128", "2.9.1", None, "cp39", "abi3", "manylinux_2_24_x86_64.manylinux_2_28_x86_64", "1"),
        ),
    ],
)
def test_names_of_the_field(text: str, expected: tuple[object, ...]) -> None:
    name = WheelName.parse(text)
    assert name is not None
    assert name == WheelName(*expected)  # type: ignore[arg-type]
    assert name.format() == text


@pytest.mark.parametrize(
    "text",
    [
        "flash_attn-2.8.3.tar.gz",
        "flash_attn-2.8.3-cp312-cp312-linux_x86_64.whl",  # built by hand: it does not say for which torch
        "flash_attn_3-3.0.0-cp39-abi3-linux_x86_64.whl",  # another product
        "flash_attn-2.8.3+cu12torch2.9.0a0-cp312-cp312-linux_x86_64.whl",  # a pre-release's interface is its own
        "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl\n",
        "../flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl",
        "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64/../x.whl",
        "flash_attn-2.8.3+cu12torch2.9cxx11abiMAYBE-cp312-cp312-linux_x86_64.whl",
        "flash_attn-٢.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl",
        "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_" + "x" * 10_000 + ".whl",
    ],
)
def test_what_is_no_wheel_name(text: str) -> None:
    assert WheelName.parse(text) is None
