"""The rules on a wheel for a cell, as a table: what each looks at, why it holds, who says so, and its examples.

A rule names the part of the cell and of the wheel that it looks at (``of_cell``, ``of_wheel``): the index judges
each pair of parts once, not each pair of cell and wheel. What a rule checks stands in ``wheel_checks``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum

from matrix import Cell
from matrix.compat import minor_of
from wheel_resolver.core.build import Candidate
from wheel_resolver.core.facts import Facts, Policy
from wheel_resolver.core.wheel_checks import (
    abi_fits,
    arch_fits,
    built_on_release,
    cuda_fits,
    driver_loads,
    glibc_fits,
    label_true,
    not_known_broken,
    platform_fits,
    provider_trusted,
    python_fits,
    torch_fits,
    version_fits,
)

Check = Callable[[Candidate, Cell, Facts, Policy], str | None]


def any_cell(cell: Cell) -> None:
    """What a rule looks at that judges a wheel alike for every cell."""


class About(Enum):
    """What a rule is on."""

    AXIS = "what a wheel is for: an axis of the cell"
    PROPERTY = "what a wheel is, whatever it is for"
    CHOICE = "what the asker chose"


@dataclass(frozen=True, slots=True)
class Example:
    """A wheel that a rule judges. ``question``: options that change the cell or the policy of all examples, which is
    Python 3.12, torch 2.9.1, CUDA 12.8, ABI TRUE, an A10G and linux_x86_64. ``provider``: not the official one."""

    wheel: str
    question: str = ""
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class WheelRule:
    """A rule on wheels: all that any part of the resolver says of it stands in its row.

    Attributes:
        name: in traces and in the JSON.
        because, source: why it holds, and who says so.
        accepts, refuses: a wheel of each kind; the tests judge them, and the documentation shows what the refusal says.
        of_cell, of_wheel: what it looks at: cells and wheels that are equal there are judged once.
        check: None, or why not.
        about: what the rule is on. Where no wheel fits, the reason names first what the asker chose, then what a wheel
            is that is for just this cell.
        ease: of two misses the nearer is the one of the lower number: first a wheel that is for just this cell, then by
            how easily an asker changes what the rule refuses.
        short: why no wheel fits, in the words of a table.
        missing: the wheel that does not exist when it refuses all: ``for torch 2.11``.
    """

    name: str
    because: str
    source: str
    accepts: Example
    refuses: Example
    of_cell: Callable[[Cell], Hashable]
    of_wheel: Callable[[Candidate], Hashable]
    check: Check
    about: About
    ease: int
    short: str
    missing: Callable[[Cell, Policy], str]


_GOOD = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"

#: In the order in which a trace names the first that refuses: what a person would look at first.
WHEEL_RULES = (
    WheelRule(
        "platform",
        "machine code is for one kind of machine",
        "PEP 425, PEP 600",
        Example(
            "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl"
        ),
        Example("flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_aarch64.whl"),
        lambda cell: cell.platform,
        lambda candidate: candidate.wheel.name.platform,
        platform_fits,
        about=About.AXIS,
        ease=10,
        short="no wheel for this platform",
        missing=lambda cell, policy: f"for {cell.platform}",  # noqa: ARG005
    ),
    WheelRule(
        "arch",
        "a GPU runs code of its own major only, and flash-attn 2 refuses GPUs older than Ampere",
        "compat.yaml: flash_attn.sass, flash_attn.runtime_gate",
        Example(_GOOD),
        Example(_GOOD, "--gpu T4"),
        lambda cell: (cell.arch, cell.gpu),
        lambda candidate: (candidate.wheel.name.version, candidate.build.code),
        arch_fits,
        about=About.PROPERTY,
        ease=9,
        short="no wheel runs on this GPU",
        missing=lambda cell, policy: f"with code for {cell.gpu_text}",  # noqa: ARG005
    ),
    WheelRule(
        "cuda",
        "the extension links the CUDA runtime of one major, and torch loads its own",
        "CUDA minor version compatibility guide",
        Example("flash_attn-2.8.3+cu128torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"),
        Example("flash_attn-2.8.3+cu13torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"),
        lambda cell: cell.cuda.major,
        lambda candidate: candidate.wheel.name.cuda,
        cuda_fits,
        about=About.AXIS,
        ease=6,
        short="no wheel for this CUDA",
        missing=lambda cell, policy: f"for CUDA {cell.cuda.major}",  # noqa: ARG005
    ),
    WheelRule(
        "torch",
        "torch's C++ interface changes with each minor; a wheel for another fails with an undefined symbol",
        "compat.yaml: flash_attn.reuse",
        Example(
            "flash_attn-2.8.1+cu12torch2.10cxx11abiTRUE-cp312-cp312-linux_x86_64.whl", "--torch 2.11 --reuse measured"
        ),
        Example("flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"),
        lambda cell: cell.torch,
        lambda candidate: candidate.wheel.name.torch_minor,
        torch_fits,
        about=About.AXIS,
        ease=5,
        short="no wheel for this torch",
        missing=lambda cell, policy: f"for torch {minor_of(cell.torch)}",  # noqa: ARG005
    ),
    WheelRule(
        "prerelease",
        "a pre-release of torch has an interface of its own: that a wheel was built on one says nothing of any release",
        "compat.yaml: flash_attn.recipes (v2.7.1.post1 to v2.7.3 built torch2.6 on torch 2.6.0.dev)",
        Example(
            "flash_attn-2.7.4.post1+cu12torch2.6cxx11abiTRUE-cp312-cp312-linux_x86_64.whl", "--torch 2.6 --cuda 12.6"
        ),
        Example("flash_attn-2.7.3+cu12torch2.6cxx11abiTRUE-cp312-cp312-linux_x86_64.whl", "--torch 2.6 --cuda 12.6"),
        any_cell,
        lambda candidate: candidate.build.torch,
        built_on_release,
        about=About.PROPERTY,
        ease=0,
        short="its wheels were built on a pre-release",
        missing=lambda cell, policy: "that was built on a release of torch",  # noqa: ARG005
    ),
    WheelRule(
        "python",
        "an extension module is for one CPython minor, unless it keeps to the stable ABI",
        "PEP 425, PEP 703, PEP 803",
        Example("flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp39-abi3-linux_x86_64.whl"),
        Example("flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp311-cp311-linux_x86_64.whl"),
        lambda cell: cell.python,
        lambda candidate: (candidate.wheel.name.python, candidate.wheel.name.python_abi),
        python_fits,
        about=About.AXIS,
        ease=4,
        short="no wheel for this Python",
        missing=lambda cell, policy: f"for Python {cell.python}",  # noqa: ARG005
    ),
    WheelRule(
        "label",
        "a wheel that is not what its name says is something that nobody asked for",
        "compat.yaml: flash_attn.recipes; what was found inside the wheel",
        Example("flash_attn-2.8.3+cu12torch2.6cxx11abiTRUE-cp312-cp312-linux_x86_64.whl", "--torch 2.6 --cuda 12.6"),
        Example("flash_attn-2.8.3+cu12torch2.6cxx11abiFALSE-cp312-cp312-linux_x86_64.whl", "--torch 2.6 --cuda 12.6"),
        any_cell,
        lambda candidate: candidate.build.fault,
        label_true,
        about=About.PROPERTY,
        ease=11,
        short="its wheels are mislabelled",
        missing=lambda cell, policy: "whose label is right",  # noqa: ARG005
    ),
    WheelRule(
        "abi",
        "std::string has another name in each C++ ABI of libstdc++",
        "compat.yaml: torch.*.abi; torch.compiled_with_cxx11_abi()",
        Example("flash_attn-2.8.3+cu128torch2.9-cp312-cp312-linux_x86_64.whl"),
        Example(
            "flash_attn-2.7.4.post1+cu12torch2.6cxx11abiFALSE-cp312-cp312-linux_x86_64.whl", "--torch 2.6 --cuda 12.6"
        ),
        lambda cell: cell.abi,
        lambda candidate: (
            candidate.build.abi,
            candidate.build.torch,
            candidate.wheel.name.torch_minor,
            candidate.wheel.name.cuda,
        ),
        abi_fits,
        about=About.AXIS,
        ease=7,
        short="no wheel for this C++ ABI",
        missing=lambda cell, policy: f"for ABI {cell.abi}",  # noqa: ARG005
    ),
    WheelRule(
        "driver",
        "v2.8.1 compresses its GPU code (-compress-mode=size), and older drivers cannot unpack that",
        "compat.yaml: flash_attn.compressed, flash_attn.recipes",
        Example(_GOOD, "--driver 535.247.01"),
        Example("flash_attn-2.8.1+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl", "--driver 535.247.01"),
        any_cell,
        lambda candidate: candidate.build.driver,
        driver_loads,
        about=About.PROPERTY,
        ease=2,
        short="the wheels need a newer driver",
        missing=lambda cell, policy: f"for driver {policy.driver}",  # noqa: ARG005
    ),
    WheelRule(
        "glibc",
        "wheels since 2.8.0.post2 need GLIBC_2.32; bullseye, Ubuntu 20.04 and RHEL 8 are older; a manylinux tag says "
        "what its wheel needs",
        "compat.yaml: flash_attn.glibc; PEP 600",
        Example("flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-manylinux_2_28_x86_64.whl", "--glibc 2.31"),
        Example(_GOOD, "--glibc 2.31"),
        any_cell,
        lambda candidate: candidate.build.glibc,
        glibc_fits,
        about=About.PROPERTY,
        ease=3,
        short="the wheels need a newer glibc",
        missing=lambda cell, policy: f"for glibc {policy.glibc}",  # noqa: ARG005
    ),
    WheelRule(
        "flash_attn",
        "the asker accepts some versions only",
        "--flash-attn, or targets.*.flash_attn",
        Example(_GOOD, "--flash-attn >=2.8"),
        Example("flash_attn-2.7.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl", "--flash-attn >=2.8"),
        any_cell,
        lambda candidate: candidate.wheel.name.version,
        version_fits,
        about=About.CHOICE,
        ease=1,
        short="no wheel of the version asked for",
        missing=lambda cell, policy: f"of version {' or '.join(map(str, policy.flash_attn))}",  # noqa: ARG005
    ),
    WheelRule(
        "provider",
        "a wheel is code that runs with the service's rights",
        "matrix.yaml: providers, or --provider",
        Example(_GOOD),
        Example(_GOOD, provider="someone/else"),
        any_cell,
        lambda candidate: candidate.wheel.provider,
        provider_trusted,
        about=About.CHOICE,
        ease=7,
        short="no wheel from a trusted provider",
        missing=lambda cell, policy: "from a trusted provider",  # noqa: ARG005
    ),
    WheelRule(
        "known_broken",
        "some wheels fit by every other rule and fail all the same",
        "known_broken.yaml",
        Example(_GOOD),
        Example(
            "flash_attn-2.5.9+cu122torch2.2cxx11abiFALSE-cp312-cp312-linux_x86_64.whl", "--torch 2.2.0 --cuda 12.1"
        ),
        lambda cell: cell.torch,
        lambda candidate: (candidate.wheel.name.version, candidate.wheel.name.torch_minor, candidate.wheel.name.python),
        not_known_broken,
        about=About.PROPERTY,
        ease=8,
        short="its wheels are known to be broken",
        missing=lambda cell, policy: "that is not known to be broken there",  # noqa: ARG005
    ),
)
