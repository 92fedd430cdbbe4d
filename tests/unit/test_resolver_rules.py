"""Each rule: its own examples, and the cases of the field that it exists for."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix import DATA_DIR, Abi, Arch, Cell, Cuda, Driver, KnownBroken, PythonVersion, load_project
from matrix.known import newest_patch
from tests.judging import says
from wheel_resolver.asking.options import parser, policy_asked
from wheel_resolver.asking.question import flash_attn_asked
from wheel_resolver.core.cell_rules import CELL_RULES, CellRule, judge_cell
from wheel_resolver.core.facts import Facts, Policy, default_policy
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.resolve import RULE_NAMES, sdpa_backend
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.core.wheel_rules import WHEEL_RULES, Example, WheelRule

PROJECT = load_project()
COMPAT = PROJECT.compat
FACTS = Facts(COMPAT)
POLICY = default_policy(COMPAT)
CELL = Cell(
    PythonVersion.parse("3.12"), Version("2.9.1"), Cuda.parse("12.8"), Abi.TRUE, Arch(8, 6), "A10G", "linux_x86_64"
)
GOOD = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
RULES = {rule.name: rule for rule in WHEEL_RULES}


def wheel(filename: str, provider: str = "Dao-AILab/flash-attention") -> Wheel:
    name = WheelName.parse(filename)
    assert name is not None
    return Wheel(name, filename, "https://example.org/w", "0" * 64, None, f"v{name.version}", provider, None)


def verdict(rule: str, filename: str = GOOD, cell: Cell = CELL, policy: Policy = POLICY) -> str | None:
    return says(RULES[rule], wheel(filename), cell, FACTS, policy)


def gpu(name: str) -> Cell:
    """The cell on another GPU, in a machine that has it."""
    platforms = COMPAT.gpu_facts[name].platforms
    platform = CELL.platform if CELL.platform in platforms else platforms[0]
    return replace(CELL, gpu=name, arch=COMPAT.gpus[name], platform=platform)


def example(question: str) -> tuple[Cell, Policy]:
    """The cell and the policy of a rule's example, by the options of the command line."""
    options = parser().parse_args(question.split())
    cell = CELL
    for axis, parse in (("torch", Version), ("python", PythonVersion.parse), ("cuda", Cuda.parse)):
        for text in getattr(options, axis):
            cell = replace(cell, **{axis: newest_patch(text, COMPAT) if axis == "torch" else parse(text)})
    for text in options.gpu:
        cell = replace(cell, gpu=text, arch=COMPAT.gpus[text])
    for text in options.platform:
        cell = replace(cell, platform=text)
    return cell, policy_asked(options, replace(POLICY, flash_attn=flash_attn_asked(options.flash_attn)))


def judge(rule: WheelRule, case: Example) -> str | None:
    cell, policy = example(case.question)
    judged = wheel(case.wheel, case.provider or "Dao-AILab/flash-attention")
    return says(rule, judged, cell, Facts(COMPAT, PROJECT.known_broken), policy)


@pytest.mark.parametrize("rule", WHEEL_RULES, ids=lambda rule: rule.name)
def test_a_rule_accepts_and_refuses_its_own_examples(rule: WheelRule) -> None:
    assert judge(rule, rule.accepts) is None
    assert judge(rule, rule.refuses)


@pytest.mark.parametrize("rule", CELL_RULES, ids=lambda rule: rule.name)
def test_a_rule_on_cells_too(rule: CellRule) -> None:
    cell, policy = example(rule.accepts)
    assert judge_cell(cell, FACTS, policy) is None
    cell, policy = example(rule.refuses)
    assert rule.check(cell, FACTS, policy) is not None


def test_every_rule_has_a_name_a_reason_and_a_source() -> None:
    assert len(set(RULES)) == len(WHEEL_RULES)
    assert set(RULES) < set(RULE_NAMES)
    for rule in (*WHEEL_RULES, *CELL_RULES):
        assert rule.because, rule.name
        assert rule.source, rule.name
        assert rule.check.__doc__, rule.name


