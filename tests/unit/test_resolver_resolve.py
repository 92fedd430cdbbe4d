"""The pure core: the order of choice, the three kinds of answer, and the index against a naive reading of the rules."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix import Abi, Arch, Cell, Cuda, Driver, KnownBroken, PythonVersion, load_project
from matrix.errors import DataError
from tests.judging import says
from wheel_resolver.asking.suggestions import Suggestions
from wheel_resolver.core.alternatives import Neighbours
from wheel_resolver.core.facts import Facts, Policy, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.resolve import Fallback, Match, Unsupported, explain, resolve
from wheel_resolver.core.wheel import Asset, Release, Wheel
from wheel_resolver.core.wheel_rules import WHEEL_RULES
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.catalogue import Catalogue, build_catalogue

PROJECT = load_project()
COMPAT = PROJECT.compat
FACTS = Facts(COMPAT, PROJECT.known_broken)
POLICY = default_policy(COMPAT)
REPOSITORY = COMPAT.flash_attn.repository
CELL = Cell(
    PythonVersion.parse("3.12"), Version("2.9.1"), Cuda.parse("12.8"), Abi.TRUE, Arch(8, 6), "A10G", "linux_x86_64"
)


def catalogue(*releases: Release) -> Catalogue:
    return build_catalogue(
        releases, repository=REPOSITORY, origin="https://github.com", source="snapshot", as_of="", stale=False
    )


REAL = catalogue(*snapshot.read().releases)
INDEX = WheelIndex(REAL.wheels, FACTS, POLICY)


def cell(**change: str | None) -> Cell:
    """A cell by texts; the ABI is that of the official torch build."""
    python = PythonVersion.parse(change.get("python") or "3.12")
    torch = COMPAT.torch[change.get("torch") or "2.9"].patches[-1]
    cuda = Cuda.parse(change.get("cuda") or "12.8")
    platform = change.get("platform") or "linux_x86_64"
    gpu = None if cuda.is_cpu else change.get("gpu") or "A10G"
    return Cell(
        python, torch, cuda, COMPAT.abi(torch, cuda, platform), COMPAT.gpus[gpu] if gpu else None, gpu, platform
    )


def wheel(filename: str, *, tag: str = "v1", updated_at: str | None = None, provider: str = REPOSITORY) -> Wheel:
    name = WheelName.parse(filename)
    assert name is not None
    return Wheel(name, filename, f"https://example.org/{tag}/{filename}", "0" * 64, None, tag, provider, updated_at)


def official(version: str, cuda: str = "12") -> str:
    return f"flash_attn-{version}+cu{cuda}torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"


@pytest.mark.parametrize(("cuda", "digest"), [("12.6", "4e2f9e39"), ("12.8", "4e2f9e39"), ("13.0", "a4b43bd0")])
def test_torch_2_9_on_python_3_12_has_wheels(cuda: str, digest: str) -> None:
    resolution = resolve(cell(cuda=cuda), INDEX)
    assert isinstance(resolution, Match)
    assert resolution.wheel.sha256 is not None
    assert resolution.wheel.sha256.startswith(digest)


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.13", "3.14"])
def test_torch_2_9_elsewhere_falls_back_and_says_the_change(python: str) -> None:
    resolution = resolve(cell(python=python), INDEX)
    assert isinstance(resolution, Fallback)
    assert (resolution.rule, resolution.backend) == ("python", "flash")
    assert dict(Neighbours(INDEX).of(resolution.cell)[0].change) == {"python": "3.12"}


def test_a_t4_falls_back_by_the_arch_rule() -> None:
    resolution = resolve(cell(gpu="T4"), INDEX)
    assert isinstance(resolution, Fallback)
    assert (resolution.rule, resolution.backend) == ("arch", "efficient")
    assert resolution.reason.startswith("no flash-attn wheel runs on T4 (sm_75)")
    assert resolution.nearest[0].rule == "arch"
    assert Neighbours(INDEX).of(resolution.cell) == ()


def test_a_b200_on_torch_2_6_is_unsupported() -> None:
    resolution = resolve(cell(gpu="B200", torch="2.6", cuda="12.4"), INDEX)
    assert isinstance(resolution, Unsupported)
    assert resolution.remedy == "use torch 2.7 for CUDA 12.8"


def test_a_cpu_build_falls_back() -> None:
    resolution = resolve(cell(cuda="cpu", torch="2.13", python="3.11"), INDEX)
    assert isinstance(resolution, Fallback)
    assert (resolution.rule, resolution.backend) == ("cuda", "math")
    assert Neighbours(INDEX).of(resolution.cell) == ()


def test_torch_2_10_is_served_by_an_older_tag() -> None:
    for python in ("3.12", "3.13"):
        resolution = resolve(cell(torch="2.10", python=python), INDEX)
        assert isinstance(resolution, Match)
        assert (resolution.wheel.tag, resolution.wheel.name.version) == ("v2.8.1", "2.8.1")


def test_torch_2_11_and_later_have_none() -> None:
    for minor, facts in COMPAT.torch.items():
        if Version(minor) >= Version("2.11"):
            for python, cuda in itertools.product(facts.python, facts.cuda):
                assert not isinstance(resolve(cell(torch=minor, python=str(python), cuda=str(cuda)), INDEX), Match)


def test_a_wheel_that_could_be_reused_is_named_and_not_taken() -> None:
    for change, reason in (
        ({"torch": "2.11"}, "exists for torch 2.11; one for torch 2.10 was seen to load there: --reuse measured"),
        ({"torch": "2.11", "python": "3.11"}, "exists for torch 2.11"),
        ({"torch": "2.13", "cuda": "13.0"}, "exists for torch 2.13"),
        ({"torch": "2.7", "cuda": "11.8"}, "for torch 2.7 fits Python 3.12 with CUDA 11"),
    ):
        resolution = resolve(cell(**change), INDEX)
        assert isinstance(resolution, Fallback)
        assert resolution.reason == f"no flash-attn wheel {reason}"


def test_of_236_official_cells_113_have_a_wheel() -> None:
    """MEASURED: torch 2.0 to 2.15 x official CUDA index x Python (x86_64, no free-threading)."""
    cells = [
        cell(torch=minor, python=str(python), cuda=str(cuda), gpu="A100")
        for minor, facts in COMPAT.torch.items()
        for cuda, python in itertools.product(facts.cuda, facts.python)
        if not python.free_threaded
    ]
    answers = [resolve(each, INDEX) for each in cells]
    assert len(answers) == 236
    assert sum(isinstance(answer, Match) for answer in answers) == 113
    assert all(answer.reason for answer in answers)


def test_the_catalogue_merges_the_wheel_of_two_tags() -> None:
    name = official("2.8.3", "13")
    assert (REAL.listed, len(REAL.wheels), REAL.unparsed) == (832, 831, ())
    merged = next(each for each in REAL.wheels if each.filename == name)
    assert (merged.tag, merged.pinned) == ("v2.8.3", True)


def test_conflicting_digests_are_an_error() -> None:
    one, other = (
        Release(tag, (Asset(official("2.8.3"), digit * 64, None, None),)) for tag, digit in (("a", "1"), ("b", "2"))
    )
    with pytest.raises(DataError, match="has two digests"):
        catalogue(one, other)


def test_names_that_do_not_parse_are_counted() -> None:
    known = catalogue(
        Release("v1", (Asset("flash_attn-odd.whl", None, None, None), Asset("source.zip", None, None, None)))
    )
    assert known.unparsed == ("flash_attn-odd.whl",)


def best(*wheels: Wheel, trust: tuple[str, ...] = (REPOSITORY,)) -> Wheel:
    found = [
        resolve(CELL, WheelIndex(order, FACTS, replace(POLICY, trust=trust)))
        for order in itertools.permutations(wheels)
    ]
    assert all(isinstance(each, Match) for each in found)
    chosen = {each.wheel for each in found if isinstance(each, Match)}
    assert len(chosen) == 1, "the choice depends on the order of the catalogue"
    return chosen.pop()


def test_trust_beats_version() -> None:
    ours, newer = wheel(official("2.8.1")), wheel(official("2.8.3"), provider="b/b")
    assert best(ours, newer, trust=(REPOSITORY, "b/b")) == ours
    assert best(ours, newer, trust=("b/b", REPOSITORY)) == newer


def test_version_beats_exact_cuda_beats_date_beats_tag() -> None:
    old = wheel(official("2.8.2", "128"), updated_at="2026-01-01T00:00:00Z")
    loose, exact = wheel(official("2.8.3", "12"), updated_at="2026-01-01T00:00:00Z"), wheel(official("2.8.3", "128"))
    assert best(old, loose) == loose
    assert best(loose, exact) == exact


def test_versions_are_not_compared_as_text() -> None:
    assert best(wheel(official("2.8.3")), wheel(official("2.8.3.post1"))).name.version == "2.8.3.post1"
    assert best(wheel(official("2.8.3")), wheel(official("2.10.0"))).name.version == "2.10.0"
    assert best(wheel(official("2.8.3")), wheel(official("2.9.0rc1"))).name.version == "2.8.3"


def test_an_unknown_date_is_last_and_the_newest_first() -> None:
    dated = [
        wheel(official("2.8.3", "12"), tag=str(year), updated_at=f"{year}-01-01T00:00:00Z") for year in (2025, 2026)
    ]
    undated = wheel(official("2.8.3", "12"), tag="0")
    assert best(*dated, undated).tag == "2026"


def test_a_specifier_chooses_the_version() -> None:
    index = WheelIndex(REAL.wheels, FACTS, replace(POLICY, flash_attn=(SpecifierSet("<2.8.3"),)))
    resolution = resolve(CELL, index)
    assert isinstance(resolution, Match)
    assert resolution.wheel.name.version == "2.8.1"


def test_reuse_gives_a_wheel_with_its_evidence_and_the_exact_torch_is_preferred() -> None:
    policy = replace(POLICY, reuse=True)
    reused = resolve(cell(torch="2.12", cuda="13.0"), WheelIndex(REAL.wheels, FACTS, policy))
    assert not isinstance(resolve(cell(torch="2.12", cuda="13.0"), INDEX), Match)
    assert isinstance(reused, Match)
    assert reused.wheel.name.torch_minor == "2.10"
    assert "built for torch 2.10, and reused: measured to load on 2.11, 2.12 and to fail on 2.13, 2.14" in reused.reason
    assert "unsloth PR #7495" in reused.reason
    name = "flash_attn-{}+cu12torch{}cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
    older_exact, newer_other = wheel(name.format("2.8.1", "2.11")), wheel(name.format("2.8.3", "2.10"))
    index = WheelIndex([newer_other, older_exact], FACTS, policy)
    assert index.fitting(cell(torch="2.11")) == [older_exact, newer_other]


def test_an_ngc_build_refuses_official_wheels_and_says_why() -> None:
    ngc = replace(CELL, torch=Version("2.9.0a0+145a3a7bda"), cuda=Cuda.parse("12.9"))
    resolution = resolve(ngc, INDEX)
    assert isinstance(resolution, Fallback)
    assert resolution.rule == "torch"
    assert "torch 2.9.0a0+145a3a7bda is a pre-release, as NGC builds are" in resolution.reason
    assert dict(Neighbours(INDEX).of(replace(ngc, cuda=CELL.cuda))[0].change) == {"torch": "2.9.1"}


@pytest.mark.parametrize(
    ("change", "policy", "sdist", "why"),
    [
        (
            {"torch": "2.13", "python": "3.13", "cuda": "13.0", "gpu": "H100"},
            POLICY,
            "flash_attn-2.8.3.post2.tar.gz",
            "",
        ),
        (
            {"torch": "2.13", "cuda": "13.0"},
            replace(POLICY, flash_attn=(SpecifierSet("==2.8.3"),)),
            "flash_attn-2.8.3.tar.gz",
            "",
        ),
        (
            {"torch": "2.14", "cuda": "13.0"},
            POLICY,
            None,
            "no released flash-attn source builds on torch 2.14.1, whose ",
        ),
        ({"torch": "2.9", "python": "3.11", "gpu": "T4"}, POLICY, None, "flash-attn needs sm_80 or newer"),
        ({"torch": "2.9", "python": "3.11", "cuda": "cpu"}, POLICY, None, "CUDA code"),
        (
            {"torch": "2.13", "cuda": "13.2"},
            POLICY,
            None,
            "knows a CUDA-devel image for CUDA 12.4, 12.6, 12.8, 13.0, not",
        ),
        (
            {"torch": "2.13", "cuda": "13.0"},
            replace(POLICY, flash_attn=(SpecifierSet("==2.7.4"),)),
            None,
            "no flash-attn source of version ==2.7.4",
        ),
    ],
)
def test_a_source_build_where_it_is_allowed(
    change: dict[str, str], policy: Policy, sdist: str | None, why: str
) -> None:
    index = WheelIndex(REAL.wheels, FACTS, replace(policy, source_build=True))
    resolution = resolve(cell(**change), index)
    assert isinstance(resolution, Fallback)
    assert (resolution.source_build.sdist.name if resolution.source_build else None) == sdist
    assert ("the devel recipe compiles" if sdist else "and it cannot be compiled: ") in resolution.reason
    assert why in resolution.reason
    without = resolve(cell(**change), WheelIndex(REAL.wheels, FACTS, policy))
    assert isinstance(without, Fallback)
    assert without.source_build is None


def test_a_broken_patch_makes_the_next_patch_the_cheapest_change() -> None:
    broken = KnownBroken(SpecifierSet("==2.9.0"), None, "2.9", None, "it crashes", "use 2.9.1", "us")
    index = WheelIndex(REAL.wheels, Facts(COMPAT, (broken,)), POLICY)
    found = Suggestions(index).of(replace(CELL, torch=Version("2.9.0")))
    assert dict(found[0].change) == {"torch": "2.9.1"}
    assert found[0].command.startswith("python -m wheel_resolver --torch 2.9.1 --python 3.12 --cuda 12.8")


def test_alternatives_keep_driver_base_and_reuse() -> None:
    policy = replace(POLICY, driver=Driver.parse("535.104.05"), glibc=Version("2.31"), reuse=True)
    found = Suggestions(WheelIndex(REAL.wheels, FACTS, policy)).of(cell(torch="2.13", cuda="13.0"))
    assert found
    for each in found:
        assert "--driver 535.104.05 --glibc 2.31 --reuse measured" in each.command
        assert each.wheel.name.cuda_major in {11, 12}  # the driver runs no CUDA 13
        assert each.wheel.name.flash_attn < Version("2.8")


def test_an_empty_catalogue_falls_back() -> None:
    resolution = resolve(CELL, WheelIndex([], FACTS, POLICY))
    assert isinstance(resolution, Fallback)
    assert resolution.reason == "the catalogue holds no wheels"


def test_alternatives_are_few_pasteable_and_true() -> None:
    found = Suggestions(INDEX).of(cell(python="3.11"))
    assert 0 < len(found) <= 5
    for each in found:
        assert each.command.startswith("python -m wheel_resolver --torch ")
        assert each.command.endswith("--gpu A10G")
    assert [len(each.change) for each in found] == sorted(len(each.change) for each in found)


def test_alternatives_keep_what_was_asked_of_flash_attn_and_name_a_strange_abi() -> None:
    policy = replace(POLICY, flash_attn=(SpecifierSet(">=2.8,<2.8.3"),))
    found = Suggestions(WheelIndex(REAL.wheels, FACTS, policy)).of(cell(python="3.11"))
    assert all(each.command.endswith("--flash-attn '<2.8.3,>=2.8'") for each in found)
    strange = Suggestions(INDEX).of(replace(CELL, abi=Abi.FALSE))
    assert dict(strange[0].change) == {"abi": "TRUE"}


def test_a_pasted_alternative_gets_its_wheel() -> None:
    for each in Suggestions(INDEX).of(cell(python="3.14", torch="2.13", cuda="13.0")):
        change = {"python": "3.14", "torch": "2.13", "cuda": "13.0", **each.change}
        asked = cell(**{**change, "torch": ".".join(change["torch"].split(".")[:2])})
        resolution = resolve(asked, INDEX)
        assert isinstance(resolution, Match)
        assert resolution.wheel == each.wheel


def test_the_shipped_snapshot_is_in_canonical_form() -> None:
    assert snapshot.dumps(snapshot.read()) == snapshot.SHIPPED.read_text(encoding="utf-8")


def test_the_same_question_has_the_same_answer() -> None:
    assert resolve(CELL, INDEX) == resolve(CELL, WheelIndex(reversed(REAL.wheels), FACTS, POLICY))


def test_every_fallback_has_a_known_rule_or_all_wheels_fit_none() -> None:
    for axes in itertools.product(
        ("2.4", "2.6", "2.9", "2.13"), ("3.12",), ("12.4", "12.6", "12.8", "13.0"), COMPAT.gpus
    ):
        asked = cell(**dict(zip(("torch", "python", "cuda", "gpu"), axes, strict=True)))
        assert resolve(asked, INDEX).reason


pythons = st.sampled_from(["3.10", "3.12", "3.13", "3.13t"])
torches = st.sampled_from(list(COMPAT.torch))
cudas = st.sampled_from(["11.8", "12.4", "12.6", "12.8", "13.0", "cpu"])
gpus = st.sampled_from(list(COMPAT.gpus))
platforms = st.sampled_from(list(COMPAT.platforms))


@settings(max_examples=60, deadline=None)
@given(pythons, torches, cudas, gpus, platforms)
def test_the_index_judges_as_the_rules_do(python: str, torch: str, cuda: str, gpu: str, platform: str) -> None:
    asked = cell(python=python, torch=torch, cuda=cuda, gpu=gpu, platform=platform)
    naive = {
        each.filename
        for each in REAL.wheels
        if all(says(rule, each, asked, FACTS, POLICY) is None for rule in WHEEL_RULES)
    }
    fitting = INDEX.fitting(asked)
    assert {each.filename for each in fitting} == naive
    assert INDEX.best(asked) == (fitting[0] if fitting else None)
    rejections = explain(asked, INDEX)
    assert len(rejections) == len(REAL.wheels) - len(naive)
    resolution = resolve(asked, INDEX)
    if not isinstance(resolution, Unsupported):
        counts: dict[str, int] = {}
        for rejection in rejections:
            counts[rejection.rule] = counts.get(rejection.rule, 0) + 1
        assert resolution.rejected == counts
        assert isinstance(resolution, Match) == bool(naive)
