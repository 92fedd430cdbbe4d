"""Programs on hosts of the second engine's bridge: what a build reaches over a network, able to stall or to die."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

REGISTRY_PORT = 5000
_REGISTRY = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "{address}:{port}"}}
"""


@contextlib.contextmanager
def running(host: str, module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A module of this folder as a program on a host, for the time of a block; it has said ``ready``."""
    program = ["ip", "netns", "exec", host, sys.executable, "-u", "-m", module, *arguments]
    with subprocess.Popen(program, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def registry(host: str, address: str, folder: Path) -> Iterator[str]:
    """The real registry (Debian's docker-registry) on a host, for the time of a block; its name in references."""
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed: it is Debian's package of that name")
    settings = folder / "registry.yml"
    settings.write_text(_REGISTRY.format(folder=folder / "data", address=address, port=REGISTRY_PORT))
    command: Sequence[str] = ["ip", "netns", "exec", host, "docker-registry", "serve", str(settings)]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_until_it_listens(address, process)
            yield f"{address}:{REGISTRY_PORT}"
        finally:
            process.kill()


def _wait_until_it_listens(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError), socket.create_connection((address, REGISTRY_PORT), timeout=1):
            return
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