@pytest.mark.parametrize(
    ("tags", "python", "fits"),
    [
        ("cp312-cp312", "3.12", True),
        ("cp312-cp312", "3.13", False),
        ("cp313-cp313", "3.13t", False),
        ("cp313-cp313t", "3.13t", True),
        ("cp313-cp313t", "3.13", False),
        ("cp39-abi3", "3.12", True),
        ("cp313-abi3", "3.12", False),
        ("cp39-abi3", "3.13t", False),
        ("cp310-abi3", "3.9", False),
    ],
)
def test_python_tags(tags: str, python: str, fits: bool) -> None:
    cell = replace(CELL, python=PythonVersion.parse(python))
    filename = f"flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-{tags}-linux_x86_64.whl"
    assert (verdict("python", filename, cell) is None) is fits


def test_musl_and_windows_are_not_linux() -> None:
    for platform in ("musllinux_1_2_x86_64", "win_amd64", "manylinux_2_28_aarch64"):
        assert verdict("platform", GOOD.replace("linux_x86_64", platform))


def test_a_prerelease_of_torch_refuses_official_wheels() -> None:
    assert verdict("torch", cell=replace(CELL, torch=Version("2.9.0a0")))


@pytest.mark.parametrize(
    ("torch", "cuda", "platform", "abi"),
    [
        ("2.6.0", "12.4", "linux_x86_64", "FALSE"),
        ("2.6.0", "12.6", "linux_x86_64", "TRUE"),
        ("2.6.0", "12.6", "linux_aarch64", "TRUE"),
        ("2.7.1", "12.6", "linux_x86_64", "TRUE"),
        ("2.4.1", "12.1", "linux_x86_64", "FALSE"),
    ],
)
def test_the_abi_of_official_torch_wheels(torch: str, cuda: str, platform: str, abi: str) -> None:
    assert COMPAT.abi(Version(torch), Cuda.parse(cuda), platform) == abi


def test_a_name_without_abi_follows_torch_and_cuda() -> None:
    """In the names of other providers: ours say their ABI, and their recipes say whether that is true."""
    old = replace(CELL, torch=Version("2.6.0"), cuda=Cuda.parse("12.6"), abi=Abi.TRUE)

    def said(build: str) -> str | None:
        filename = f"flash_attn-2.8.3+{build}-cp312-cp312-linux_x86_64.whl"
        return says(RULES["abi"], wheel(filename, "someone/else"), old, FACTS, POLICY)

    assert said("cu126torch2.6") is None
    assert said("cu124torch2.6") == "ABI FALSE is not TRUE"
    # Torch 2.6 for CUDA 12 was built with both, and of torch 1.13 nothing is known: what is not known is not given.
    for unknown in ("cu12torch2.6", "cu124torch1.13"):
        assert (said(unknown) or "").startswith("its ABI is not known")


def test_the_abi_is_that_of_the_torch_that_compiled_the_wheel_not_of_its_label() -> None:
    """FLASH_ATTENTION_FORCE_CXX11_ABI sets TRUE and can set nothing else (compat.yaml: flash_attn.recipes)."""
    name = "flash_attn-{}+cu12torch2.6cxx11abi{}-cp312-cp312-linux_x86_64.whl"
    true, false = (replace(CELL, torch=Version("2.6.0"), cuda=Cuda.parse("12.6"), abi=abi) for abi in Abi)
    for version, label, abi in (
        ("2.7.4.post1", "FALSE", Abi.FALSE),  # built with torch 2.6.0 for CUDA 12.4
        ("2.7.4.post1", "TRUE", Abi.TRUE),
        ("2.8.3", "TRUE", Abi.TRUE),
        ("2.8.3", "FALSE", Abi.TRUE),  # built with torch 2.6.0 for CUDA 12.6
    ):
        filename = name.format(version, label)
        assert (verdict("abi", filename, true) is None) is (abi is Abi.TRUE)
        assert (verdict("abi", filename, false) is None) is (abi is Abi.FALSE)
        fault = "labelled ABI FALSE, but it was built with torch 2.6.0 for CUDA 12.6, whose ABI is TRUE"
        assert verdict("label", filename, true) == (fault if label != abi else None)


