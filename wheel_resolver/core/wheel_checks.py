"""What the rules on a wheel check: each a small function that returns None, or a few words on why not."""

from __future__ import annotations

import re

from packaging.version import Version

from matrix import Abi, Cell
from matrix.compat import Reuse, minor_of
from wheel_resolver.core.facts import Facts, Policy
from wheel_resolver.core.wheel import Wheel

_MANYLINUX = re.compile(r"manylinux_(\d{1,3})_(\d{1,3})_")

#: The names that older manylinux tags have in PEP 600.
_BEFORE_PEP_600 = {
    "manylinux1_": "manylinux_2_5_",
    "manylinux2010_": "manylinux_2_12_",
    "manylinux2014_": "manylinux_2_17_",
}


def python_fits(wheel: Wheel, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The wheel is for this CPython; ``abi3`` serves newer ones, but never a free-threaded one."""
    name, python = wheel.name, cell.python
    if name.python_abi == "abi3":
        oldest = (int(name.python[2]), int(name.python[3:]))
        if python.free_threaded:
            return "abi3 does not serve a free-threaded Python"
        return None if (python.major, python.minor) >= oldest else f"{name.python}-abi3 needs a newer Python"
    built_for = name.python + ("t" if name.python_abi.endswith("t") else "")
    return None if built_for == python.tag else f"{built_for} is not {python.tag}"


def platform_fits(wheel: Wheel, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """One of the wheel's platform tags is Linux (glibc) on this machine."""
    machine = cell.platform.removeprefix("linux_")
    for tag in wheel.name.platform.split("."):
        if tag == cell.platform or (tag.startswith("manylinux") and tag.endswith(f"_{machine}")):
            return None
    return f"{wheel.name.platform} is not {cell.platform}"


def cuda_fits(wheel: Wheel, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The CUDA major is torch's (``torch.version.cuda``); the host's toolkit does not matter."""
    if cell.cuda.is_cpu:
        return f"cu{wheel.name.cuda} needs a CUDA build of torch"
    if wheel.name.cuda_major != cell.cuda.major:
        return f"cu{wheel.name.cuda} is not CUDA {cell.cuda.major}"
    return None


def torch_fits(wheel: Wheel, cell: Cell, facts: Facts, policy: Policy) -> str | None:
    """The torch minor is the cell's, or with ``--reuse measured`` one whose wheels were seen to load on it.

    A pre-release (NGC's ``2.9.0a0+...``) has an interface of its own, between those of two releases.
    """
    if cell.torch.is_prerelease:
        return f"torch {cell.torch} is a pre-release, as NGC builds are; the wheel is for the release"
    asked, built_for = minor_of(cell.torch), wheel.name.torch_minor
    if built_for == asked:
        return None
    if reuse_window(built_for, cell, facts) is None:
        return f"torch {built_for} is not {asked}"
    return None if policy.reuse else f"torch {built_for} is not {asked} (it was seen to load there: --reuse measured)"


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


def abi_fits(wheel: Wheel, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The C++ ABI is torch's; a name that does not say follows the official torch build of its own CUDA."""
    said = wheel.name.abi or _official_abi(wheel, facts)
    return None if said in {None, cell.abi} else f"ABI {said} is not {cell.abi}"


def _official_abi(wheel: Wheel, facts: Facts) -> Abi | None:
    known = facts.compat.torch.get(wheel.name.torch_minor)
    if known is None:
        return None
    on_aarch64 = wheel.name.platform.endswith("aarch64")
    platform = "linux_aarch64" if on_aarch64 else "linux_x86_64"
    for cuda in known.cuda:
        if cuda.major == wheel.name.cuda_major and wheel.name.cuda_minor in {None, cuda.minor}:
            return facts.compat.abi(Version(wheel.name.torch_minor), cuda, platform)
    return known.abi


def arch_fits(wheel: Wheel, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The wheel holds code for the GPU, and its C++ accepts it. On Turing the import works and the call fails."""
    return lacks_code(wheel.name.flash_attn, cell, facts)


def lacks_code(version: Version, cell: Cell, facts: Facts) -> str | None:
    """Why a flash-attn version cannot run on the cell's GPU, whoever compiled it; None when it can."""
    if cell.arch is None:
        return None
    known = facts.compat.flash_attn
    gate = known.gate(version)
    if gate is not None and cell.arch < gate.least:
        return f"flash-attn needs {gate.least} or newer, {cell.gpu_text} is older"
    if gate is not None and gate.most is not None and cell.arch > gate.most:
        return f"flash-attn {version} accepts GPUs up to {gate.most}, not {cell.gpu_text}"
    code = known.code_in(version)
    if code is not None and not code.serves(cell.arch):
        return f"no code for {cell.gpu_text}: the wheel holds {', '.join(map(str, code.sass))}"
    return None


def glibc_fits(wheel: Wheel, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The base image's glibc has the symbols that the wheel needs; without them the import fails.

    A manylinux tag says what it needs; of other wheels, as the official ones are, it was measured.
    """
    needed = promised_glibc(wheel.name.platform) or facts.compat.flash_attn.glibc_needed(wheel.name.flash_attn)
    if policy.glibc is None or needed is None or policy.glibc >= needed:
        return None
    return f"needs glibc {needed}, the base has {policy.glibc}"


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


def version_fits(wheel: Wheel, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The flash-attn version is one that the asker accepts."""
    version = wheel.name.flash_attn
    if not policy.flash_attn or any(wanted.contains(version, prereleases=True) for wanted in policy.flash_attn):
        return None
    return f"flash-attn {version} is not {' or '.join(map(str, policy.flash_attn))}"


def provider_trusted(wheel: Wheel, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """The provider is one that the asker trusts."""
    return None if wheel.provider in policy.trust else f"{wheel.provider} is not a trusted provider"


def not_known_broken(wheel: Wheel, cell: Cell, facts: Facts, policy: Policy) -> str | None:  # noqa: ARG001
    """No known-broken fact matches the wheel on this torch."""
    for fact in facts.known_broken:
        if (
            (fact.torch is None or fact.torch.contains(cell.torch, prereleases=True))
            and (fact.flash_attn is None or fact.flash_attn.contains(wheel.name.flash_attn, prereleases=True))
            and fact.wheel_torch in {None, wheel.name.torch_minor}
            and fact.wheel_python in {None, wheel.name.python.removeprefix("cp").replace("3", "3.", 1)}
        ):
            return f"known broken: {fact.because} (workaround: {fact.workaround})"
    return None
