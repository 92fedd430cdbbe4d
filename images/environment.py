"""``python -m images environment``: install the service's requirements beside the tools.

For the tests, and to run ``python -m serve`` from the checkout: the packages of the ``cpu`` target, at the versions
that its lock names. Their torch is the CPU build, so that no gigabytes of CUDA come along.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from images.hostsettings import read_host_settings
from images.lock_inputs import asked, fresh_stack_lock, left_out, origin_for, torch_requirement
from images.planned import Workspace
from images.requirements_in import read_requirements, write_requirements
from images.resolving import refuse_builds
from images.staging import stage_local_files
from images.uv import uv_executable
from matrix import Target, tree
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
        DataError: the lock is not whole or not fresh, or a package has no wheel.
        NetworkError: neither has the packages.
    """
    target = workspace.project.matrix.targets[TARGET]
    for read_by_uv in (workspace.root / "serve", workspace.locks):
        tree.require_plain(read_by_uv)
    settings, stack = read_host_settings(), fresh_stack_lock(workspace, target)
    local = workspace.build / "contexts" / target.stack
    stage_local_files(settings, stack.pins(), local)
    # uv takes a version from the first index that lists it; a file:// one may lack the file of it that fits here.
    settings = replace(settings, extra_indexes=settings.remote_indexes(), find_links=(*settings.find_links, str(local)))
    origin = origin_for(workspace, target)
    further = [replace(settings, extra_indexes=(*settings.extra_indexes, origin))] if origin else []
    with tempfile.TemporaryDirectory(prefix="wheelwright-environment-") as scratch:
        command = _command(workspace, target, args.python, Path(scratch))
        for each in (settings, *further):
            env = os.environ | each.uv_environment()
            done = subprocess.run(command, cwd=scratch, env=env, check=False, capture_output=True, text=True)
            if done.returncode == 0:
                return ExitCode.OK
    said = settings.masked(done.stderr).strip()
    refuse_builds("the service's requirements", [said])
    raise NetworkError(
        "uv could not install the service's requirements",
        said=said.splitlines()[-12:],
        remedy="see the host's index: `pip config list`",
    )


def _command(workspace: Workspace, target: Target, python: str, scratch: Path) -> list[str]:
    """uv's command line: what was read strictly is written anew for it, and it builds nothing from source."""
    wanted = [requirement for path in asked(target) for requirement in read_requirements(workspace.root / path)]
    given = Path(python)
    return [
        uv_executable(), "pip", "install", "--quiet", "--no-build",
        "--python", str(given.absolute()) if given.exists() else python,  # uv is run elsewhere
        "--override", str(write_requirements(left_out(workspace).values(), scratch / "overrides.txt")),
        "--requirement", str(write_requirements(wanted, scratch / "requirements.in")),
        "--constraint", str((workspace.locks / target.stack / "model.txt").absolute()),
        torch_requirement(workspace, target),
    ]  # fmt: skip
