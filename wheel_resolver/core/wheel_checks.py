"""What the rules on a wheel check: each a small function that returns None, or a few words on why not."""

from __future__ import annotations

from packaging.version import Version

from matrix import Cell, CodeFor, KnownBroken, Reuse
from matrix.compat import minor_of
from wheel_resolver.core.build import Candidate
from wheel_resolver.core.facts import Facts, Policy
from wheel_resolver.core.names import WheelName


def python_fits(candidate: Candidate, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The wheel is for this CPython; ``abi3`` serves newer ones, but never a free-threaded one.

    For free-threaded ones there is ``abi3t`` from Python 3.15 on; ``abi3.abi3t`` is for both.
    """
    name, python = candidate.wheel.name, cell.python
    abis = name.python_abi.split(".")
    if abis[0].startswith("abi3"):
        wanted = "abi3t" if python.free_threaded else "abi3"
        if wanted not in abis:
            return f"{name.python_abi} does not serve a {'free-threaded ' if python.free_threaded else ''}Python"
        oldest = (int(name.python[2]), int(name.python[3:]))
        return None if (python.major, python.minor) >= oldest else f"{name.python}-{wanted} needs a newer Python"
    built_for = name.python + ("t" if name.python_abi.endswith("t") else "")
    return None if built_for == python.tag else f"{built_for} is not {python.tag}"


def platform_fits(candidate: Candidate, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """One of the wheel's platform tags is Linux (glibc) on this machine."""
    machine = cell.platform.removeprefix("linux_")
    platform = candidate.wheel.name.platform
    for tag in platform.split("."):
        if tag == cell.platform or (tag.startswith("manylinux") and tag.endswith(f"_{machine}")):
            return None
    return f"{platform} is not {cell.platform}"


def cuda_fits(candidate: Candidate, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The CUDA major is torch's (``torch.version.cuda``); the host's toolkit does not matter."""
    name = candidate.wheel.name
    if cell.cuda.is_cpu or cell.cuda.is_rocm:
        return f"cu{name.cuda} needs a CUDA build of torch"
    return None if name.cuda_major == cell.cuda.major else f"cu{name.cuda} is not CUDA {cell.cuda.major}"


def torch_fits(candidate: Candidate, cell: Cell, facts: Facts, policy: Policy) -> str | None:
    """The torch minor is the cell's, or with ``--reuse measured`` one whose wheels were seen to load on it.

    A pre-release (NGC's ``2.9.0a0+...``) has an interface of its own, between those of two releases.
    """
    if cell.torch.is_prerelease:
        return f"torch {cell.torch} is a pre-release, as NGC builds are; the wheel is for the release"
    asked, built_for = minor_of(cell.torch), candidate.wheel.name.torch_minor
    if built_for == asked:
        return None
    if reuse_window(built_for, cell, facts) is None:
        return f"torch {built_for} is not {asked}"
    return None if policy.reuse else f"torch {built_for} is not {asked} (it was seen to load there: --reuse measured)"


def built_on_release(candidate: Candidate, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The torch that compiled the wheel was a release: on a pre-release it is evidence for none."""
    torch = candidate.build.torch
    if torch is None or not torch.is_prerelease:
        return None
    return f"built on torch {torch}, a pre-release, which says nothing of any release"


def reuse_window(wheel_torch: str, cell: Cell, facts: Facts) -> Reuse | None:
    """The measurement that saw wheels for this torch minor load on the cell's, which is another one."""
    asked = minor_of(cell.torch)
    for row in facts.compat.flash_attn.reuse:
        if row.wheel_torch == wheel_torch and asked in row.loads_on and asked not in row.fails_on:
            return row
    return None


def reuse_evidence(wheel_torch: str, cell: Cell, facts: Facts) -> str:
    """The end of a match's reason where the wheel is for another torch minor: who saw it load, and where not."""
    window = None if wheel_torch == minor_of(cell.torch) else reuse_window(wheel_torch, cell, facts)
    if window is None:
        return ""
    fails = f" and to fail on {', '.join(window.fails_on)}" if window.fails_on else ""
    return (
        f"; it is built for torch {wheel_torch}, and reused: measured to load on {', '.join(window.loads_on)}{fails} "
        f"({window.source})"
    )


def label_true(candidate: Candidate, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """Nothing that is known of the wheel contradicts its name: nobody can rely on a wheel that is something else."""
    return candidate.build.fault


def abi_fits(candidate: Candidate, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The C++ ABI is torch's: that of the build that compiled the wheel, not the one that its label claims."""
    abi, name, torch = candidate.build.abi, candidate.wheel.name, candidate.build.torch
    if torch is not None and torch.is_prerelease:
        return None  # that it was built on one says all; nobody recorded which ABI that build had
    if abi is None:
        if name.torch_minor not in facts.compat.torch:
            return f"its ABI is not known: compat.yaml knows no torch {name.torch_minor}"
        return f"its ABI is not known: torch {name.torch_minor} was built with both, and cu{name.cuda} says neither"
    return None if abi == cell.abi else f"ABI {abi} is not {cell.abi}"


def driver_loads(candidate: Candidate, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The host's driver, where it is known, loads the wheel's code."""
    needed = candidate.build.driver
    if policy.driver is None or needed is None or policy.driver.reaches(needed):
        return None
    return f"its compressed GPU code needs driver {needed}, the host has {policy.driver}"


def arch_fits(candidate: Candidate, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The wheel holds code for the GPU, and its C++ accepts it. On Turing the import works and the call fails."""
    return lacks_code(candidate.wheel.name.flash_attn, candidate.build.code, cell, facts)


def lacks_code(version: Version, code: CodeFor | None, cell: Cell, facts: Facts) -> str | None:
    """Why a flash-attn version with this machine code cannot run on the cell's GPU; None when it can."""
    if cell.arch is None:
        return None
    gate = facts.compat.flash_attn.gate(version)
    if gate is not None and cell.arch < gate.least:
        return f"flash-attn needs {gate.least} or newer, {cell.gpu_text} is older"
    if gate is not None and gate.most is not None and cell.arch > gate.most:
        return f"flash-attn {version} accepts GPUs up to {gate.most}, not {cell.gpu_text}"
    if code is not None and not code.serves(cell.arch):
        return f"no code for {cell.gpu_text}: the wheel holds {', '.join(map(str, code.sass))}"
    return None


def glibc_fits(candidate: Candidate, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The base image's glibc has the symbols that the wheel needs; without them the import fails.

    Measured inside official wheels since 2.8.0.post2; else a manylinux tag says it, or the machine that built the
    wheel, which is the most that it can need.
    """
    needed = candidate.build.glibc
    if policy.glibc is None or needed is None or policy.glibc >= needed:
        return None
    return f"needs glibc {needed}, the base has {policy.glibc}"


def version_fits(candidate: Candidate, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The flash-attn version is one that the asker accepts."""
    version = candidate.wheel.name.flash_attn
    if not policy.flash_attn or any(wanted.contains(version, prereleases=True) for wanted in policy.flash_attn):
        return None
    return f"flash-attn {version} is not {' or '.join(map(str, policy.flash_attn))}"


def provider_trusted(candidate: Candidate, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The provider is one that the asker trusts."""
    provider = candidate.wheel.provider
    return None if provider in policy.trust else f"{provider} is not a trusted provider"


def not_known_broken(candidate: Candidate, cell: Cell, facts: Facts, policy: Policy) -> str | None:
    """No known-broken fact matches the wheel on this torch, next to what else is installed."""
    for fact in facts.known_broken:
        if fact.installed and not policy.packages:  # the usual question, which knows of nothing installed
            continue
        if _matches(fact, candidate.wheel.name, cell, policy):
            return f"known broken: {fact.because} (workaround: {fact.workaround})"
    return None


def _matches(fact: KnownBroken, name: WheelName, cell: Cell, policy: Policy) -> bool:
    return (
        (fact.wheel_torch is None or fact.wheel_torch == name.torch_minor)
        and (fact.wheel_python is None or fact.wheel_python == name.python.removeprefix("cp").replace("3", "3.", 1))
        and all(
            project in policy.packages and wanted.contains(policy.packages[project], prereleases=True)
            for project, wanted in fact.installed.items()
        )
        and (fact.torch is None or fact.torch.contains(cell.torch, prereleases=True))
        and (fact.flash_attn is None or fact.flash_attn.contains(name.flash_attn, prereleases=True))
    )
