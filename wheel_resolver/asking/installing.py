"""The command that installs into a Python, fitted to what is there: its pip, uv, or a new venv for a managed Python."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

#: Made in the current folder where a Python may not be installed into.
VENV = "flash-attn-venv"


@dataclass(frozen=True, slots=True)
class Packaging:
    """How a Python takes packages.

    Attributes:
        pip, ensurepip, venv: whether these modules are there.
        isolated: it is a venv.
        conda: it is a conda environment.
        managed: it is marked as externally managed (PEP 668), and pip was not told to ignore that.
        writable: whether this user may write into its site-packages.
        uv: the words that run uv; empty where uv is neither on ``PATH`` nor in our own environment.
    """

    pip: bool = True
    ensurepip: bool = True
    venv: bool = True
    isolated: bool = False
    conda: bool = False
    managed: bool = False
    writable: bool = True
    uv: tuple[str, ...] = ()

    @property
    def closed(self) -> bool:
        """Whether packages have to go into a venv that sees this Python's own.

        Where site-packages cannot be written, pip falls back to the user's; uv does not.
        """
        return (self.managed and not self.isolated) or not (
            self.writable or self.pip or self.isolated or self.conda or self.managed
        )


@dataclass(frozen=True, slots=True)
class Install:
    """A line for a POSIX shell, and what is to be known about it."""

    command: str
    note: str | None = None


def install(python: str, there: Packaging, wanted: Sequence[str], needs: Sequence[str] | None = None) -> Install:
    """Write the command that installs ``wanted`` (requirements and options) into a Python.

    ``needs``: where torch is there and has to stay, what else ``wanted`` requires and is not there. pip leaves a torch
    that it sees. uv asks the index all the same, and sees none outside of a venv's own site-packages: it is told to
    leave requirements alone, and gets these by name.
    """
    if there.closed:
        return _beside(python, there, wanted, needs)
    note = None
    if not there.writable and (there.isolated or there.conda):
        note = "its site-packages cannot be written by this user: run the command as the owner"
    if there.pip:
        return Install(_line([python, "-m", "pip", "install", *wanted]), note)
    if there.uv:
        return Install(_line(_with_uv(there.uv, python, wanted, needs)), note)
    if there.ensurepip:
        first = [python, "-m", "ensurepip"]
        return Install(_line(first, [python, "-m", "pip", "install", *wanted]), note)
    missing = f"{python} has neither pip nor ensurepip, and uv is not on PATH: install uv first"
    return Install(_line(_with_uv(("uv",), python, wanted, needs)), note or missing)


def _beside(python: str, there: Packaging, wanted: Sequence[str], needs: Sequence[str] | None) -> Install:
    """A venv that sees the Python's own packages, torch among them."""
    why = "is externally managed (PEP 668)" if there.managed else "cannot be written to"
    note = f"{python} {why}: the venv takes flash-attn and sees its torch; run your program with {VENV}/bin/python"
    inner = f"{VENV}/bin/python"
    make = [python, "-m", "venv", "--system-site-packages", VENV]
    if there.venv and there.ensurepip:
        return Install(_line(make, [inner, "-m", "pip", "install", *wanted]), note)
    if there.venv and there.pip:  # a Debian without python3-venv: the venv sees the system's pip
        bare = [*make[:-1], "--without-pip", VENV]
        return Install(_line(bare, [inner, "-m", "pip", "install", *wanted]), note)
    uv = there.uv or ("uv",)
    if not there.uv:
        note += f"; it has no ensurepip, and uv is not on PATH: install uv first (Debian, Ubuntu: or {_DEBIAN})"
    make = [*uv, "venv", "--allow-existing", "--python", python, "--system-site-packages", VENV]
    return Install(_line(make, _with_uv(uv, inner, wanted, needs)), note)


_DEBIAN = "apt-get install python3-venv, then ask again"


def _with_uv(uv: Sequence[str], python: str, wanted: Sequence[str], needs: Sequence[str] | None) -> list[str]:
    alone = () if needs is None else ("--no-deps",)
    return [*uv, "pip", "install", "--python", python, *alone, *wanted, *(needs or ())]


def _line(*commands: Sequence[str]) -> str:
    return " && ".join(map(shlex.join, commands))
