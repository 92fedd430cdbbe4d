"""Random universes against brute force: which wheels fit, which is best, and on what evidence.

A universe has build recipes, wheels (some of which their tag's recipe lists), builds of torch, facts and an asker. The
brute force (``fits``, ``place``) is written from the specification in plain conditions and calls no rule of the
product; it looks at the values that the universe was made of, and the product at file names and facts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix import Abi, Arch, BuildRecipe, Cell, CodeFor, Cuda, Driver, KnownBroken, PythonVersion, Reuse, load_project
from matrix.compat import AbiException, Compat
from matrix.flash_attn_facts import GlibcNeed, LaterUploads, RecipeTorch, RuntimeGate, WheelSass
from wheel_resolver.core.facts import Facts, Inspection, Policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.resolve import Fallback, Match, Unsupported, resolve
from wheel_resolver.core.wheel import Wheel

REAL = load_project().compat
OFFICIAL = REAL.flash_attn.repository

VERSIONS = ("2.7.2.post1", "2.7.4", "2.8.1", "2.8.3")
TORCHES = ("2.6", "2.7", "2.8")
CUDAS = ("11.8", "12.4", "12.6", "13.0")
ARCHS = ("8.0", "8.6", "8.7", "9.0", "9.0a", "10.0", "10.0a", "10.0f", "10.3", "12.0", "12.1")
TEGRA = {(5, 3), (6, 2), (7, 2), (8, 7)}
#: What wheels need, as PEP 600 has it.
MANYLINUX = {"manylinux_2_28_x86_64": "2.28", "manylinux2014_x86_64": "2.17", "manylinux_2_34_x86_64": "2.34"}


@dataclass(frozen=True)
class Made:
    """A wheel as it was made up; ``seen``: what was found inside it, None where nobody looked."""

    version: str
    cuda: str
    torch: str
    label: str | None
    python: str
    python_abi: str
    platform: str
    tag: str
    provider: str
    updated_at: str | None
    seen: Inspection | None
    number: int

    @property
    def sha256(self) -> str:
        return f"{self.number:064d}"

    @property
    def filename(self) -> str:
        label = f"cxx11abi{self.label}" if self.label else ""
        return (
            f"flash_attn-{self.version}+cu{self.cuda}torch{self.torch}{label}"
            f"-{self.python}-{self.python_abi}-{self.platform}.whl"
        )

    def wheel(self) -> Wheel:
        name = WheelName.parse(self.filename)
        assert name is not None
        url = f"https://example.org/{self.number}/{self.filename}"
        return Wheel(name, self.filename, url, self.sha256, None, self.tag, self.provider, self.updated_at)


@dataclass(frozen=True)
class Recipe:
    """How a tag's wheels are built; ``torch``: by minor its version, and the CUDA of its build by toolkit major."""

    glibc: str
    pythons: tuple[str, ...]
    toolkits: dict[int, str]
    torch: dict[str, tuple[str, dict[int, str]]]
    archs: tuple[str, ...]
    compressed: bool


@dataclass(frozen=True)
class Universe:
    """Everything that an answer depends on, in plain values."""

    recipes: dict[str, Recipe]
    nvcc: dict[str, str]
    abi: dict[str, str]
    abi_exceptions: dict[str, dict[str, str]]
    measured_glibc: dict[str, str]
    measured_sass: dict[str, tuple[str, ...]]
    later_glibc: str
    compressed_driver: str
    gates: dict[str, tuple[str, str | None]]
    reuse: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]
    broken: tuple[tuple[str, str], ...]
    wheels: tuple[Made, ...]


@dataclass(frozen=True)
class Asker:
    """A cell and a policy, in plain values."""

    python: str
    torch: str
    cuda: str
    abi: str
    gpu: str | None
    platform: str
    trust: tuple[str, ...]
    versions: tuple[str, ...]
    glibc: str | None
    driver: str | None
    reuse: bool


# --- brute force ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """What is known of a wheel."""

    evidence: str
    faulty: bool
    pre_release: bool
    abi: str | None
    glibc: str
    driver: str | None
    sass: tuple[str, ...] | None


