"""The answers of other tools of the package index that look for flash-attn wheels, each from its released code.

Each is installed as it is into a folder of its own below the cache, and asked by its own command line in a process
that has nothing else (`rival_child.py`). All are given the releases of the shipped snapshot.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from github_list import releases
from guess import Answer, Row

from images.hostsettings import read_host_settings
from images.uv import uv_executable
from matrix import Cell
from matrix.errors import NetworkError, WheelwrightError
from matrix.masking import mask
from wheel_resolver.fetching.fetch import cache_folder
from wheel_resolver.upstream import snapshot

CHILD = Path(__file__).with_name("rival_child.py")
_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Rival:
    """A way to ask a tool.

    Attributes:
        tool: its name on the package index.
        version: exact, because the child knows the command line of this one.
        command: what a user types, as the table shows it.
        told: whether it is told what it does not find out by itself.
    """

    tool: str
    version: str
    command: str
    told: bool = False


def all_rivals(flash_attn: str) -> tuple[Rival, ...]:
    """The tools, by themselves and told what they do not find out; ``flash_attn`` is the version that qifa is told."""
    return (
        Rival("qifa", "0.1.1", "qifa install"),
        Rival("qifa", "0.1.1", f"qifa install --version {flash_attn} --abi ABI", told=True),
        Rival("gpkg", "0.4.3", "gpkg add flash-attn"),
        Rival("gpkg", "0.4.3", "gpkg add flash-attn --cxx11-abi ABI", told=True),
        Rival("mlwheels", "0.1.0", "mlwheels flash-attn"),
    )


def ask_rivals(rivals: Sequence[Rival], cells: Sequence[Cell], flash_attn: str) -> list[Row]:
    """A row for each; one that cannot be installed or run says why."""
    rows = []
    for rival in rivals:
        name = f"{rival.tool} {rival.version}: `{rival.command}`"
        try:
            rows.append(ask(rival, name, install(rival), cells, flash_attn))
        except (WheelwrightError, OSError, ValueError, subprocess.SubprocessError) as error:
            rows.append(Row(name, why=" ".join(str(error).split())))
    return rows


def install(rival: Rival) -> Path:
    """The folder that holds the tool and what it needs, installed where it is not there yet; wheels only.

    Raises:
        NetworkError: the package index does not give it.
    """
    base = cache_folder() / "rivals"
    folder = base / f"{rival.tool}-{rival.version}-py{sys.version_info.major}.{sys.version_info.minor}"
    if folder.is_dir():
        return folder
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base, ignore_cleanup_errors=True) as scratch:
        command = [uv_executable(), "pip", "install", "--no-config", "--quiet", "--only-binary", ":all:"]
        command += ["--python", sys.executable, "--target", f"{scratch}/it", f"{rival.tool}=={rival.version}"]
        env = os.environ | read_host_settings().uv_environment()
        done = subprocess.run(
            command, env=env, cwd=scratch, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            said = textwrap.shorten(mask(done.stderr), 200)
            raise NetworkError(f"the package index gave no {rival.tool} {rival.version}: {said}")
        Path(scratch, "it").replace(folder)
    return folder


def ask(rival: Rival, name: str, folder: Path, cells: Sequence[Cell], flash_attn: str) -> Row:
    """What the tool answers for each cell.

    Args:
        name: the row's.
        folder: where the tool is installed.
        flash_attn: the version that is told to a tool that can be told one.

    Raises:
        WheelwrightError: it does not run, or says something that nobody expects of it.
        subprocess.TimeoutExpired: it does not end.
    """
    question = {
        "tool": rival.tool,
        "told": rival.told,
        "version": flash_attn,
        "repository": snapshot.read().repository,
        "releases": releases(),
        "cells": [
            {"python": str(cell.python), "torch": str(cell.torch), "cuda": str(cell.cuda), "abi": str(cell.abi)}
            for cell in cells
        ],
    }
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-S", "-P", str(CHILD)],  # neither our packages nor our modules
            input=json.dumps(question),
            env={"PYTHONPATH": str(folder), "PATH": home, "HOME": home, "XDG_CACHE_HOME": home, "PYTHONUTF8": "1"},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise WheelwrightError(f"it ended with status {done.returncode}: {last[:300]}")
    said = json.loads(done.stdout)
    return Row(name, [Answer(wheel, builds) for wheel, builds in said["answers"]], notes=_notes(rival, said))


def _notes(rival: Rival, said: dict[str, Any]) -> tuple[str, ...]:
    notes = []
    if said["refused"]:
        asked = ", ".join(said["refused"])
        notes.append(f"{rival.tool}: not reachable in the comparison, which has the official releases only: {asked}")
    if said["first"] is not None:
        notes.append(
            f"{rival.tool}: it reads the first {said['first']} releases of GitHub's list; ours lists no pre-releases "
            "of FlashAttention-4, which take such places on GitHub"
        )
    return tuple(notes)
