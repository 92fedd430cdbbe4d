"""``python -m images VERB``: from the locks to images that are built and proven."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from types import ModuleType

from images import build, engine_install, environment, lock, plan, quickstart, render, smoke, uv
from images.planned import Workspace
from matrix import cli
from matrix.cli import path_of

# Verbs on a workspace (matrix, locks, generated files), and verbs on this machine.
_ON_WORKSPACE: dict[str, ModuleType] = {
    "plan": plan,
    "lock": lock,
    "render": render,
    "build": build,
    "smoke": smoke,
    "quickstart": quickstart,
    "environment": environment,
}
_ON_MACHINE: dict[str, ModuleType] = {"engine": engine_install, "uv": uv}


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run one verb."""
    parser = cli.Parser(prog="python -m images", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, module in (_ON_WORKSPACE | _ON_MACHINE).items():
        summary = (module.__doc__ or "").split(":", maxsplit=1)[-1].strip().splitlines()[0]
        verb = verbs.add_parser(name, help=summary, description=module.__doc__)
        if name in _ON_WORKSPACE:
            verb.add_argument("--json", action="store_true", help="print the result as JSON")
            verb.add_argument(
                "--root", type=path_of, help="a folder with matrix/, serve/ and dockerfiles/ (this checkout)"
            )
        module.add_arguments(verb)
    args = parser.parse_args(arguments)
    if args.verb in _ON_MACHINE:
        on_machine: Callable[[argparse.Namespace], int] = _ON_MACHINE[args.verb].run
        return on_machine(args)
    on_workspace: Callable[[argparse.Namespace, Workspace], int] = _ON_WORKSPACE[args.verb].run
    return on_workspace(args, Workspace.load(args.root))


if __name__ == "__main__":
    sys.exit(cli.run(main))
