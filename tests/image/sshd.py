"""A machine that is reached by ssh: a real sshd on the loopback, with keys that nothing but a test knows."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NAME = "big.example"
_START_S = 15


@dataclass(frozen=True)
class Machine:
    """What a user of it has.

    Attributes:
        url: its engine's address.
        environment: in which ``ssh big.example`` finds key, port and known host by ssh's own configuration.
        known_hosts: whose host key is trusted; log: what sshd said.
    """

    url: str
    environment: dict[str, str]
    known_hosts: Path
    log: Path


def cannot_start() -> str | None:
    """Why no sshd can be started here; None when one can."""
    if os.geteuid() != 0:
        return "an sshd that takes a key of the test's own needs root"
    missing = [tool for tool in ("ssh", "ssh-keygen", "/usr/sbin/sshd") if shutil.which(tool) is None]
    return f"a machine behind ssh needs {', '.join(missing)} (openssh-server)" if missing else None


@contextlib.contextmanager
def machine(folder: Path, engine: str) -> Iterator[Machine]:
    """The machine for the time of a block.

    Args:
        folder: of its keys and settings.
        engine: the address of the engine that its ``docker`` talks to.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for key in ("host", "user"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/user.pub\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nMaxStartups 100\nMaxSessions 100\nSetEnv DOCKER_HOST={engine}\n"
    )
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "config").write_text(
        f"Host {NAME}\n  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {folder}/user\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n  StrictHostKeyChecking yes\n"
    )
    # ssh reads the configuration of the user's home, as the system has it, whatever HOME says: so it is told.
    programs = folder / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
    (programs / "ssh").chmod(0o755)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    log = folder / "log"
    command = ["/usr/sbin/sshd", "-D", "-f", str(folder / "sshd_config"), "-E", str(log)]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        _wait(server, port, log)
        environment = {"PATH": f"{programs}:{os.environ['PATH']}", "SSH_AUTH_SOCK": ""}
        yield Machine(f"ssh://{NAME}", environment, known, log)
    finally:
        server.terminate()
        server.wait()


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
