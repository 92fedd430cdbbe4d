"""`python -m serve` as it is, with a few lines of a test's own that run in a thread of the service's process.

They are a ``sitecustomize`` on the path, as a library's machine code would be in the process: the service knows nothing
of them. They run when the file ``go`` appears in the test's folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path

ROOT = Path(__file__).parents[3]
PRELUDE = """
import ctypes, os, sys, threading, time
libc = ctypes.CDLL(None)

def write(text, descriptor=2):
    libc.write(descriptor, text, len(text))

def act():
    while not os.path.exists({go!r}):
        time.sleep(0.01)
{action}

def begin():
    threading.Thread(target=act, name="of the test", daemon=True).start()

if sys.argv[:1] == ["-m"] and {forks!r}:  # the service is the child
    os.register_at_fork(after_in_child=begin)
elif sys.argv[:1] == ["-m"]:
    begin()
"""


class Hooked:
    """The service with an action, from its start to its end."""

    def __init__(
        self,
        folder: Path,
        model: Path,
        action: str,
        form: str = "json",
        before: Sequence[str] = (),
        err: int | None = None,
        **settings: str,
    ) -> None:
        """Start it.

        Args:
            folder: of the test.
            model: a checkpoint.
            action: Python, the body of a function; may use ``write(bytes, descriptor=2)``, which is libc's.
            form: ``WW_LOG_FORMAT``.
            before: a command that starts it.
            err: a descriptor for stderr; None for the file ``err``.
            settings: more of them, without their prefix.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.go = folder / "go"
        lines = "".join(f"    {line}\n" for line in action.splitlines())
        forks = form == "json" or bool(before)
        (folder / "sitecustomize.py").write_text(PRELUDE.format(go=str(self.go), action=lines, forks=forks))
        own = {"HOST": "127.0.0.1", "PORT": str(self.port), "MODEL_DIR": str(model), "LOG_FORMAT": form} | settings
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WW_")}
        environment |= {f"WW_{name}": value for name, value in own.items()}
        self.out, self.err = folder / "out", folder / "err"
        with self.out.open("wb") as out, self.err.open("wb") as log:
            self.popen = subprocess.Popen(
                [*before, sys.executable, "-m", "serve"],
                env=environment | {"PYTHONPATH": f"{folder}:{ROOT}"},
                cwd=folder, stdout=out, stderr=log if err is None else err,
            )  # fmt: skip

    def ask(self, path: str, body: object = None) -> tuple[int, bytes]:
        """The status and the content of an answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            headers = {} if body is None else {"Content-Type": "application/json"}
            content = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, content, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def wait(self, path: str = "/live", seconds: float = 120) -> None:
        """Until it answers 200 there."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError):
                if self.ask(path)[0] == 200:
                    return
            assert self.popen.poll() is None, self.err.read_text()
            assert time.monotonic() < deadline, self.err.read_text()
            time.sleep(0.05)

    def act(self) -> None:
        """Let the action begin."""
        self.go.touch()

    def end(self, sig: int | None = signal.SIGTERM) -> int:
        """Send the signal, if any; the exit status."""
        if sig is not None:
            self.popen.send_signal(sig)
        return self.popen.wait(60)

    def children(self) -> list[int]:
        """Processes that the started one started."""
        return children_of(self.popen.pid)

    def records(self) -> list[dict[str, object]]:
        """Every line of both streams, all of which must be JSON objects."""
        lines = self.out.read_bytes().splitlines() + self.err.read_bytes().splitlines()
        found = [json.loads(line) for line in lines]
        assert all({"time", "level", "logger", "message"} <= record.keys() for record in found)
        return found

    def stray(self) -> list[str]:
        """What was said by no module of the service."""
        return [str(record["message"]) for record in self.records() if record["logger"] == "output"]


def children_of(pid: int) -> list[int]:
    """The processes whose parent that one is, zombies included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def state_of(pid: int) -> str:
    """``Z`` for a zombie; nothing for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@contextlib.contextmanager
def ended(hooked: Hooked) -> Iterator[Hooked]:
    """Whatever becomes of the test, its processes are gone afterwards."""
    try:
        yield hooked
    finally:
        for child in hooked.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        hooked.popen.kill()
        hooked.popen.wait()
