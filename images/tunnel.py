"""A port of another machine's loopback, here: a smoke test asks a container there through ssh."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator

from matrix.errors import WheelwrightError

_OPEN_S = 30.0


@contextlib.contextmanager
def tunnel(ssh: str, port: int) -> Iterator[int]:
    """Forward a free port of this machine's loopback to one of theirs, for the time of a block; the port here.

    Args:
        ssh: what ssh is called with, ``me@big``.
        port: on their loopback.

    Raises:
        WheelwrightError: ssh ends, or is not ready in half a minute.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        here = int(free.getsockname()[1])
    # Without ControlPath=none a master that is shared would keep the port open after the end.
    command = ["ssh", "-N", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "ControlPath=none"]
    command += ["-L", f"127.0.0.1:{here}:127.0.0.1:{port}", "--", ssh]
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _wait_open(running, here, ssh)
        yield here
    finally:
        running.terminate()
        running.communicate()


def _wait_open(running: subprocess.Popen[str], port: int, ssh: str) -> None:
    deadline = time.monotonic() + _OPEN_S
    while True:
        if running.poll() is not None:
            said = running.stderr.read().strip() if running.stderr else ""
            raise WheelwrightError(f"ssh {ssh} forwards no port: {said.splitlines()[-1] if said else 'it ended'}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise WheelwrightError(f"ssh {ssh} forwarded no port within {_OPEN_S:.0f} s")
        time.sleep(0.05)