def minor(version: str) -> str:
    return ".".join(version.split(".")[:2]).split("a")[0]


def abi_of(universe: Universe, torch: str, cuda: str) -> str:
    return universe.abi_exceptions[torch].get(cuda, universe.abi[torch])


def known_of(made: Made, universe: Universe) -> Known:
    """ABI, glibc, driver and SASS of a wheel: by its bytes, else by its tag's recipe, else by its label."""
    recipe = universe.recipes.get(made.tag)
    major = int(made.cuda[:2])
    listed = (
        made.provider == OFFICIAL
        and made.platform == "linux_x86_64"
        and made.tag == f"v{made.version}"
        and recipe is not None
        and made.python in recipe.pythons
        and made.python_abi == made.python
        and made.torch in recipe.torch
        and made.cuda in {str(major), recipe.toolkits.get(major, "").replace(".", "")}
        and major in recipe.toolkits
        and made.label is not None
    )
    pre_release = False
    if listed and recipe is not None:
        evidence = "recipe"
        torch, cudas = recipe.torch[made.torch]
        pre_release = "dev" in torch
        installed = None if pre_release or major not in cudas else abi_of(universe, made.torch, cudas[major])
        glibc = universe.measured_glibc.get(made.version, recipe.glibc)
        driver = universe.compressed_driver if recipe.compressed else None
        toolkit = Version(recipe.toolkits[major])
        sass: tuple[str, ...] | None = tuple(
            arch for arch in recipe.archs if arch in universe.nvcc and Version(universe.nvcc[arch]) <= toolkit
        )
    else:
        evidence = "label"
        installed = only_abi(made, universe)
        if made.platform in MANYLINUX:
            glibc = MANYLINUX[made.platform]
        else:
            glibc = max(universe.measured_glibc.get(made.version, "0"), universe.later_glibc, key=Version)
        sources = {f"v{made.version}", made.tag if made.provider == OFFICIAL else ""}
        compressed = any(tag in universe.recipes and universe.recipes[tag].compressed for tag in sources)
        driver = universe.compressed_driver if compressed else None
        sass = universe.measured_sass.get(made.version)
    abi = "TRUE" if made.label == "TRUE" else installed
    faulty = made.label == "FALSE" and abi == "TRUE"
    if (seen := made.seen) is not None:
        evidence = "loaded" if seen.loaded else "inspected"
        faulty = faulty or seen.refusal is not None
        abi = abi if seen.abi is None else str(seen.abi)
        glibc = glibc if seen.glibc is None else str(seen.glibc)
        sass = sass if seen.sass is None else tuple(arch.capability for arch in seen.sass)
        if seen.compressed is not None:
            driver = universe.compressed_driver if seen.compressed else None
    return Known(evidence, faulty, pre_release, abi, glibc, driver, sass)


def only_abi(made: Made, universe: Universe) -> str | None:
    """The ABI of the wheel's torch, where all of its builds for the wheel's CUDA have one."""
    exact = f"{made.cuda[:2]}.{made.cuda[2:]}"
    same = [cuda for cuda in CUDAS if cuda == exact] or [cuda for cuda in CUDAS if cuda[:2] == made.cuda[:2]]
    found = {abi_of(universe, made.torch, cuda) for cuda in same}
    return found.pop() if len(found) == 1 else None


def fits(made: Made, asker: Asker, universe: Universe) -> bool:
    """Whether a wheel may be given."""
    known = known_of(made, universe)
    return (
        made.provider in asker.trust
        and (not asker.versions or made.version in asker.versions)
        and python_fits(made, asker.python)
        and platform_fits(made, asker.platform)
        and asker.cuda != "cpu"
        and made.cuda[:2] == asker.cuda[:2]
        and torch_fits(made, known, asker, universe)
        and not known.faulty
        and known.abi is not None
        and known.abi == asker.abi
        and (asker.driver is None or known.driver is None or reaches(asker.driver, known.driver))
        and (asker.glibc is None or Version(asker.glibc) >= Version(known.glibc))
        and (asker.gpu is None or gpu_fits(asker.gpu, universe.gates[made.version], known.sass))
        and not any(asker.torch == torch and made.version == version for torch, version in universe.broken)
    )


