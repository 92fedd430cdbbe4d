"""uv: the resolver and installer, on the host and (its executable mounted) inside builds.

``python -m images uv -- ARGS`` runs it with this host's pip settings, which uv does not read by itself.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

from uv import find_uv_bin

from images.hostsettings import read_host_settings
from matrix.errors import WheelwrightError


def uv_executable() -> str:
    """The path of the executable that came with the package.

    Raises:
        WheelwrightError: it is not there.
    """
    try:
        return str(Path(find_uv_bin()).resolve())
    except FileNotFoundError as error:
        raise WheelwrightError(
            f"uv's executable is missing: {error}", remedy="pip install --force-reinstall uv"
        ) from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's command line."""
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="for uv, after --")


def run(args: argparse.Namespace) -> int:
    """Run uv; its exit status is ours."""
    arguments = args.arguments[1:] if args.arguments[:1] == ["--"] else args.arguments
    env = os.environ | read_host_settings().uv_environment()
    return subprocess.run([uv_executable(), *arguments], env=env, check=False).returncode
