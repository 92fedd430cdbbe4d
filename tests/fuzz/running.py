"""One service for all targets that attack it over a socket: the real process, with the tiny checkpoint."""

from __future__ import annotations

import atexit
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_S, ANSWER_S = 120.0, 20.0
# The hunt's own memory is limited, and a process inherits that: torch alone maps more.
_UNLIMITED = ["sh", "-c", 'ulimit -S -v unlimited; exec "$@"', "sh", sys.executable, "-m"]


@dataclass(slots=True)
class Service:
    """The process, and how much of its log was looked at."""

    popen: subprocess.Popen[bytes]
    port: int
    log: Path
    seen: int = field(default=0)

    def ask(self, path: str) -> tuple[int, bytes]:
        """Status and body of a good request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def new_lines(self) -> list[str]:
        """What was logged since the last call: a fault that one input left must not be the next one's."""
        with self.log.open("rb") as log:
            log.seek(self.seen)
            lines = log.read().decode("utf-8", "backslashreplace").splitlines()
            self.seen = log.tell()
        return lines


@cache
def running() -> Service:
    """The service, ready: started at the first call, ended with this process."""
    folder = Path(tempfile.mkdtemp(prefix="wheelwright-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "WW_HOST": "127.0.0.1", "WW_PORT": str(port), "WW_MODEL_DIR": str(folder / "tiny"), "WW_MAX_BODY_MIB": "1",
        "WW_DATA_DIR": str(folder / "data"), "WW_LOG_FORMAT": "json", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WW_")}
    environment = inherited | settings | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*_UNLIMITED, "serve.tiny", str(folder / "tiny")], env=environment, check=True, capture_output=True)
    log = folder / "log"
    with log.open("wb") as out:
        popen = subprocess.Popen([*_UNLIMITED, "serve"], env=environment, stdout=out, stderr=out, cwd=folder)
    service = Service(popen, port, log)
    atexit.register(_end, popen)
    until = time.monotonic() + START_S
    while not _is_ready(service):
        if popen.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the service did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
    service.new_lines()
    return service


def _is_ready(service: Service) -> bool:
    try:
        return service.ask("/ready")[0] == http.HTTPStatus.OK
    except OSError:
        return False


def _end(popen: subprocess.Popen[bytes]) -> None:
    popen.kill()
    popen.wait()


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
    """The process runs and answers a good request; its new lines are JSON and tell of no defect."""
    service = running()
    assert service.popen.poll() is None, service.log.read_text(errors="replace")[-4000:]
    status, body = service.ask("/live")
    assert (status, json.loads(body)["status"]) == (200, "live")
    told = service.new_lines()
    assert [line for line in told if not line.startswith("{") or "defect" in line or '"exception"' in line] == []