def test_a_wheel_of_a_prerelease_is_evidence_for_no_release() -> None:
    asked = replace(CELL, torch=Version("2.6.0"), cuda=Cuda.parse("12.4"), abi=Abi.FALSE)
    filename = "flash_attn-2.7.3+cu12torch2.6cxx11abiFALSE-cp312-cp312-linux_x86_64.whl"
    assert verdict("prerelease", filename, asked) == (
        "built on torch 2.6.0.dev20241001, a pre-release, which says nothing of any release"
    )
    assert verdict("abi", filename, asked) is None  # nobody recorded that build's ABI: nothing is said of it
    assert verdict("torch", filename.replace("2.7.3", "2.7.4.post1"), asked) is None


@pytest.mark.parametrize(
    ("version", "driver", "loads"),
    [
        ("2.8.1", "535.247.01", False),
        ("2.8.1", "550.54.14", True),
        ("2.8.1", None, True),
        ("2.8.2", "535.247.01", True),
        ("2.8.3", "535.247.01", True),
    ],
)
def test_compressed_code_needs_a_newer_driver(version: str, driver: str | None, loads: bool) -> None:
    policy = replace(POLICY, driver=None if driver is None else Driver.parse(driver))
    for torch in ("2.7", "2.9"):  # listed by the tag's recipe, and uploaded later
        filename = GOOD.replace("2.8.3", version).replace("torch2.9", f"torch{torch}")
        said = verdict("driver", filename, policy=policy)
        assert said == (None if loads else f"its compressed GPU code needs driver 550, the host has {driver}")


def test_turing_refuses_every_wheel() -> None:
    assert verdict("arch", cell=gpu("T4")) == "flash-attn needs sm_80 or newer, T4 (sm_75) is older"


def test_blackwell_needs_a_wheel_with_its_code() -> None:
    older = GOOD.replace("2.8.3", "2.7.4.post1")
    assert verdict("arch", older, gpu("B200")) == "no code for B200 (sm_100): the wheel holds sm_80, sm_90"
    assert verdict("arch", GOOD, gpu("B200")) is None
    assert verdict("arch", GOOD.replace("2.8.3", "2.7.2.post1"), gpu("RTX 50"))  # the C++ gate of old versions


def test_every_gpu_from_ampere_to_hopper_is_served_by_any_version() -> None:
    for name in ("A100", "A10G", "L4", "H100"):
        for version in ("2.6.3", "2.7.4.post1", "2.8.3"):
            assert verdict("arch", GOOD.replace("2.8.3", version), gpu(name)) is None


def test_bullseye_refuses_wheels_since_2_8() -> None:
    bullseye = replace(POLICY, glibc=Version("2.31"))
    assert verdict("glibc", policy=bullseye) == "needs glibc 2.32, the base has 2.31"
    listed = "flash_attn-2.7.3+cu12torch2.5cxx11abiFALSE-cp312-cp312-linux_x86_64.whl"
    assert verdict("glibc", listed, policy=bullseye) is None  # built on Ubuntu 20.04
    later = GOOD.replace("2.8.3", "2.7.3")  # its tag's recipe does not list torch 2.9
    assert verdict("glibc", later, policy=bullseye) == "needs glibc 2.32, the base has 2.31"
    assert verdict("glibc", policy=replace(POLICY, glibc=None)) is None


@pytest.mark.parametrize(
    ("platform", "glibc", "fits"),
    [
        ("manylinux_2_39_x86_64", "2.36", False),  # built on Ubuntu 24.04: bookworm is older
        ("manylinux_2_28_x86_64", "2.31", True),
        ("manylinux_2_24_x86_64.manylinux_2_39_x86_64", "2.31", True),
        ("manylinux2014_x86_64", "2.17", True),
        ("manylinux2014_x86_64", "2.16", False),
        ("manylinux1_x86_64", "2.5", True),
        ("linux_x86_64.manylinux_2_28_x86_64", "2.31", False),  # the first tag promises nothing: as measured
    ],
)
def test_a_manylinux_tag_says_the_glibc(platform: str, glibc: str, fits: bool) -> None:
    policy = replace(POLICY, glibc=Version(glibc))
    assert (verdict("glibc", GOOD.replace("linux_x86_64", platform), policy=policy) is None) is fits


