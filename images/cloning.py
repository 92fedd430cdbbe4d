"""A clone asked for as users do: with the service's own client, ``python -m serve client``, from a shell to a file."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from images.wav import reference_voice
from matrix import tree
from matrix.cli import say
from matrix.errors import WheelwrightError

VOICE, CLONE = "voice.wav", "clone.wav"
TEXT = "Hello there, this is a test."
REF_TEXT = "Ah."
_CLONE_S = 120.0


@dataclass(frozen=True, slots=True)
class Clone:
    """What the client wrote, and the weights that made it: the answer's ``X-Weights``."""

    audio: bytes
    weights: str | None


def client_arguments(folder: Path, *more: str) -> list[str]:
    """What follows ``python``: the voice is read from, and the clone goes to, files of a folder."""
    asked = ["--text", TEXT, "--language", "en", "--reference", str(folder / VOICE), "--ref-text", REF_TEXT]
    return ["-m", "serve", "client", *more, *asked, "--out", str(folder / CLONE)]


def shell_line(root: Path, arguments: list[str]) -> str:
    """The command line as one pastes it into a shell in ``root``."""
    python = Path(sys.executable)
    return shlex.join([str(python.relative_to(root) if python.is_relative_to(root) else python), *arguments])


def clone(root: Path, folder: Path, url: str, *, label: str, log: Path) -> Clone:
    """Ask the service for a clone of the test's own voice.

    Args:
        root: a checkout, whose client it is.
        folder: below it; where the voice and the clone lie.
        url: of the service.
        label: begins the line that says what is run.
        log: what the client says is added to it.

    Raises:
        WheelwrightError: the client failed, or took too long.
    """
    tree.write(folder / VOICE, reference_voice())
    tree.remove(folder / CLONE)  # and a link there is refused: the client would write through it
    arguments = client_arguments(folder.relative_to(root), "--url", url, "--json")
    say(f"{label} | $ {shell_line(root, arguments)}")
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=False,
            timeout=_CLONE_S,
        )
    except subprocess.TimeoutExpired as error:
        raise WheelwrightError(f"the client had no clone after {_CLONE_S:.0f} s") from error
    with tree.open_file(log, "ab") as file:
        file.write(done.stderr.encode())
    if done.returncode != 0:
        raise WheelwrightError(f"the client ended with status {done.returncode}: {_tail(done.stderr)}")
    return Clone(tree.read_bytes(folder / CLONE), json.loads(done.stdout)["weights"])


def _tail(said: str) -> str:
    """The last lines, on one line."""
    return " | ".join(line.strip() for line in said.splitlines()[-5:])[-600:]
