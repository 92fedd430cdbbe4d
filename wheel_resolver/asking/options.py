"""The options of a question, the policy that they ask for, and the catalogue."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from packaging.version import Version

from matrix import Driver, Project
from matrix.cli import Parser
from matrix.errors import UsageError
from matrix.providers import official
from matrix.spec import perhaps
from matrix.words import attention_of_word, dtype_of
from wheel_resolver.asking.providers import providers_asked
from wheel_resolver.asking.question import flash_attn_asked
from wheel_resolver.core.facts import Policy, default_policy
from wheel_resolver.places import add_root
from wheel_resolver.upstream.source import Loaded, Mode, load_catalogue

#: Each verb's module, and what it does. A module is imported when its verb is called: a question waits for none.
VERBS = {
    "coverage": ("asking.coverage_cli", "what has a wheel, over every torch, CUDA and Python: a table, or --html FILE"),
    "export": ("locked.export_cli", "a locked wheel as a requirement for pip and uv"),
    "facts": ("upkeep.facts_cli", "compare compat.yaml with what PyTorch and flash-attn publish; --write"),
    "fetch": ("fetching.fetch_cli", "download the locked wheels into the cache"),
    "lock": ("locked.lock_cli", "write the wheel of every target into matrix/lock.yaml; --check, --upgrade"),
    "snapshot": ("upstream.snapshot_cli", "write the shipped list of official wheels anew"),
    "verify": ("inside.verify_cli", "look inside a wheel file; --env: does flash-attn load here?"),
    "watch": ("locked.watch_cli", "what changed upstream for us; exit 1 if it needs attention"),
}

_DTYPES = ("float16", "bfloat16", "float32")
_ATTENTIONS = ("flash_attention_2", "sdpa", "eager")
_GLIBC = re.compile(r"(?:glibc|manylinux)?[ _-]?(\d)[._](\d{1,3})(?:_\w+)?", re.IGNORECASE | re.ASCII)

_EPILOG = """Lists are comma-separated; what is not given ranges over the matrix.

verbs, each with a --help of its own:
{verbs}

exit codes: 0 done, 1 a negative answer, 2 usage or data wrong, 3 network, 4 no wheel fits this host"""


def project_policy(options: argparse.Namespace, project: Project) -> Policy:
    """What the matrix allows and the options trust, with the flash-attn versions that they ask for."""
    return default_policy(
        project.compat,
        flash_attn=flash_attn_asked(options.flash_attn),
        trust=tuple(provider.name for provider in providers_asked(options.provider, project)),
        reuse=project.matrix.reuse,
    )


def catalogue_asked(options: argparse.Namespace, project: Project) -> Loaded:
    """The catalogue of the question's providers, as fresh as the options want it.

    The official releases are in it also where they are not trusted: then their wheels are refused by that rule.

    Raises:
        NetworkError: ``--refresh``, and the network failed.
    """
    asked = providers_asked(options.provider, project)
    own = official(project.compat)
    return load_catalogue(
        project.compat,
        mode_of(options),
        environment=os.environ,
        now=datetime.now(UTC),
        providers=asked if any(each.name == own.name for each in asked) else (*asked, own),
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


def _glibc(text: str) -> Version:
    """A version of glibc, also as a symbol or a platform tag names it: ``GLIBC_2.31``, ``manylinux_2_28``."""
    found = _GLIBC.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a version of glibc such as 2.36")
    return Version(f"{found[1]}.{found[2]}")


def _word(known: Sequence[str], read: Callable[[str], str]) -> Callable[[str], str]:
    """One of a few words, in any of its spellings."""

    def one(text: str) -> str:
        found = read(text)
        if found not in known:
            raise argparse.ArgumentTypeError(
                f"{text!r} is none of {', '.join(known)}{perhaps(text, known, numbered=True)}"
            )
        return found

    return one


def _driver(text: str) -> Driver:
    try:
        return Driver.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_policy(parser: argparse._ActionsContainer) -> None:
    """Add what narrows or widens the choice of wheels beside the cell."""
    parser.add_argument("--flash-attn", type=_comma_list, default=[], metavar="LIST", help="2.8.3, or '>=2.8,<3'")
    parser.add_argument(
        "--provider",
        type=_comma_list,
        default=[],
        metavar="LIST",
        help="whose wheels, the most trusted first: names of the matrix, official, or GitHub repositories (owner/name)",
    )
    parser.add_argument("--driver", type=_driver, metavar="VERSION", help="the host's NVIDIA driver, such as 580.65")
    parser.add_argument("--glibc", type=_glibc, metavar="VERSION", help="the base image's (the oldest of ours)")
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
        type=_word(_DTYPES, dtype_of),
        metavar="DTYPE",
        help="float16, bfloat16 or float32: what the model runs in, which decides SDPA's kernels (bfloat16; float16 "
        "before sm_80)",
    )


def add_network(parser: argparse._ActionsContainer) -> None:
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
    """The options of a question."""
    width = max(map(len, VERBS))
    made = Parser(
        prog="python -m wheel_resolver",
        usage="python -m wheel_resolver [OPTION ...]\n       python -m wheel_resolver VERB [OPTION ...]",
        description="Which flash-attn wheel fits this torch, Python, CUDA and GPU; if none does, what runs, and why.",
        epilog=_EPILOG.format(verbs="\n".join(f"  {verb:{width}}  {what}" for verb, (_, what) in VERBS.items())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    cell = made.add_argument_group("the cell")
    for name, example in (
        ("torch", "2.9"),
        ("python", "3.12"),
        ("cuda", "12.8, or cpu"),
        ("abi", "TRUE"),
        ("gpu", "A10G"),
        ("arch", "sm_86"),
        ("platform", "linux_x86_64"),
    ):
        cell.add_argument(f"--{name}", type=_comma_list, default=[], metavar="LIST", help=f"such as {example}")
    cell.add_argument(
        "--here", action="store_true", help="answer for this machine and Python; --python PATH: for another Python's"
    )
    add_policy(made.add_argument_group("the wheels"))
    answer = made.add_argument_group("the answer")
    answer.add_argument("--json", action="store_true", help="print JSON")
    answer.add_argument("--explain", action="store_true", help="name the rule that refuses each wheel")
    answer.add_argument(
        "--require",
        type=_word(_ATTENTIONS, attention_of_word),
        metavar="ATTENTION",
        help="flash_attention_2, sdpa or eager: exit 1 unless every cell has it",
    )
    add_root(answer)
    add_network(answer)
    return made


def parse(made: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Read a command line; what is no option of it is an error that names the nearest one.

    Raises:
        UsageError: something is left over.
    """
    options, left = made.parse_known_args(argv)
    for text in left:
        if text.startswith("-"):
            what = "no such option" + perhaps(text.partition("=")[0], re.findall(r"--[a-z-]+", made.format_help()))
        else:
            what = "no such verb" + perhaps(text, VERBS) if text == argv[0] else "belongs to no option"
        raise UsageError(f"{text}: {what}", remedy=f"{made.prog} --help")
    return options


def mode_of(options: argparse.Namespace) -> Mode:
    """What ``--offline`` and ``--refresh`` allow."""
    if options.offline:
        return Mode.OFFLINE
    return Mode.REFRESH if getattr(options, "refresh", False) else Mode.AUTO
