"""Every wheel of the shipped snapshot, against what it really is (``truth.py``, ``builds.yaml``).

Labels of 50 wheels are wrong, those built on pre-releases of torch are evidence for no release, and 31 were uploaded
later than their tag's recipe. Source: https://github.com/Dao-AILab/flash-attention, publish.yml and setup.py at each
tag; https://github.com/Dao-AILab/flash-attention/issues/1783 and /1749.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
from packaging.version import Version

from matrix import Abi, Arch, Cell, Cuda, Driver, PythonVersion, load_project
from tests.field import truth
from wheel_resolver.core.facts import Facts, Policy, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.resolve import Match, Unsupported, explain, resolve
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.catalogue import build_catalogue

PROJECT = load_project()
FACTS = Facts(PROJECT.compat, PROJECT.known_broken)
SHIPPED = {
    wheel.filename: wheel
    for wheel in build_catalogue(
        snapshot.read().releases, repository=PROJECT.compat.flash_attn.repository, origin="https://github.com",
        source="snapshot", as_of="", stale=False,
    ).wheels
}  # fmt: skip
TRUE = {wheel.name: wheel for wheel in truth.wheels()}
BUILDS = list(truth.builds())
GPUS = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1")
#: Driver and glibc of a machine; driver 999 stands for one that is not known. No runner had a glibc as old as 2.28.
TOO_OLD = (580, "2.28")
MACHINES = ((999, "2.36"), (535, "2.35"), (549, "2.32"), (550, "2.31"), TOO_OLD)


def policy(driver: int = 999, glibc: str = "2.36") -> Policy:
    known = None if driver == 999 else Driver(driver, 54, 14)
    return replace(default_policy(PROJECT.compat), driver=known, glibc=Version(glibc))


def cell(build: truth.Build, gpu: str = "8.0") -> Cell:
    python, torch, cuda = PythonVersion.parse(build.python), Version(build.torch), Cuda.parse(build.cuda)
    return Cell(python, torch, cuda, Abi(build.abi), Arch.parse(gpu), None, build.platform)


@functools.cache
def index(machine: tuple[int, str] = MACHINES[0], *, reuse: bool = False) -> WheelIndex:
    return WheelIndex(SHIPPED.values(), FACTS, replace(policy(*machine), reuse=reuse))


def named(pattern: str) -> list[str]:
    return [name for name in TRUE if re.fullmatch(pattern, name)]


def own_builds(wheel: truth.Truth) -> list[truth.Build]:
    """The builds of torch that a wheel is for by its name, whatever their ABI."""
    return [
        build
        for build in BUILDS
        if (truth.minor(build.torch), build.python, build.platform) == (wheel.torch, wheel.python, wheel.platform)
        and build.cuda.startswith(f"{wheel.cuda_major}.")
    ]


MISLABELLED = named(r"flash_attn-2\.8\..*torch2\.[678]cxx11abiFALSE.*")
ON_PRE_RELEASES = named(r"flash_attn-2\.7\.(?:1\.post[1-4]|2|2\.post1|3)\+.*torch2\.6cxx11.*")
LATER = [wheel for wheel in TRUE.values() if not wheel.listed]


def test_both_readings_of_the_snapshot_know_the_same_wheels() -> None:
    assert TRUE.keys() == SHIPPED.keys()
    assert Counter(wheel.fault for wheel in TRUE.values() if wheel.listed) == {
        None: len(TRUE) - len(LATER) - 50 - len(ON_PRE_RELEASES),
        "mislabelled": 50,
        "pre-release": len(ON_PRE_RELEASES),
    }


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_no_wheel_is_given_that_does_not_fit_and_none_is_kept_back(machine: tuple[int, str]) -> None:
    """Each wheel for each build of torch that it names, on every kind of GPU."""
    by_build: dict[tuple[str, str, str], list[truth.Truth]] = {}
    for wheel in TRUE.values():
        by_build.setdefault((wheel.torch, wheel.python, wheel.platform), []).append(wheel)
    wrong, right = [], 0
    for build in BUILDS:
        near = by_build.get((truth.minor(build.torch), build.python, build.platform), [])
        for gpu in GPUS:
            fitting = {wheel.name for wheel in near if truth.runs(wheel, build, gpu, *machine)}
            given = {wheel.filename for wheel in index(machine).fitting(cell(build, gpu))}
            right += len(fitting)
            wrong += [(build, gpu, name, name in fitting) for name in fitting ^ given]
    assert wrong == []
    assert (right > 0) is (machine != TOO_OLD)


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_of_what_fits_the_newest_is_given_with_its_evidence(machine: tuple[int, str]) -> None:
    given = 0
    for build in BUILDS:
        resolution = resolve(cell(build, "8.6"), index(machine))
        if isinstance(resolution, Unsupported):
            continue
        fitting = [wheel for wheel in TRUE.values() if truth.runs(wheel, build, "8.6", *machine)]
        assert isinstance(resolution, Match) == bool(fitting), build
        if isinstance(resolution, Match):
            wheel = TRUE[resolution.wheel.filename]
            assert wheel.version == max(each.version for each in fitting)
            assert resolution.build.evidence == ("recipe" if wheel.listed else "label")
            assert ("inferred" in resolution.reason) is not wheel.listed
            given += 1
    assert (given > 0) is (machine != TOO_OLD)


def asked_anything(names: Iterable[str]) -> set[str]:
    """The wheels, out of some, that are given for any torch, CUDA, Python, ABI and GPU, with and without reuse."""
    kept, bare = [SHIPPED[name] for name in names], replace(policy(), glibc=None)
    alone = [WheelIndex(kept, FACTS, replace(bare, reuse=reuse)) for reuse in (False, True)]
    return {
        wheel.filename
        for build in BUILDS
        for abi in Abi
        for gpu in ("8.0", "9.0", "10.0")
        for only in alone
        for wheel in only.fitting(replace(cell(build, gpu), abi=abi))
    }


def test_the_50_mislabelled_wheels_are_refused_whatever_is_asked() -> None:
    listed = [name for name in MISLABELLED if TRUE[name].listed]
    assert len(listed) == 50
    assert asked_anything(MISLABELLED) == set()


@pytest.mark.parametrize("name", MISLABELLED)
def test_a_mislabelled_wheel_says_what_it_is(name: str) -> None:
    wheel = TRUE[name]
    only = WheelIndex([SHIPPED[name]], FACTS, policy())
    for build in own_builds(wheel):
        (rejection,) = explain(replace(cell(build), abi=Abi.FALSE), only)
        assert rejection.rule == "label"
        assert rejection.detail.startswith("labelled ABI FALSE, but ")
        assert "ABI is TRUE" in rejection.detail or "has ABI TRUE" in rejection.detail


def test_wheels_built_on_a_pre_release_are_given_for_none() -> None:
    assert len(ON_PRE_RELEASES) > 50
    assert asked_anything(ON_PRE_RELEASES) == set()


@pytest.mark.parametrize("name", [name for name in ON_PRE_RELEASES if "-cp312-" in name])
def test_a_wheel_built_on_a_pre_release_says_so(name: str) -> None:
    only = WheelIndex([SHIPPED[name]], FACTS, policy())
    for build in own_builds(TRUE[name]):
        (rejection,) = explain(replace(cell(build), abi=Abi(TRUE[name].label)), only)
        assert rejection.rule == "prerelease"
        assert re.match(r"built on torch 2\.6\.0\.dev202410\d\d, a pre-release", rejection.detail)


@pytest.mark.parametrize("name", [name for name in ON_PRE_RELEASES if "abiTRUE-cp312-" in name])
def test_a_wheel_built_on_a_pre_release_is_a_nearest_miss_with_that_reason(name: str) -> None:
    only = WheelIndex([SHIPPED[name]], FACTS, policy())
    for build in own_builds(TRUE[name]):
        resolution = resolve(replace(cell(build), abi=Abi.TRUE), only)
        assert not isinstance(resolution, Match | Unsupported)
        assert [miss.wheel for miss in resolution.nearest] == [name]
        assert "a pre-release" in resolution.nearest[0].detail


def test_the_wheels_that_no_recipe_lists_are_the_31_that_are_known() -> None:
    """Of 31 assets one stands at two tags."""
    assert len(LATER) == 30
    assert all(
        wheel.torch in {"2.9", "2.10"}
        or wheel.platform == "linux_aarch64"
        or (str(wheel.version), wheel.torch) in {("2.7.4.post1", "2.7"), ("2.7.3", "2.8"), ("2.8.1", "2.8")}
        for wheel in LATER
    )


@pytest.mark.parametrize("wheel", LATER, ids=lambda wheel: wheel.name)
def test_a_wheel_that_no_recipe_lists(wheel: truth.Truth) -> None:
    """ABI of its torch, glibc 2.32, driver 550 of 2.8.1; a yes says that its SASS is inferred."""
    fits_somewhere = False
    for build in own_builds(wheel):
        asked = cell(build)
        enough = resolve(asked, _only(wheel, 550, "2.32"))
        if isinstance(enough, Unsupported):  # torch for CUDA 13 needs driver 580
            enough = resolve(asked, _only(wheel, 580, "2.32"))
        if isinstance(enough, Unsupported):  # torch 2.7 for aarch64 has no code for an A100
            continue
        assert isinstance(enough, Match) == (wheel.label == "TRUE")
        assert not isinstance(resolve(asked, _only(wheel, 580, "2.31")), Match)
        if isinstance(enough, Match):
            fits_somewhere = True
            assert enough.build.evidence == "label"
            assert "its SASS is inferred: its tag's build recipe does not list this wheel" in enough.reason
            old = resolve(asked, _only(wheel, 535, "2.32"))
            assert isinstance(old, Match) == (wheel.version != Version("2.8.1") and build.cuda.startswith("12"))
    assert fits_somewhere == (wheel.label == "TRUE")


def _only(wheel: truth.Truth, driver: int, glibc: str) -> WheelIndex:
    return WheelIndex([SHIPPED[wheel.name]], FACTS, policy(driver, glibc))


def test_the_gpus_of_the_reference_targets_keep_their_wheel() -> None:
    wanted = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
    for name in ("a10g", "h100"):
        for asked in PROJECT.matrix.targets[name].cells(PROJECT.compat):
            best: Wheel | None = index().best(asked)
            assert best is not None
            assert best.filename == wanted
