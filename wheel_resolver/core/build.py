"""What a wheel really is, property by property, and what each answer rests on. A label in a file name is a claim.

    the tag's recipe lists the wheel    recipe      torch, ABI, driver, glibc and SASS of what compiled it
    no recipe lists it                  label       ABI of its torch, where that has only one; SASS as its version's
    its bytes were looked into          inspected   what they say, whatever name and recipe say
    it was imported                     loaded      the same, and that it loads

A yes on an inferred ABI, driver or glibc would break an import: these are asked for at their strictest, or not given.
A yes on inferred SASS is given and marked: who calls the kernel tries it in a child process first.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, replace
from enum import StrEnum

from packaging.version import Version

from matrix import Abi, BuildRecipe, CodeFor, Driver
from wheel_resolver.core.facts import Facts, Inspection
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.wheel import Wheel

_MANYLINUX = re.compile(r"manylinux_(\d{1,3})_(\d{1,3})_")

#: The names that older manylinux tags have in PEP 600.
_BEFORE_PEP_600 = {
    "manylinux1_": "manylinux_2_5_",
    "manylinux2010_": "manylinux_2_12_",
    "manylinux2014_": "manylinux_2_17_",
}


class Evidence(StrEnum):
    """What an answer on a wheel rests on, the weakest first."""

    LABEL = "label"
    RECIPE = "recipe"
    INSPECTED = "inspected"
    LOADED = "loaded"


@dataclass(frozen=True, slots=True)
class Build:
    """What a wheel is; None where that is not known.

    Attributes:
        torch: the very torch that it was compiled against.
        abi: the C++ ABI of that torch.
        fault: what contradicts the wheel's own name, or its recipe: nobody can rely on it then.
        code: the GPU code that it holds.
        glibc: the glibc that it needs at most.
        driver: the first driver that loads it, where its own code asks for more than its CUDA does.
        inferred: the properties that rest on neither recipe nor bytes, in the words of a sentence.
    """

    evidence: Evidence
    torch: Version | None
    abi: Abi | None
    fault: str | None
    code: CodeFor | None
    glibc: Version | None
    driver: Driver | None
    inferred: tuple[str, ...] = ()

    @property
    def caveat(self) -> str:
        """The end of a reason that rests on something inferred; nothing where none does."""
        if not self.inferred:
            return ""
        are = "are" if len(self.inferred) > 1 else "is"
        return f"; its {' and '.join(self.inferred)} {are} inferred: its tag's build recipe does not list this wheel"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A wheel and what it really is: what rules judge."""

    wheel: Wheel
    build: Build


def judged(wheel: Wheel, facts: Facts) -> Candidate:
    """Put together what is known of a wheel."""
    return Judge(facts).judge(wheel)


