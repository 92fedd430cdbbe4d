"""The ``cpu`` image in a container of its own, with limits, on the tiny checkpoint."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any


def docker(*arguments: str) -> str:
    """The docker CLI; what it prints."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class Contained:
    """A container that serves on a port of 127.0.0.1."""

    name: str
    port: int

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Ask; 0 where the service closed the connection before it answered."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except ConnectionError as error:
            return 0, repr(error).encode()
        finally:
            connection.close()

    @property
    def state(self) -> dict[str, Any]:
        """What the engine says of it."""
        return json.loads(docker("inspect", "--format", "{{json .State}}", self.name))

    @property
    def log(self) -> str:
        """What it said."""
        done = subprocess.run(["docker", "logs", self.name], check=False, capture_output=True, text=True)
        return done.stdout + done.stderr

    def wait_ready(self, seconds: float = 180) -> None:
        """Until it takes requests."""
        deadline = time.monotonic() + seconds
        while self.ask("GET", "/ready")[0] != 200:
            assert time.monotonic() < deadline, self.log
            assert self.state["Running"], self.log
            time.sleep(0.5)


@contextlib.contextmanager
def running(image: str, *options: str) -> Iterator[Contained]:
    """A container of an image for the time of a block."""
    name = f"wheelwright-test-{uuid.uuid4().hex}"
    volume = f"{name}:/models"
    try:
        docker("run", "--rm", "-v", volume, image, "python", "-m", "serve.tiny", "/models/tiny")
        docker(
            "run", "--detach", "--name", name, "-p", "127.0.0.1::8000", "-v", volume, "-e", "WW_MODEL_DIR=/models/tiny",
            *options, image,
        )  # fmt: skip
        port = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Ports}}", name))["8000/tcp"]
        yield Contained(name, int(port[0]["HostPort"]) if port else 0)
    finally:
        subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True)
        subprocess.run(["docker", "volume", "rm", "--force", name], check=False, capture_output=True)
