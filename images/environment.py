"""``python -m images environment``: install the service's requirements beside the tools.

For the tests, and to run ``python -m serve`` from the checkout: the packages of the ``cpu`` target, at the versions
that its lock names. Their torch is the CPU build, so that no gigabytes of CUDA come along.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import replace

from images.hostsettings import mask, read_host_settings
from images.lock import origin_for, torch_requirement
from images.planned import Workspace
from images.requirement_files import read_stack_lock
from images.staging import stage_local_files
from images.uv import uv_executable
from matrix import tree
from matrix.errors import ExitCode, NetworkError

TARGET = "cpu"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's command line."""
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter whose environment gets them (this one)"
    )


def run(args: argparse.Namespace, workspace: Workspace) -> int:
    """Install with uv: from what this host is set to, else with PyTorch's own index added.

    Raises:
        NetworkError: neither has the packages.
    """
    target = workspace.project.matrix.targets[TARGET]
    serve = workspace.root / "serve"
    for read_by_uv in (serve, workspace.locks):
        tree.require_plain(read_by_uv)
    command = [
        uv_executable(), "pip", "install", "--quiet", "--python", args.python,
        "--override", str(serve / "overrides.txt"), "--requirement", str(serve / "requirements.in"),
        "--constraint", str(workspace.locks / target.stack / "model.txt"), torch_requirement(workspace, target),
    ]  # fmt: skip
    settings, stack = read_host_settings(), read_stack_lock(workspace.locks / target.stack)
    local = workspace.build / "contexts" / target.stack
    stage_local_files(settings, stack.pins(), local)
    # uv takes a version from the first index that lists it; a file:// one may lack the file of it that fits here.
    settings = replace(settings, extra_indexes=settings.remote_indexes(), find_links=(*settings.find_links, str(local)))
    env = os.environ | settings.uv_environment()
    origin = origin_for(workspace, target)
    further = [["--index", origin, "--index-strategy", "unsafe-best-match"]] if origin else []
    for extra in ([], *further):
        done = subprocess.run([*command, *extra], env=env, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return ExitCode.OK
    raise NetworkError(
        "uv could not install the service's requirements",
        said=mask(done.stderr).strip().splitlines()[-12:],
        remedy="see the host's index: `pip config list`",
    )