class Judge:
    """Puts together what is known of wheels; those that differ in their Python alone are judged once."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._versions: dict[str, _OfVersion] = {}
        self._builds: dict[Hashable, Build] = {}

    def judge(self, wheel: Wheel) -> Candidate:
        """What a wheel really is."""
        recipe, name = recipe_of(wheel, self._facts), wheel.name
        official = wheel.provider == self._facts.compat.flash_attn.repository
        tag = wheel.tag if official else None
        key = (recipe is None, tag, name.version, name.torch_minor, name.cuda, name.abi, name.platform)
        build = self._builds.get(key)
        if build is None:
            build = self._unlisted(wheel) if recipe is None else self._by_recipe(wheel, recipe)
            self._builds[key] = build
        seen = self._facts.inspected.get(wheel.sha256) if wheel.sha256 is not None else None
        return Candidate(wheel, build if seen is None else _by_bytes(build, seen, self._facts))

    def _by_recipe(self, wheel: Wheel, recipe: BuildRecipe) -> Build:
        name, known = wheel.name, self._facts.compat.flash_attn
        torch = recipe.torch[name.torch_minor]
        cuda = torch.cuda.get(name.cuda_major)
        abi: Abi | None = Abi.TRUE
        if name.abi is not Abi.TRUE:
            unknown = cuda is None or torch.version.is_prerelease
            abi = None if unknown or cuda is None else self._facts.compat.abi(torch.version, cuda, name.platform)
        return Build(
            evidence=Evidence.RECIPE,
            torch=torch.version,
            abi=abi,
            fault=_mislabelled(
                wheel, abi, f"it was built with torch {torch.version} for CUDA {cuda}, whose ABI is TRUE"
            ),
            code=known.code_compiled(recipe, name.cuda_major),
            glibc=self._version(name).glibc or known.runners[recipe.runner],
            driver=known.compressed_driver if recipe.compressed else None,
        )

    def _unlisted(self, wheel: Wheel) -> Build:
        """A wheel of another provider, or one that was uploaded to its tag later."""
        name, known = wheel.name, self._facts.compat.flash_attn
        version, later = self._version(name), known.later_uploads.glibc
        abi = Abi.TRUE if name.abi is Abi.TRUE else _only_abi(wheel, self._facts)
        tagged = known.recipes.get(wheel.tag) if wheel.provider == known.repository else None
        return Build(
            evidence=Evidence.LABEL,
            torch=None,
            abi=abi,
            fault=_mislabelled(wheel, abi, f"every build of torch {name.torch_minor} has ABI TRUE"),
            code=version.code,
            glibc=promised_glibc(name.platform) or max(version.glibc or later, later),
            driver=known.compressed_driver if version.compressed or (tagged and tagged.compressed) else None,
            inferred=("SASS",),
        )

    def _version(self, name: WheelName) -> _OfVersion:
        if name.version not in self._versions:
            known = self._facts.compat.flash_attn
            recipe = known.recipes.get(f"v{name.version}")
            self._versions[name.version] = _OfVersion(
                known.code_in(name.flash_attn),
                known.glibc_measured(name.flash_attn),
                recipe is not None and recipe.compressed,
            )
        return self._versions[name.version]


@dataclass(frozen=True, slots=True)
class _OfVersion:
    """What was found inside the official wheels of a version, and whether its source compresses GPU code."""

    code: CodeFor | None
    glibc: Version | None
    compressed: bool


def recipe_of(wheel: Wheel, facts: Facts) -> BuildRecipe | None:
    """The recipe that built an official wheel; None where its tag's lists no such wheel.

    The tag v2.8.3.post1 carries a 2.8.3 wheel for torch 2.9: no recipe lists it.
    """
    known, name = facts.compat.flash_attn, wheel.name
    if wheel.provider != known.repository or name.platform != "linux_x86_64":
        return None
    tag = f"v{name.version}"
    recipe = known.recipes.get(tag) if wheel.tag in {tag, ""} else None
    if recipe is None or name.python not in recipe.pythons or name.python != name.python_abi:
        return None
    toolkit = recipe.toolkits.get(name.cuda_major)
    named = toolkit is not None and name.cuda_minor in {None, toolkit.minor} and name.abi is not None
    return recipe if named and name.torch_minor in recipe.torch else None


def _only_abi(wheel: Wheel, facts: Facts) -> Abi | None:
    """The C++ ABI that all official builds of the wheel's torch and CUDA have; None where they differ.

    Torch 2.6 for CUDA 12.4 is FALSE and for CUDA 12.6 is TRUE, so that ``cu12torch2.6`` alone says neither.
    """
    known = facts.compat.torch.get(wheel.name.torch_minor)
    if known is None:
        return None
    platform = "linux_aarch64" if wheel.name.platform.endswith("aarch64") else "linux_x86_64"
    builds = [cuda for cuda in known.cuda if cuda.major == wheel.name.cuda_major]
    exact = [cuda for cuda in builds if cuda.minor == wheel.name.cuda_minor]
    found = {facts.compat.abi(known.patches[-1], cuda, platform) for cuda in exact or builds}
    return found.pop() if len(found) == 1 else None if found else known.abi


def _mislabelled(wheel: Wheel, abi: Abi | None, truth: str) -> str | None:
    return f"labelled ABI FALSE, but {truth}" if wheel.name.abi is Abi.FALSE and abi is Abi.TRUE else None


def _by_bytes(build: Build, seen: Inspection, facts: Facts) -> Build:
    """What was seen stands; what could not be seen stays as it was."""
    made = replace(
        build,
        evidence=Evidence.LOADED if seen.loaded else Evidence.INSPECTED,
        abi=seen.abi or build.abi,
        glibc=seen.glibc or build.glibc,
    )
    if seen.refusal is not None:
        made = replace(made, fault=seen.refusal)
    if seen.compressed is not None:
        made = replace(made, driver=facts.compat.flash_attn.compressed_driver if seen.compressed else None)
    if seen.sass is not None:
        made = replace(made, code=CodeFor(seen.sass, None), inferred=())
    return made


def promised_glibc(platform: str) -> Version | None:
    """The oldest glibc that a set of platform tags promises to run on; None where one of them promises nothing.

    >>> promised_glibc("manylinux_2_24_x86_64.manylinux2014_x86_64"), promised_glibc("linux_x86_64")
    (<Version('2.17')>, None)
    """
    promised = []
    for tag in platform.split("."):
        name = next((new + tag.removeprefix(old) for old, new in _BEFORE_PEP_600.items() if tag.startswith(old)), tag)
        found = _MANYLINUX.match(name)
        if found is None:
            return None
        promised.append(Version(f"{found[1]}.{found[2]}"))
    return min(promised)
