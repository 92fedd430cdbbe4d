"""Trust decides before version, and the reason says what it decided."""

from __future__ import annotations

from dataclasses import replace

import pytest
from packaging.version import Version

from matrix import Abi, Arch, Cell, Cuda, PythonVersion, load_project
from wheel_resolver.core.facts import Facts, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.resolve import Match, resolve
from wheel_resolver.core.wheel import Wheel

COMPAT = load_project().compat
CELL = Cell(
    PythonVersion.parse("3.12"), Version("2.11.0"), Cuda.parse("12.8"), Abi.TRUE, Arch(8, 6), "A10G", "linux_x86_64"
)
CAVEAT = "; its SASS is inferred: its tag's build recipe does not list this wheel"


def wheel(provider: str, version: str, torch: str = "2.11") -> Wheel:
    """No recipe lists a wheel for torch 2.11, whoever has it."""
    text = f"flash_attn-{version}+cu12torch{torch}cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
    name = WheelName.parse(text)
    assert name is not None
    return Wheel(name, text, f"https://example.org/{text}", "0" * 64, None, "v1", provider, None)


@pytest.mark.parametrize(
    ("wheels", "chosen", "words"),
    [
        ([wheel("a", "2.8.2"), wheel("b", "2.8.3"), wheel("c", "2.8.2")], "a", "; b has 2.8.3, and is trusted less"),
        ([wheel("b", "2.8.3")], "b", "; a, trusted more, has no wheel that fits"),
        (
            [wheel("c", "2.8.2")],
            "c",
            "; a, trusted more, has no wheel that fits; b, trusted more, has no wheel that fits",
        ),
        ([wheel("a", "2.8.2", "2.10"), wheel("b", "2.8.2")], "b", "; a, trusted more, has one for another torch only"),
        ([wheel("a", "2.8.2"), wheel("b", "2.8.2")], "a", ""),
        ([wheel("a", "2.8.2"), wheel("stranger", "2.8.3")], "a", ""),
    ],
)
def test_the_reason_says_what_trust_decided(wheels: list[Wheel], chosen: str, words: str) -> None:
    policy = replace(default_policy(COMPAT, trust=("a", "b", "c")), reuse=True)
    resolution = resolve(CELL, WheelIndex(wheels, Facts(COMPAT), policy))
    assert isinstance(resolution, Match)
    assert resolution.wheel.provider == chosen
    assert resolution.reason.partition("sm_86)")[2] == CAVEAT + words


def test_one_provider_leaves_nothing_to_say() -> None:
    official = COMPAT.flash_attn.repository
    resolution = resolve(CELL, WheelIndex([wheel(official, "2.8.2")], Facts(COMPAT), default_policy(COMPAT)))
    assert resolution.reason.endswith(f"A10G (sm_86){CAVEAT}")
