"""The rules on a wheel for a cell, as a table: what each looks at, why it holds, who says so, and its examples.

A rule names the part of the cell and of the wheel that it looks at (``of_cell``, ``of_wheel``): the index judges
each pair of parts once, not each pair of cell and wheel. What a rule checks stands in ``wheel_checks``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from matrix import Cell
from wheel_resolver.core.facts import Facts, Policy
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.core.wheel_checks import (
    abi_fits,
    arch_fits,
    cuda_fits,
    glibc_fits,
    not_known_broken,
    platform_fits,
    provider_trusted,
    python_fits,
    torch_fits,
    version_fits,
)

Check = Callable[[Wheel, Cell, Facts, Policy], str | None]


@dataclass(frozen=True, slots=True)
class Example:
    """A wheel that a rule judges. ``question``: options that change the cell or the policy of all examples, which is
    Python 3.12, torch 2.9.1, CUDA 12.8, ABI TRUE, an A10G and linux_x86_64. ``provider``: not the official one."""

    wheel: str
    question: str = ""
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class WheelRule:
    """A rule on wheels: its name in traces, why it holds, who says so, a wheel that it accepts and one that it refuses.

    The tests judge both examples, and the documentation shows what the refusal says.
    """

    name: str
    because: str
    source: str
    accepts: Example
    refuses: Example
    of_cell: Callable[[Cell], Hashable]
    of_wheel: Callable[[Wheel], Hashable]
    check: Check


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
        lambda wheel: wheel.name.platform,
        platform_fits,
    ),
    WheelRule(
        "arch",
        "a GPU runs code of its own major only, and flash-attn 2 refuses GPUs older than Ampere",
        "compat.yaml: flash_attn.sass, flash_attn.runtime_gate",
        Example(_GOOD),
        Example(_GOOD, "--gpu T4"),
        lambda cell: (cell.arch, cell.gpu),
        lambda wheel: wheel.name.version,
        arch_fits,
    ),
    WheelRule(
        "cuda",
        "the extension links the CUDA runtime of one major, and torch loads its own",
        "CUDA minor version compatibility guide",
        Example("flash_attn-2.8.3+cu128torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"),
        Example("flash_attn-2.8.3+cu13torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"),
        lambda cell: cell.cuda.major,
        lambda wheel: wheel.name.cuda,
        cuda_fits,
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
        lambda wheel: wheel.name.torch_minor,
        torch_fits,
    ),
    WheelRule(
        "python",
        "an extension module is for one CPython minor, unless it keeps to the stable ABI",
        "PEP 425, PEP 703",
        Example("flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp39-abi3-linux_x86_64.whl"),
        Example("flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp311-cp311-linux_x86_64.whl"),
        lambda cell: cell.python,
        lambda wheel: (wheel.name.python, wheel.name.python_abi),
        python_fits,
    ),
    WheelRule(
        "abi",
        "std::string has another name in each C++ ABI of libstdc++",
        "compat.yaml: torch.*.abi; torch.compiled_with_cxx11_abi()",
        Example("flash_attn-2.8.3+cu128torch2.9-cp312-cp312-linux_x86_64.whl"),
        Example("flash_attn-2.8.3+cu12torch2.9cxx11abiFALSE-cp312-cp312-linux_x86_64.whl"),
        lambda cell: cell.abi,
        lambda wheel: (wheel.name.abi, wheel.name.torch_minor, wheel.name.cuda, wheel.name.platform),
        abi_fits,
    ),
    WheelRule(
        "glibc",
        "wheels since 2.8.0.post2 need GLIBC_2.32; bullseye, Ubuntu 20.04 and RHEL 8 are older; a manylinux tag says "
        "what its wheel needs",
        "compat.yaml: flash_attn.glibc; PEP 600",
        Example("flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-manylinux_2_28_x86_64.whl", "--glibc 2.31"),
        Example(_GOOD, "--glibc 2.31"),
        lambda cell: None,  # noqa: ARG005
        lambda wheel: (wheel.name.version, wheel.name.platform),
        glibc_fits,
    ),
    WheelRule(
        "flash_attn",
        "the asker accepts some versions only",
        "--flash-attn, or targets.*.flash_attn",
        Example(_GOOD, "--flash-attn >=2.8"),
        Example("flash_attn-2.7.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl", "--flash-attn >=2.8"),
        lambda cell: None,  # noqa: ARG005
        lambda wheel: wheel.name.version,
        version_fits,
    ),
    WheelRule(
        "provider",
        "a wheel is code that runs with the service's rights",
        "matrix.yaml: providers, or --provider",
        Example(_GOOD),
        Example(_GOOD, provider="someone/else"),
        lambda cell: None,  # noqa: ARG005
        lambda wheel: wheel.provider,
        provider_trusted,
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
        lambda wheel: (wheel.name.version, wheel.name.torch_minor, wheel.name.python),
        not_known_broken,
    ),
)
