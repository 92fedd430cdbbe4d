"""One service for all targets that attack it over a socket: the real process, with the tiny checkpoint."""

from __future__ import annotations

import atexit
import json
import socket
import tempfile
from functools import cache
from pathlib import Path

from serve.tiny import write_tiny
from tests.serve.conftest import Process

# Nothing of an answer to a broken request is slow; a service that hangs ends the run here.
ANSWER_S = 20.0

_read_to = {"offset": 0}


@cache
def running() -> Process:
    """The service, ready, started at the first call and ended with this process."""
    folder = Path(tempfile.mkdtemp(prefix="wheelwright-fuzz-"))
    process = Process(
        folder,
        MODEL_DIR=str(write_tiny(folder / "tiny")),
        DATA_DIR=str(folder / "data"),
        MAX_BODY_MIB="1",
        LOG_FORMAT="json",
    )
    atexit.register(_end, process)
    process.wait_ready()
    return process


def _end(process: Process) -> None:
    process.popen.kill()
    process.popen.wait()
    if process.popen.stdout is not None:
        process.popen.stdout.close()


def exchange(content: bytes, *, half_close: bool = True) -> bytes:
    """Send bytes on a connection of their own; everything that comes back until the service closes it."""
    with socket.create_connection(("127.0.0.1", running().port), timeout=ANSWER_S) as connection:
        answer = b""
        try:
            connection.sendall(content)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                answer += chunk
        except (ConnectionResetError, BrokenPipeError):
            pass  # it was closed on us with bytes of ours unread, which is an answer, too
    return answer


def require_unharmed() -> None:
    """The process runs and answers a good request; since the last call its log tells of no defect and is all JSON."""
    assert running().popen.poll() is None, running().stderr()[-4000:]
    status, _, body = running().ask("GET", "/live")
    assert (status, json.loads(body)["status"]) == (200, "live")
    told = _new_lines()
    assert [line for line in told if not line.startswith("{") or "defect" in line or '"exception"' in line] == []


def _new_lines() -> list[str]:
    """What was logged since the last call: a fault that one example left must not be the next one's."""
    with running().log.open() as log:
        log.seek(_read_to["offset"])
        lines = log.read().splitlines()
        _read_to["offset"] = log.tell()
    return lines
