"""The install command for every kind of Python; the real ones of this machine run theirs in tests/field."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from wheel_resolver.asking.installing import VENV, Packaging, install

PYTHON = "/opt/my env/bin/python"
URL = "https://example.org/f%2Bx.whl#sha256=ab"
UV = ("uv",)
PLAIN = Packaging(isolated=True)
MANAGED = Packaging(managed=True)
BARE = Packaging(pip=False, ensurepip=False, venv=False, uv=UV)


@pytest.mark.parametrize(
    ("there", "commands"),
    [
        (PLAIN, [[PYTHON, "-m", "pip", "install", URL]]),
        (replace(PLAIN, uv=UV), [[PYTHON, "-m", "pip", "install", URL]]),
        (
            replace(PLAIN, pip=False, uv=UV),
            [["uv", "pip", "install", "--python", PYTHON, "--no-deps", URL, "einops"]],
        ),
        (
            replace(PLAIN, pip=False),
            [[PYTHON, "-m", "ensurepip"], [PYTHON, "-m", "pip", "install", URL]],
        ),
        (
            MANAGED,
            [
                [PYTHON, "-m", "venv", "--system-site-packages", VENV],
                [f"{VENV}/bin/python", "-m", "pip", "install", URL],
            ],
        ),
        (
            replace(MANAGED, ensurepip=False, uv=UV),
            [
                [PYTHON, "-m", "venv", "--system-site-packages", "--without-pip", VENV],
                [f"{VENV}/bin/python", "-m", "pip", "install", URL],
            ],
        ),
        (
            replace(BARE, managed=True),
            [
                ["uv", "venv", "--allow-existing", "--python", PYTHON, "--system-site-packages", VENV],
                ["uv", "pip", "install", "--python", f"{VENV}/bin/python", "--no-deps", URL, "einops"],
            ],
        ),
        # A venv of a managed Python is not managed itself, and pip of a Python that is not ours uses the user's folder.
        (replace(MANAGED, isolated=True), [[PYTHON, "-m", "pip", "install", URL]]),
        (Packaging(writable=False), [[PYTHON, "-m", "pip", "install", URL]]),
        (
            Packaging(writable=False, pip=False, uv=UV),
            [
                [PYTHON, "-m", "venv", "--system-site-packages", VENV],
                [f"{VENV}/bin/python", "-m", "pip", "install", URL],
            ],
        ),
        (replace(BARE, conda=True), [["uv", "pip", "install", "--python", PYTHON, "--no-deps", URL, "einops"]]),
    ],
)
def test_the_command_fits(there: Packaging, commands: list[list[str]]) -> None:
    line = install(PYTHON, there, [URL], ["einops"]).command
    assert line == " && ".join(map(shlex.join, commands))
    assert f"'{URL}'" in line  # `#` begins a comment, else


def test_a_torch_that_is_to_be_installed_brings_what_it_requires() -> None:
    line = install(PYTHON, replace(PLAIN, pip=False, uv=UV), ["torch==2.9.1"]).command
    assert line.endswith(" torch==2.9.1")
    assert "--no-deps" not in line


@pytest.mark.parametrize(
    ("there", "note"),
    [
        (PLAIN, None),
        (replace(PLAIN, writable=False), "run the command as the owner"),
        (replace(BARE, uv=()), "install uv first"),
        (replace(BARE, uv=(), managed=True), "apt-get install python3-venv"),
        (MANAGED, "is externally managed (PEP 668)"),
        (Packaging(writable=False, pip=False), "cannot be written to"),
    ],
)
def test_what_is_to_be_known_about_it(there: Packaging, note: str | None) -> None:
    found = install(PYTHON, there, [URL]).note
    assert found is None if note is None else note in str(found)
