"""The ``cpu`` image with little memory, and without a place for temporary files."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

from images.engine import Engine
from tests.image.space import REPOSITORY, Space
from tests.security.images.contained import Contained, running

pytestmark = pytest.mark.engine
IMAGE = f"{REPOSITORY}:cpu"
ALLOWED = {200, 413, 422, 429, 503}


@pytest.fixture(scope="module")
def image(engine: Engine, make_space: Callable[[str], Space]) -> str:
    answer = make_space("").images("build", "cpu", "--json")
    assert answer.status == 0, answer.out
    return IMAGE


def audio(seconds: float, kind: str, seed: int) -> str:
    wave = np.random.default_rng(seed).uniform(-0.3, 0.3, int(seconds * 48_000)).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, wave, 48_000, format=kind)
    return base64.b64encode(file.getvalue()).decode()


def request(sound: str) -> bytes:
    return json.dumps({"text": "Hello there.", "ref_text": "Said.", "ref_audio_base64": sound}).encode()


def flood(service: Contained, bodies: list[bytes]) -> Counter[int]:
    """All of them at once; how often each status came."""

    def send(body: bytes) -> int:
        status, content = service.ask("POST", "/clone", body, Content_Type="application/json")
        assert status, (content, service.state)
        return status

    with ThreadPoolExecutor(len(bodies)) as threads:
        return Counter(threads.map(send, bodies))


def test_no_load_kills_a_container_of_512_mb(image: str) -> None:
    large = request("A" * 31 * 1024 * 1024)
    small = [request(audio(30, kind, seed)) for seed, kind in enumerate(["WAV", "FLAC", "OGG", "MP3"])]
    with running(image, "--memory", "512m", "--memory-swap", "512m") as service:
        service.wait_ready()
        memory = json.loads(service.ask("GET", "/info")[1])["memory"]
        assert memory["budget"]["limit_bytes"] == 512 * 1024 * 1024
        assert memory["requests"]["limit_bytes"] > 8 * 1024 * 1024
        for bodies in ([large] * 12, [large] * 64, small * 8, [large, *small] * 8):
            counts = flood(service, bodies)
            assert set(counts) <= ALLOWED, counts
            state = service.state
            assert (state["Running"], state["OOMKilled"]) == (True, False), service.log[-2000:]
        assert service.ask("POST", "/clone", small[2], Content_Type="application/json")[0] == 200
        assert "Traceback" not in service.log


def test_a_read_only_container_without_tmp_says_what_is_missing(image: str) -> None:
    with running(image, "--read-only") as service:
        for _ in range(240):
            if not service.state["Running"]:
                break
            service.ask("GET", "/live")
        assert service.state["ExitCode"] == 2
        assert "no folder for temporary files" in service.log
        assert "--tmpfs /tmp" in service.log
        assert "Traceback" not in service.log


def test_a_read_only_container_with_a_small_tmp_takes_uploads(image: str) -> None:
    wave = base64.b64decode(audio(29, "WAV", 0))
    parts = [b'--x\r\nContent-Disposition: form-data; name="ref_audio"; filename="a.wav"\r\n\r\n', wave, b"\r\n"]
    head = b'--x\r\nContent-Disposition: form-data; name="'
    parts.extend(head + name + b'"\r\n\r\nHello.\r\n' for name in (b"text", b"ref_text"))
    with running(image, "--read-only", "--tmpfs", "/tmp:size=2m") as service:
        service.wait_ready()
        form = b"".join([*parts, b"--x--\r\n"])
        assert service.ask("POST", "/clone", form, Content_Type="multipart/form-data; boundary=x")[0] == 200