def python_fits(made: Made, python: str) -> bool:
    number, free = int(python.rstrip("t").split(".")[1]), python.endswith("t")
    built_for = int(made.python[3:])
    if made.python_abi == "abi3":
        return not free and number >= built_for
    return built_for == number and made.python_abi.endswith("t") == free


def platform_fits(made: Made, platform: str) -> bool:
    machine = platform.removeprefix("linux_")
    return any(
        tag == platform or (tag.startswith("manylinux") and tag.endswith(f"_{machine}"))
        for tag in made.platform.split(".")
    )


def torch_fits(made: Made, known: Known, asker: Asker, universe: Universe) -> bool:
    if "a0" in asker.torch or known.pre_release:
        return False
    asked = minor(asker.torch)
    if made.torch == asked:
        return True
    return asker.reuse and any(
        built_for == made.torch and asked in loads and asked not in fails for built_for, loads, fails in universe.reuse
    )


def reaches(driver: str, floor: str) -> bool:
    """As far as both are known: 570 reaches 570.86.10, and 570.26 does not."""
    pairs = zip(driver.split("."), floor.split("."), strict=False)
    return next((int(own) > int(least) for own, least in pairs if int(own) != int(least)), True)


def number_of(arch: str) -> tuple[int, int]:
    major, least = arch.rstrip("af").split(".")
    return int(major), int(least)


def gpu_fits(gpu: str, gate: tuple[str, str | None], sass: tuple[str, ...] | None) -> bool:
    """The version accepts the GPU when it is called, and holds code that runs there; unknown code is none refused."""
    least, most = gate
    if number_of(gpu) < number_of(least) or (most is not None and number_of(gpu) > number_of(most)):
        return False
    return sass is None or any(code_runs(code, gpu) for code in sass)


def code_runs(code: str, gpu: str) -> bool:
    """CUDA C++ Programming Guide: within a major, upwards; no Tegra's; sm_90a on 9.0 only; sm_100f in its family."""
    if number_of(code) == number_of(gpu):
        return True
    if code.endswith("a") or number_of(code) in TEGRA or number_of(gpu) in TEGRA:
        return False
    return number_of(code)[0] == number_of(gpu)[0] and number_of(code)[1] < number_of(gpu)[1]


def place(made: Made, asker: Asker) -> tuple[Any, ...]:
    """Exact torch, trust, version, exact CUDA, upload date (newest first, unknown last), tag, name."""
    newest = sorted(VERSIONS, key=Version, reverse=True)
    dates = ["2026-02-02T00:00:00Z", "2026-01-01T00:00:00Z", "2025-12-31T00:00:00Z", None]
    return (
        made.torch != minor(asker.torch),
        asker.trust.index(made.provider),
        newest.index(made.version),
        made.cuda != asker.cuda.replace(".", ""),
        dates.index(made.updated_at),
        made.tag,
        made.filename,
    )


# --- the same as the product's values ---------------------------------------------------------------------------------


