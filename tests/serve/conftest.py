"""The tiny checkpoint, the app on it (in this process), and the app as its own process."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

# Before torch is imported: on matrices of this size a second thread makes everything ten times slower.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import soundfile
import torch
import uvicorn

with warnings.catch_warnings():
    # It asks for httpx's successor, which the tests' other client code does not need.
    warnings.filterwarnings("ignore", message="Using `httpx` with `starlette.testclient`")
    from starlette.testclient import TestClient

from serve.api.app import create_app
from serve.client import Client
from serve.service import Service
from serve.settings import BARE_NAMES, read_settings
from serve.tiny import write_tiny

ROOT = Path(__file__).parents[2]
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests may reach them."""
    for name in [*os.environ]:
        if name.startswith("WW_") or name in BARE_NAMES:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny")


def noise(seconds: float = 2, rate: int = 24_000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise of a speech-like level: float32, shape (n, channels)."""
    shape = (int(seconds * rate), channels)
    return np.random.default_rng(seed).uniform(-0.3, 0.3, shape).astype(np.float32)


@pytest.fixture(scope="session")
def sound() -> Callable[..., bytes]:
    """Make an audio file: ``sound(seconds, rate, channels, format, subtype)``."""

    def make(
        seconds: float = 2,
        rate: int = 24_000,
        channels: int = 1,
        kind: str = "WAV",
        subtype: str | None = None,
        *,
        seed: int = 0,
    ) -> bytes:
        buffer = io.BytesIO()
        soundfile.write(buffer, noise(seconds, rate, channels, seed), rate, format=kind, subtype=subtype)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def voice(sound: Callable[..., bytes]) -> dict[str, str]:
    """The reference's two fields of a request."""
    return {"ref_audio_base64": base64.b64encode(sound()).decode(), "ref_text": "What the reference says."}


@pytest.fixture(scope="session")
def make_client(tiny: Path) -> Callable[..., TestClient]:
    """A client of an app of its own: ``make_client(MAX_ITEMS="2")``; enter it to start the loading."""

    def make(**settings: str) -> TestClient:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in ({"MODEL_DIR": str(tiny)} | settings).items():
                patch.setenv(f"WW_{name}", value)
            service = Service(read_settings(), None)
        client = TestClient(create_app(service), raise_server_exceptions=False)
        client.app_state["service"] = service
        return client

    return make


def wait_ready(client: TestClient) -> None:
    deadline = time.monotonic() + 60
    while client.get("/ready").status_code != 200:
        assert time.monotonic() < deadline, client.get("/ready").text
        time.sleep(0.02)


@pytest.fixture(scope="session")
def ready() -> Callable[[TestClient], None]:
    return wait_ready


@pytest.fixture(scope="session")
def client(make_client: Callable[..., TestClient]) -> Iterator[TestClient]:
    """The app on the tiny checkpoint, ready."""
    with make_client(MAX_BODY_MIB="4") as made:
        wait_ready(made)
        yield made


@pytest.fixture(scope="session")
def url(make_client: Callable[..., TestClient], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where an app listens, ready, that keeps voices."""
    app = make_client(DATA_DIR=str(tmp_path_factory.mktemp("data"))).app
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        with Client(address) as client:
            assert client.ready(60)
        yield address
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def reference(sound: Callable[..., bytes]) -> bytes:
    """The file of a reference."""
    return sound()


def read_wav(content: bytes) -> np.ndarray:
    """The samples of an answer, after checking that it is what the contract promises."""
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        assert (file.format, file.subtype, file.samplerate, file.channels) == ("WAV", "PCM_16", 24_000, 1)
        return file.read(dtype="float32")


@pytest.fixture(scope="session")
def samples() -> Callable[[bytes], np.ndarray]:
    return read_wav


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    return find_port()


class Process:
    """``python -m serve`` on a free port of 127.0.0.1."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.port = find_port()
        self.log = folder / f"log-{self.port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WW_")},
            "WW_HOST": "127.0.0.1",
            "WW_PORT": str(self.port),
            "PYTHONPATH": str(ROOT),
            **{f"WW_{name}": value for name, value in settings.items()},
        }
        with self.log.open("wb") as log:
            # -W default shows every warning of every package, also those that Python hides.
            self.popen = subprocess.Popen(
                [sys.executable, "-W", "default", "-m", "serve"],
                env=self.environment,
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 60) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"} if content else {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def wait_open(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self.ask("GET", "/live")
            except OSError:
                assert time.monotonic() < deadline
                assert self.popen.poll() is None, self.stderr()
                time.sleep(0.01)
            else:
                return

    def wait_ready(self) -> None:
        self.wait_open()
        deadline = time.monotonic() + 60
        while self.ask("GET", "/ready")[0] != 200:
            assert time.monotonic() < deadline, self.stderr()
            time.sleep(0.05)

    def end(self, sig: int = signal.SIGTERM) -> tuple[int, float]:
        """Send the signal; the exit status and the seconds until then."""
        began = time.monotonic()
        self.popen.send_signal(sig)
        return self.popen.wait(timeout=30), time.monotonic() - began

    def stderr(self) -> str:
        return self.log.read_text()

    def stdout(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.read().decode()


@pytest.fixture
def launch(tmp_path: Path, tiny: Path) -> Iterator[Callable[..., Process]]:
    """Start the service: ``launch(DRAIN_S="1")``; the tiny checkpoint unless told otherwise."""
    started: list[Process] = []

    def start(**settings: str) -> Process:
        started.append(Process(tmp_path, **({"MODEL_DIR": str(tiny)} | settings)))
        return started[-1]

    yield start
    for process in started:
        process.popen.kill()
        process.popen.wait()
        if process.popen.stdout is not None:
            process.popen.stdout.close()