def test_an_untrusted_provider_is_refused() -> None:
    foreign = wheel(GOOD, provider="someone/else")
    assert says(RULES["provider"], foreign, CELL, FACTS, POLICY) == "someone/else is not a trusted provider"


def test_a_known_broken_wheel_is_refused_narrowly() -> None:
    fact = KnownBroken(SpecifierSet("==2.9.1"), SpecifierSet("==2.8.3"), "2.9", "3.12", "it crashes", "use 2.8.1", "us")
    facts = Facts(COMPAT, (fact,))
    check = functools.partial(says, RULES["known_broken"])
    assert check(wheel(GOOD), CELL, facts, POLICY) == "known broken: it crashes (workaround: use 2.8.1)"
    assert check(wheel(GOOD.replace("2.8.3", "2.8.1")), CELL, facts, POLICY) is None
    assert check(wheel(GOOD.replace("cp312", "cp311")), CELL, facts, POLICY) is None
    assert check(wheel(GOOD), replace(CELL, torch=Version("2.9.0")), facts, POLICY) is None


@pytest.mark.parametrize(
    ("change", "rule", "reason", "remedy"),
    [
        ({"cuda": Cuda.parse("12.4")}, "torch", "never built for CUDA 12.4", "CUDA 12.6, 12.8, 12.9, 13.0, or cpu"),
        ({"python": PythonVersion.parse("3.9")}, "torch", "never built for Python 3.9", "use one of its Pythons: 3.10"),
        (
            {"torch": Version("2.6.0"), "cuda": Cuda.parse("12.4"), "arch": Arch(10, 0), "gpu": "B200"},
            "torch_code",
            "torch 2.6.0 for CUDA 12.4 has no code for B200 (sm_100)",
            "use torch 2.7 for CUDA 12.8",
        ),
        (
            {"arch": Arch(8, 7), "gpu": "Orin", "platform": "linux_aarch64"},
            "torch_code",
            "no code for Orin",
            "use another GPU",
        ),
        (
            {"arch": Arch(11, 0), "gpu": "Thor", "platform": "linux_aarch64"},
            "torch_code",
            "no code for Thor",
            "use torch 2.9 for CUDA 13.0",
        ),
        (
            {"arch": Arch(11, 0), "gpu": "Thor"},
            "machine",
            "no linux_x86_64 machine has Thor (sm_110): it comes with linux_aarch64 only",
            "use --platform linux_aarch64",
        ),
        (
            {"arch": Arch(7, 0), "gpu": "V100", "cuda": Cuda.parse("13.0")},
            "torch_code",
            "V100",
            "torch 2.9 for CUDA 12.6",
        ),
    ],
)
def test_cells_where_torch_cannot_run(change: dict[str, object], rule: str, reason: str, remedy: str) -> None:
    verdict = judge_cell(replace(CELL, **change), FACTS, POLICY)  # type: ignore[arg-type]
    assert verdict is not None
    assert verdict[0].name == rule
    assert reason in verdict[1]
    assert remedy in verdict[2]


@pytest.mark.parametrize(
    ("driver", "cuda", "runs"),
    [("535.104", "12.8", True), ("535.104", "13.0", False), ("580.65", "13.0", True), ("525.60.12", "12.8", False)],
)
def test_driver_floors(driver: str, cuda: str, runs: bool) -> None:
    verdict = judge_cell(replace(CELL, cuda=Cuda.parse(cuda)), FACTS, replace(POLICY, driver=Driver.parse(driver)))
    assert (verdict is None) is runs