def compat_of(universe: Universe) -> Compat:
    torch = dict(REAL.torch)
    for name in TORCHES:
        torch[name] = replace(
            REAL.torch[name],
            cuda=tuple(map(Cuda.parse, CUDAS)),
            abi=Abi(universe.abi[name]),
            abi_exceptions=tuple(
                AbiException(Cuda.parse(cuda), None, Abi(abi)) for cuda, abi in universe.abi_exceptions[name].items()
            ),
        )
    flash_attn = replace(
        REAL.flash_attn,
        recipes={
            tag: BuildRecipe(
                runner=recipe.glibc,
                pythons=frozenset(recipe.pythons),
                toolkits={major: Version(toolkit) for major, toolkit in recipe.toolkits.items()},
                torch={
                    name: RecipeTorch(Version(version), {major: Cuda.parse(cuda) for major, cuda in cudas.items()})
                    for name, (version, cudas) in recipe.torch.items()
                },
                archs=tuple(map(Arch.parse, recipe.archs)),
                compressed=recipe.compressed,
            )
            for tag, recipe in universe.recipes.items()
        },
        nvcc={Arch.parse(arch): Version(toolkit) for arch, toolkit in universe.nvcc.items()},
        runners={glibc: Version(glibc) for glibc in ("2.31", "2.35")},
        compressed_driver=Driver.parse(universe.compressed_driver),
        later_uploads=LaterUploads(Version(universe.later_glibc), "made up"),
        sass=tuple(
            WheelSass(SpecifierSet(f"=={version}"), CodeFor(tuple(map(Arch.parse, sass)), None))
            for version, sass in universe.measured_sass.items()
        ),
        runtime_gate=tuple(
            RuntimeGate(SpecifierSet(f"=={version}"), Arch.parse(least), Arch.parse(most) if most else None)
            for version, (least, most) in universe.gates.items()
        ),
        glibc=tuple(
            GlibcNeed(SpecifierSet(f"=={version}"), Version(glibc))
            for version, glibc in universe.measured_glibc.items()
        ),
        reuse=tuple(Reuse(built_for, loads, fails, "made up") for built_for, loads, fails in universe.reuse),
    )
    return replace(REAL, torch=torch, flash_attn=flash_attn)


def index_of(universe: Universe, asker: Asker) -> WheelIndex:
    broken = tuple(
        KnownBroken(SpecifierSet(f"=={torch}"), SpecifierSet(f"=={version}"), None, None, "a", "b", "c")
        for torch, version in universe.broken
    )
    inspected = {made.sha256: made.seen for made in universe.wheels if made.seen is not None}
    policy = Policy(
        trust=asker.trust,
        flash_attn=tuple(SpecifierSet(f"=={version}") for version in asker.versions),
        glibc=Version(asker.glibc) if asker.glibc else None,
        driver=Driver.parse(asker.driver) if asker.driver else None,
        reuse=asker.reuse,
        installed=True,
    )
    facts = Facts(compat_of(universe), broken, inspected)
    return WheelIndex([made.wheel() for made in universe.wheels], facts, policy)


def cell_of(asker: Asker) -> Cell:
    return Cell(
        PythonVersion.parse(asker.python), Version(asker.torch), Cuda.parse(asker.cuda), Abi(asker.abi),
        Arch.parse(asker.gpu) if asker.gpu else None, None, asker.platform,
    )  # fmt: skip


# --- universes --------------------------------------------------------------------------------------------------------

