"""The options of a question, and the policy that they ask for."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from packaging.version import InvalidVersion, Version

from matrix import Project
from wheel_resolver.asking.question import flash_attn_asked
from wheel_resolver.core.facts import Policy, default_policy
from wheel_resolver.upstream.source import Loaded, Mode, load_catalogue


def project_policy(options: argparse.Namespace, project: Project) -> Policy:
    """What the matrix trusts and allows, with the flash-attn versions that the options ask for."""
    return default_policy(
        project.compat,
        flash_attn=flash_attn_asked(options.flash_attn),
        trust=project.matrix.trust,
        reuse=project.matrix.reuse,
    )


def catalogue_asked(options: argparse.Namespace, project: Project) -> Loaded:
    """The catalogue of the matrix's providers, as fresh as the options want it.

    Raises:
        NetworkError: ``--refresh``, and the network failed.
    """
    return load_catalogue(
        project.compat,
        mode_of(options),
        environment=os.environ,
        now=datetime.now(UTC),
        providers=project.matrix.providers,
    )


def policy_asked(options: argparse.Namespace, policy: Policy) -> Policy:
    """The default policy with what the options say of host, base and wheels."""
    return replace(
        policy,
        driver=options.driver or policy.driver,
        glibc=options.glibc or policy.glibc,
        reuse=policy.reuse if options.reuse is None else options.reuse == "measured",
        source_build=options.source_build,
        dtype=options.dtype,
    )


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        raise argparse.ArgumentTypeError(f"{text!r} is not a version such as 580.65.06 or 2.36") from None


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Add what narrows or widens the choice of wheels beside the cell."""
    parser.add_argument("--driver", type=_version, metavar="VERSION", help="the host's NVIDIA driver, such as 580.65")
    parser.add_argument("--glibc", type=_version, metavar="VERSION", help="the base image's (the oldest of ours)")
    parser.add_argument(
        "--reuse",
        choices=("measured", "none"),
        help="measured: a wheel for another torch minor too, where it was seen to load (else as the matrix says)",
    )
    parser.add_argument(
        "--source-build", action="store_true", help="where no wheel fits, compile flash-attn in a CUDA-devel builder"
    )
    parser.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        help="what the model runs in, which decides SDPA's kernels (bfloat16, and float16 before sm_80)",
    )


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add what the command may do on the network."""
    network = parser.add_mutually_exclusive_group()
    network.add_argument("--offline", action="store_true", help="open no socket")
    network.add_argument("--refresh", action="store_true", help="list the releases now; exit 3 if that fails")


def _comma_list(text: str) -> list[str]:
    values = [part.strip() for part in text.split(",")]
    if not all(values):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty value")
    return values


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m wheel_resolver",
        description="Which flash-attn wheel fits this torch, Python, CUDA and GPU; if none does, what runs, and why.",
        epilog="`python -m wheel_resolver lock` writes matrix/lock.yaml. Lists are comma-separated; what is not given "
        "ranges over the matrix. Exit codes: 0 done, 1 negative answer, 2 usage or data, 3 network, 4 no wheel here.",
    )
    for name, example in (
        ("torch", "2.9"),
        ("python", "3.12"),
        ("cuda", "12.8, or cpu"),
        ("abi", "TRUE"),
        ("gpu", "A10G"),
        ("arch", "sm_86"),
        ("platform", "linux_x86_64"),
        ("flash-attn", "2.8.3, or '>=2.8,<3'"),
    ):
        made.add_argument(f"--{name}", type=_comma_list, default=[], metavar="LIST", help=f"such as {example}")
    add_policy(made)
    made.add_argument(
        "--here", action="store_true", help="answer for this machine and Python; --python PATH: for another Python's"
    )
    made.add_argument("--matrix", type=Path, metavar="FILE", help="another matrix; facts stay the project's own")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.add_argument("--explain", action="store_true", help="name the rule that refuses each wheel")
    add_network(made)
    made.add_argument(
        "--require", choices=("flash_attention_2", "sdpa", "eager"), help="exit 1 unless every cell has it"
    )
    return made


def mode_of(options: argparse.Namespace) -> Mode:
    """What ``--offline`` and ``--refresh`` allow."""
    if options.offline:
        return Mode.OFFLINE
    return Mode.REFRESH if getattr(options, "refresh", False) else Mode.AUTO
