"""What each wheel of the shipped snapshot is and where it runs, worked out a second time without the product's code.

It reads raw data only: names and tags of ``snapshot.json``, how tags were built from ``builds.yaml``, and which builds
of torch exist with which ABI from the raw ``compat.yaml``.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.version import Version

_ROOT = Path(__file__).resolve().parents[2]
_SNAPSHOT = _ROOT / "wheel_resolver" / "upstream" / "snapshot.json"
_BUILDS = yaml.safe_load(Path(__file__).with_name("builds.yaml").read_text(encoding="utf-8"))
_TORCH = yaml.safe_load((_ROOT / "matrix" / "compat.yaml").read_text(encoding="utf-8"))["torch"]
_NAME = re.compile(
    r"flash_attn-(?P<version>[^+]+)\+cu(?P<major>\d\d)\d?torch(?P<torch>[\d.]+)cxx11abi(?P<abi>TRUE|FALSE)"
    r"-(?P<python>cp\d+)-(?P=python)-(?P<platform>linux_x86_64|linux_aarch64)\.whl"
)
_RECIPES = {tag: build for build in _BUILDS["builds"] for tag in build["tags"]}


@dataclass(frozen=True)
class Truth:
    """A wheel as it really is.

    ``fault``: why it can be given for nothing: ``mislabelled``, ``pre-release`` or ``unknown ABI``; else None.
    ``least``: the oldest glibc. ``driver``: the first branch that loads it; 0 for any of its CUDA's.
    """

    name: str
    version: Version
    cuda_major: int
    torch: str
    label: str
    python: str
    platform: str
    listed: bool
    abi: str | None
    fault: str | None
    least: Version
    driver: int
    sass: tuple[str, ...]


@dataclass(frozen=True)
class Build:
    """A build of torch that is known to exist, on one Python and platform."""

    torch: str
    cuda: str
    python: str
    platform: str
    abi: str


def minor(version: str) -> str:
    """``2.9`` of ``2.9.1``."""
    return ".".join(version.split(".")[:2])


def torch_abi(torch: str, cuda: str, platform: str) -> str:
    """The ABI that an official build of torch has."""
    row = _TORCH[minor(torch)]
    for other in row.get("abi_exceptions", ()):
        if other.get("cuda", cuda) == cuda and other.get("platform", platform) == platform:
            return str(other["abi"])
    return str(row["abi"])


def wheels() -> Iterator[Truth]:
    """Every wheel that the snapshot lists; one of two tags counts as its own tag's."""
    tags: dict[str, set[str]] = {}
    for release in json.loads(_SNAPSHOT.read_text(encoding="utf-8"))["releases"]:
        for asset in release["assets"]:
            tags.setdefault(asset[0], set()).add(release["tag"])
    for name, listed_by in tags.items():
        yield _truth(name, listed_by)


def _truth(name: str, tags: set[str]) -> Truth:
    found = _NAME.fullmatch(name)
    assert found is not None, name
    version, major, torch, label, tag, platform = found.group("version", "major", "torch", "abi", "python", "platform")
    own = f"v{version}"
    recipe = _RECIPES.get(own) if own in tags else None
    compiled = None if recipe is None else next((each for each in recipe["torch"] if minor(each) == torch), None)
    python = f"3.{tag[3:]}"
    listed = (
        recipe is not None
        and compiled is not None
        and python in recipe["python"]
        and major in recipe["toolkits"]
        and platform == "linux_x86_64"
    )
    if listed:
        assert recipe is not None
        assert compiled is not None
        abi, least = _compiled_abi(recipe, compiled, major), _BUILDS["runners"][recipe["runner"]]
        sass, driver = _compiled_sass(recipe, major), _BUILDS["compressed_needs_driver"] if recipe["compressed"] else 0
    else:
        abi, least, sass = _only_abi(torch, major, platform), _BUILDS["later_uploads_glibc"], _measured_sass(version)
        compressed = any(_RECIPES[each]["compressed"] for each in {*tags, own} & _RECIPES.keys())
        driver = _BUILDS["compressed_needs_driver"] if compressed else 0
    if Version(version) >= Version(_BUILDS["measured_glibc"]["from"]):
        least = _BUILDS["measured_glibc"]["needs"]
    abi = "TRUE" if label == "TRUE" else abi
    fault = None
    if listed and compiled is not None and Version(compiled).is_prerelease:
        fault = "pre-release"
    elif abi is None:
        fault = "unknown ABI"
    elif abi != label:
        fault = "mislabelled"
    return Truth(
        name,
        Version(version),
        int(major),
        torch,
        label,
        python,
        platform,
        listed,
        abi,
        fault,
        Version(least),
        driver,
        sass,
    )


def _compiled_abi(recipe: Any, compiled: str, major: str) -> str | None:
    cuda = recipe["torch"][compiled].get(major)
    return None if cuda is None or Version(compiled).is_prerelease else torch_abi(compiled, cuda, "linux_x86_64")


def _compiled_sass(recipe: Any, major: str) -> tuple[str, ...]:
    asked = ["8.0", "9.0"] if recipe["archs"] == "fixed" else recipe["archs"]
    toolkit = Version(recipe["toolkits"][major])
    return tuple(arch for arch in asked if Version(_BUILDS["nvcc_knows"][arch]) <= toolkit)


def _only_abi(torch: str, major: str, platform: str) -> str | None:
    row = _TORCH[torch]
    cudas = [*row["cuda"], *row.get("cuda_unannounced", ())]
    found = {torch_abi(torch, cuda, platform) for cuda in cudas if cuda.split(".")[0] == major}
    return found.pop() if len(found) == 1 else None


def _measured_sass(version: str) -> tuple[str, ...]:
    return next(tuple(row["sass"]) for row in _BUILDS["measured_sass"] if Version(version) <= Version(row["to"]))


def runs(wheel: Truth, build: Build, gpu: str, driver: int, glibc: str) -> bool:
    """Whether a wheel runs on a build of torch, on a GPU by its compute capability, a driver branch and a glibc."""
    return (
        wheel.fault is None
        and (wheel.platform, wheel.torch, wheel.python) == (build.platform, minor(build.torch), build.python)
        and wheel.cuda_major == int(build.cuda.split(".")[0])
        and wheel.abi == build.abi
        and not (build.torch == "2.2.0" and wheel.torch == "2.2")  # built on 2.2.2, and seen to fail
        and driver >= wheel.driver
        and Version(glibc) >= wheel.least
        and _gpu_runs(wheel, gpu)
    )


def _gpu_runs(wheel: Truth, gpu: str) -> bool:
    major, number = gpu.split(".")
    if int(major) < 8:
        return False
    if wheel.version < Version(_BUILDS["gate_opened"]) and not (major == "8" or gpu == "9.0"):
        return False
    if gpu in _BUILDS["tegra"]:
        return gpu in wheel.sass
    return any(code.split(".")[0] == major and int(code.split(".")[1]) <= int(number) for code in wheel.sass)


def builds() -> Iterator[Build]:
    """Every CUDA build of torch that is known to exist, for every Python."""
    for row in _TORCH.values():
        cudas = [*row["cuda"], *row.get("cuda_unannounced", ())]
        for torch, cuda, python in itertools.product(row["patches"], cudas, row["python"]):
            for platform in ("linux_x86_64", "linux_aarch64"):
                yield Build(torch, cuda, python, platform, torch_abi(torch, cuda, platform))