# A value that stands twice comes more often: most wheels are near to what is asked, or hardly any would fit.
abis = st.sampled_from(("TRUE", "FALSE"))
archs = st.lists(st.sampled_from((*ARCHS, "8.0", "10.0a")), min_size=1, max_size=3, unique=True).map(tuple)
recipe_torch = st.tuples(
    st.sampled_from(("{}.0", "{}.0", "{}.0", "{}.0.dev20241001")),
    st.dictionaries(st.sampled_from((11, 12, 12, 13)), st.just(""), min_size=1, max_size=3),
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    by_major = {11: ("11.8",), 12: ("12.4", "12.6"), 13: ("13.0",)}
    torch = {}
    for name in draw(st.lists(st.sampled_from(TORCHES), min_size=1, unique=True)):
        version, majors = draw(recipe_torch)
        torch[name] = version.format(name), {major: draw(st.sampled_from(by_major[major])) for major in majors}
    return Recipe(
        glibc=draw(st.sampled_from(("2.31", "2.35"))),
        pythons=draw(st.sampled_from((("cp312",), ("cp311", "cp312"), ("cp311",)))),
        toolkits=draw(
            st.sampled_from(({12: "12.4"}, {11: "11.8", 12: "12.3"}, {12: "12.9"}, {12: "12.9", 13: "13.0"}))
        ),
        torch=torch,
        archs=draw(archs),
        compressed=draw(st.booleans()),
    )


@st.composite
def inspections(draw: st.DrawFn, label: str | None) -> Inspection | None:
    """What bytes say: never another ABI than the label, which the product refuses when it looks (``refusal``)."""
    if draw(st.sampled_from((True, True, True, False))):
        return None
    abi = draw(st.sampled_from((label, None))) if label else draw(st.one_of(st.none(), abis))
    return Inspection(
        abi=Abi(abi) if abi else None,
        glibc=draw(st.sampled_from((None, Version("2.29"), Version("2.34")))),
        sass=draw(st.one_of(st.none(), archs.map(lambda found: tuple(map(Arch.parse, found))))),
        compressed=draw(st.sampled_from((None, True, False))),
        refusal=draw(st.sampled_from((None, None, None, "it is something else"))),
        loaded=draw(st.sampled_from((None, "Python 3.12, torch 2.7.0"))),
    )


@st.composite
def made_wheels(draw: st.DrawFn, number: int) -> Made:
    version = draw(st.sampled_from(VERSIONS))
    label = draw(st.sampled_from(("TRUE", "FALSE", "FALSE", None)))
    provider = draw(st.sampled_from((OFFICIAL, OFFICIAL, OFFICIAL, "other/one", "other/two")))
    python, python_abi = draw(
        st.sampled_from((("cp312", "cp312"),) * 4 + (("cp311", "cp311"), ("cp39", "abi3"), ("cp313", "cp313t")))
    )
    return Made(
        version=version,
        cuda=draw(st.sampled_from(("12", "12", "12", "124", "126", "11", "13"))),
        torch=draw(st.sampled_from(("2.6", "2.7", "2.7", "2.8"))),
        label=label,
        python=python,
        python_abi=python_abi,
        platform=draw(st.sampled_from(("linux_x86_64",) * 5 + ("linux_aarch64", "win_amd64", *MANYLINUX))),
        tag=draw(st.sampled_from((f"v{version}",) * 4 + ("v2.8.3.post1", "v2.8.1"))),
        provider=provider,
        updated_at=draw(
            st.sampled_from((None, "2025-12-31T00:00:00Z", "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"))
        ),
        seen=draw(inspections(label)),
        number=number,
    )


SIBLINGS: dict[str, tuple[str | None, ...]] = {
    "cuda": ("124", "126", "118", "130"),
    "provider": ("other/one", "other/two"),
    "tag": ("v2.8.3.post1", "v2.7.4"),
    "torch": TORCHES,
    "updated_at": (None, "2025-12-31T00:00:00Z", "2026-02-02T00:00:00Z"),
    "version": VERSIONS,
}


@st.composite
def universes(draw: st.DrawFn) -> Universe:
    tags = [*(f"v{version}" for version in VERSIONS), "v2.8.3.post1"]
    known_recipes = {tag: draw(recipes()) for tag in tags if draw(st.sampled_from((True, True, False)))}
    wheels: dict[tuple[str, str, str], Made] = {}
    for number in range(draw(st.integers(2, 6))):
        made = draw(made_wheels(number))
        if (recipe := known_recipes.get(f"v{made.version}")) is not None and draw(st.sampled_from((True, True, False))):
            made = replace(
                made,
                tag=draw(st.sampled_from((f"v{made.version}",) * 4 + ("v2.8.3.post1",))),
                provider=OFFICIAL,
                platform="linux_x86_64",
                python=recipe.pythons[0],
                python_abi=recipe.pythons[0],
                torch=draw(st.sampled_from(sorted(recipe.torch))),
                cuda=draw(
                    st.sampled_from([text for major in recipe.toolkits for text in (*[str(major)] * 3, f"{major}9")])
                ),
            )
        wheels.setdefault((made.provider, made.tag, made.filename), made)
        if draw(st.booleans()):  # another that differs in one thing: of those that fit, one is the best
            name = draw(st.sampled_from(sorted(SIBLINGS)))
            made = replace(made, number=number + 100, seen=None, **{name: draw(st.sampled_from(SIBLINGS[name]))})
            wheels.setdefault((made.provider, made.tag, made.filename), made)
    return Universe(
        recipes=known_recipes,
        nvcc=dict.fromkeys(("8.0", "8.6", "8.7"), "11.0")
        | dict.fromkeys(("9.0", "9.0a"), "11.8")
        | dict.fromkeys(("10.0", "10.0a", "10.0f", "10.3", "12.0"), "12.8"),
        abi={name: draw(abis) for name in TORCHES},
        abi_exceptions={name: draw(st.dictionaries(st.sampled_from(CUDAS), abis, max_size=2)) for name in TORCHES},
        measured_glibc=draw(st.dictionaries(st.sampled_from(VERSIONS), st.sampled_from(("2.30", "2.32")), max_size=2)),
        measured_sass=draw(st.dictionaries(st.sampled_from(VERSIONS), archs, max_size=4)),
        later_glibc="2.32",
        compressed_driver=draw(st.sampled_from(("550", "550.54.14"))),
        gates={version: ("8.0", "9.0" if version == "2.7.2.post1" else None) for version in VERSIONS},
        reuse=draw(
            st.sampled_from((
                (), (("2.6", ("2.7",), ()),), (("2.8", ("2.7",), ("2.6",)),), (("2.6", ("2.7", "2.8"), ("2.7",)),),
            ))
        ),
        broken=draw(st.sampled_from(((), (), (("2.7.0", "2.8.3"),)))),
        wheels=tuple(wheels.values()),
    )  # fmt: skip


#: GPUs that code for another of their major may or may not serve.
NEARBY = {"8": "8.7", "9": "9.0", "10": "10.3", "12": "12.1"}


def gpus_near(made: Made, known: Known, universe: Universe) -> list[str]:
    """The GPUs that a wheel's code is for, those that its recipe asks code for, and a neighbour of each."""
    recipe = universe.recipes.get(made.tag)
    codes = [*(known.sass or ()), *(recipe.archs if recipe else ()), "8.0"]
    return [gpu for code in codes for gpu in (code.rstrip("af"), NEARBY[code.split(".")[0]])]


#: What an asker may say in place of what fits the wheel that it is meant for.
OTHERWISE: dict[str, tuple[Any, ...]] = {
    "python": ("3.11", "3.12", "3.13", "3.13t"),
    "torch": ("2.6.0", "2.7.0", "2.8.0", "2.7.0a0+145a3a7bda"),
    "cuda": (*CUDAS, "cpu"),
    "abi": ("TRUE", "FALSE"),
    "gpu": (None, "7.5", "8.0", "8.6", "8.7", "9.0", "10.0", "10.3", "12.0", "12.1"),
    "platform": ("linux_x86_64", "linux_aarch64"),
    "trust": ((OFFICIAL,), (OFFICIAL, "other/one"), ("other/two", OFFICIAL), ("other/one",)),
    "versions": (("2.8.3",), ("2.8.1", "2.7.4")),
    "glibc": ("2.36", "2.32", "2.31", "2.28", "2.17"),
    "driver": ("535.247.01", "550", "550.40", "550.54.14", "580.65.06"),
}


@st.composite
def askers(draw: st.DrawFn, universe: Universe) -> Asker:
    """Somebody whom one of the wheels could serve, but for at most two things."""
    made = draw(st.sampled_from(universe.wheels))
    known = known_of(made, universe)
    asker = Asker(
        python="3.12" if made.python_abi == "abi3" else f"3.{made.python[3:]}{'t' * made.python_abi.endswith('t')}",
        torch=f"{made.torch}.0",
        cuda=draw(st.sampled_from([cuda for cuda in CUDAS if cuda[:2] == made.cuda[:2]])),
        abi=known.abi or draw(abis),
        gpu=draw(st.sampled_from(gpus_near(made, known, universe))),
        platform="linux_aarch64" if made.platform == "linux_aarch64" else "linux_x86_64",
        trust=draw(st.permutations((OFFICIAL, "other/one", "other/two")).map(tuple)),
        versions=(),
        glibc=draw(st.sampled_from((None, known.glibc, "2.31"))),
        driver=draw(st.sampled_from((None, "535.247.01", "550.40", "550.54.14"))),
        reuse=draw(st.booleans()),
    )
    if asker.reuse and universe.reuse and draw(st.booleans()):
        asker = replace(asker, torch="2.7.0")
    for name in draw(st.lists(st.sampled_from(sorted(OTHERWISE)), max_size=2, unique=True)):
        asker = replace(asker, **{name: draw(st.sampled_from(OTHERWISE[name]))})
    return asker


# Without Phase.shrink: it takes minutes, and a universe as it was drawn can be read.
@settings(
    max_examples=200,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_the_resolver_gives_what_brute_force_gives(data: st.DataObject) -> None:
    universe = data.draw(universes())
    for asker in data.draw(st.lists(askers(universe), min_size=10, max_size=10)):
        judge(universe, asker)


def judge(universe: Universe, asker: Asker) -> None:
    if asker.reuse and any(known_of(made, universe).pre_release for made in universe.wheels):
        asker = replace(asker, reuse=False)  # test_a_wheel_built_on_a_pre_release_is_not_reused
    fitting = sorted(
        (made for made in universe.wheels if fits(made, asker, universe)), key=lambda made: place(made, asker)
    )
    event(f"fitting: {min(len(fitting), 3)}")
    index, cell = index_of(universe, asker), cell_of(asker)
    assert [wheel.sha256 for wheel in index.fitting(cell)] == [made.sha256 for made in fitting]
    best, resolution = index.best(cell), resolve(cell, index)
    assert best == (fitting[0].wheel() if fitting else None)
    if isinstance(resolution, Unsupported):  # torch cannot run there: no wheel is looked at
        return
    assert isinstance(resolution, Match if fitting else Fallback)
    assert len(resolution.nearest) == min(5, len(universe.wheels) - len(fitting))
    if isinstance(resolution, Match):
        made = fitting[0]
        known = known_of(made, universe)
        event(f"evidence: {known.evidence}")
        assert resolution.wheel == best
        assert resolution.build.evidence == known.evidence
        looked_at = made.seen is not None and made.seen.sass is not None
        assert ("inferred" in resolution.reason) is not (listed_by_recipe(made, universe) or looked_at)


def listed_by_recipe(made: Made, universe: Universe) -> bool:
    return known_of(replace(made, seen=None), universe).evidence == "recipe"


def test_a_wheel_built_on_a_pre_release_is_not_reused() -> None:
    """It is evidence for no release: a measurement of wheels that were built on the release says nothing of it."""
    recipe = Recipe("2.31", ("cp312",), {12: "12.4"}, {"2.6": ("2.6.0.dev20241001", {12: "12.4"})}, ("8.0",), False)
    made = Made(
        "2.7.4", "12", "2.6", "TRUE", "cp312", "cp312", "linux_x86_64", "v2.7.4", OFFICIAL, None, seen=None, number=0
    )
    universe = Universe(
        recipes={"v2.7.4": recipe}, nvcc={"8.0": "11.0"}, abi=dict.fromkeys(TORCHES, "TRUE"),
        abi_exceptions={name: {} for name in TORCHES}, measured_glibc={}, measured_sass={}, later_glibc="2.32",
        compressed_driver="550", gates=dict.fromkeys(VERSIONS, ("8.0", None)), reuse=(("2.6", ("2.7",), ()),),
        broken=(), wheels=(made,),
    )  # fmt: skip
    asker = Asker(
        "3.12",
        "2.7.0",
        "12.6",
        "TRUE",
        "8.0",
        "linux_x86_64",
        (OFFICIAL,),
        versions=(),
        glibc=None,
        driver=None,
        reuse=True,
    )
    assert not fits(made, asker, universe)
    assert list(index_of(universe, asker).fitting(cell_of(asker))) == []