@pytest.mark.parametrize(
    ("name", "driver", "reason"),
    [
        ("B200", "550.54.14", "the driver 550.54.14 is older than 570, the first that knows B200 (sm_100)"),
        ("B200", "570", None),
        ("RTX 50", "565.57.01", "the driver 565.57.01 is older than 570, the first that knows RTX 50 (sm_120)"),
        ("V100", "590.44.01", "the driver 590.44.01 no longer knows V100 (sm_70): 580 is the last branch that does"),
        ("V100", "580.105.08", None),
        ("T4", "590.44.01", None),
    ],
)
def test_a_driver_knows_the_gpus_of_its_time(name: str, driver: str, reason: str | None) -> None:
    verdict = judge_cell(gpu(name), FACTS, replace(POLICY, driver=Driver.parse(driver)))
    assert (None if verdict is None else (verdict[0].name, verdict[1])) == (reason and ("gpu_driver", reason))


def test_a_newer_minor_of_the_same_major_runs_older_code() -> None:
    for name in ("GB300", "GB10 (DGX Spark)"):  # 10.3 runs code for 10.0, 12.1 runs code for 12.0
        assert judge_cell(gpu(name), FACTS, POLICY) is None


@pytest.mark.parametrize(
    ("arch", "backend"),
    [("8.0", "flash"), ("12.0", "flash"), ("7.5", "efficient"), ("7.0", "efficient"), ("3.7", "math")],
)
def test_sdpa_backends(arch: str, backend: str) -> None:
    assert sdpa_backend(Arch.parse(arch)) == backend


@pytest.mark.parametrize(
    ("arch", "dtype", "backend"),
    [
        ("8.6", "float16", "flash"),
        ("8.6", "bfloat16", "flash"),
        ("8.6", "float32", "efficient"),
        ("7.5", "float16", "efficient"),
        ("7.5", "float32", "efficient"),
        ("7.5", "bfloat16", "math"),  # a T4 has none
    ],
)
def test_the_dtype_decides_sdpas_kernels_too(arch: str, dtype: str, backend: str) -> None:
    assert sdpa_backend(Arch.parse(arch), dtype) == backend


def test_the_documentation_shows_every_rule_with_what_its_example_says() -> None:
    text = (DATA_DIR.parent / "docs" / "resolver.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    for rule in WHEEL_RULES:
        asked = f"`{rule.refuses.question}`: " if rule.refuses.question else ""
        said = f"| {asked}{judge(rule, rule.refuses)} |"
        shown = f"{said} {rule.because} ({rule.source}) |"
        assert any(row.startswith(f"| `{rule.name}` |") and row.endswith(shown) for row in rows), rule.name
    for cell_rule in CELL_RULES:
        cell, policy = example(cell_rule.refuses)
        refusal = cell_rule.check(cell, FACTS, policy)
        assert refusal is not None
        said = f"| `{cell_rule.refuses}`: {refusal[0]} |"
        shown = f"{said} {cell_rule.because} ({cell_rule.source}) |"
        assert any(row.startswith(f"| `{cell_rule.name}` |") and row.endswith(shown) for row in rows), cell_rule.name


REUSED = "flash_attn-2.8.1+cu12torch2.10cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"


@pytest.mark.parametrize(
    ("torch", "filename", "fits"),
    [
        ("2.10.0", REUSED, True),
        ("2.11.0", REUSED, True),
        ("2.12.1", REUSED, True),
        ("2.13.0", REUSED, False),
        ("2.14.0", REUSED, False),
        ("2.9.1", REUSED, False),
        ("2.10.0", GOOD, False),  # torch 2.9's wheels were seen to fail there
        ("2.11.0a0", REUSED, False),
    ],
)
def test_reuse_keeps_to_what_was_measured(torch: str, filename: str, fits: bool) -> None:
    cell = replace(CELL, torch=Version(torch))
    assert (verdict("torch", filename, cell, replace(POLICY, reuse=True)) is None) is fits


def test_reuse_is_never_a_default_and_says_that_it_could() -> None:
    said = verdict("torch", REUSED, replace(CELL, torch=Version("2.11.0")))
    assert said == "torch 2.10 is not 2.11 (it was seen to load there: --reuse measured)"
