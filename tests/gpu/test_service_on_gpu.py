"""The service on a real GPU, with the tiny checkpoint: `make test-gpu`. Needs torch for CUDA; no engine, no network."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from images.wav import read_wav, reference_voice

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.gpu
ROOT = Path(__file__).resolve().parents[2]
FLASH = importlib.util.find_spec("flash_attn") is not None


@pytest.fixture
def flash(gpu: tuple[int, int]) -> None:
    """For tests that need a flash_attention_2 that runs."""
    if not FLASH:
        pytest.skip("flash-attn is not installed")
    if gpu < (8, 0):
        pytest.skip("flash-attn has no code for this GPU")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    subprocess.run([sys.executable, "-m", "serve.tiny", str(folder)], cwd=ROOT, check=True)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def service(tiny: Path, **settings: str) -> Iterator[str]:
    """``python -m serve`` on a free port; yields its address once it is ready, and ends it with SIGTERM."""
    port = free_port()
    env = os.environ | {"WW_HOST": "127.0.0.1", "WW_PORT": str(port), "WW_MODEL_DIR": str(tiny)} | settings
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, "-m", "serve"], cwd=ROOT, env=env, stderr=log)
        try:
            deadline = time.monotonic() + 120
            while ask(f"http://127.0.0.1:{port}/ready")[0] != 200:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            status = process.wait(20)
            log.seek(0)
            said = log.read()
            print(said)
    assert status == 0
    assert "WARNING" not in said


def ask(url: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except urllib.error.URLError:
        return 0, b""


def clone(url: str) -> bytes:
    voice = base64.b64encode(reference_voice()).decode()
    body = {"text": "A sentence for the GPU.", "seed": 7, "ref_audio_base64": voice, "ref_text": "A tone."}
    status, content = ask(f"{url}/clone", body)
    assert status == 200, content
    assert read_wav(content).faults(0.05, 60) == []
    return content


def clone_batch(url: str) -> None:
    """Two texts of unequal length in one batch: the shorter one is padded, which attention must mask."""
    voice = base64.b64encode(reference_voice()).decode()
    texts = ("Short.", "A sentence that is a good deal longer than the other one of the two.")
    body = {"items": [{"text": text} for text in texts], "ref_audio_base64": voice, "ref_text": "A tone."}
    status, content = ask(f"{url}/clone-batch", body)
    assert status == 200, content
    items = json.loads(content)["items"]
    assert [item["status"] for item in items] == [200, 200]
    for item in items:
        assert read_wav(base64.b64decode(item["audio_base64"])).faults(0.05, 60) == []


def sm(gpu: tuple[int, int]) -> str:
    return f"sm_{gpu[0]}{gpu[1]}"


@pytest.fixture
def image(tmp_path: Path) -> Callable[[str], str]:
    """``image("sm_90")``: an image.json whose wheel holds code for that, and whose default is flash_attention_2."""

    def write(code: str) -> str:
        content = {
            "schema": 1, "target": "a-test", "python": "3.12", "torch": "2.9.1", "cuda": "12.8", "abi": "TRUE",
            "platform": "linux_x86_64", "flash_attn": "2.8.3", "wheel_sass": [code], "wheel_sha256": "0",
            "driver_floor": "525.60.13", "model": "Qwen/Qwen3-TTS-12Hz-0.6B-Base", "lock_hash": "0",
            "attention": {"default": "flash_attention_2", "because": "a test"},
        }  # fmt: skip
        file = tmp_path / "image.json"
        file.write_text(json.dumps(content))
        return str(file)

    return write


def refused_start(tiny: Path, **settings: str) -> str:
    """What ``python -m serve`` says on stderr when it refuses to start with exit status 4."""
    env = os.environ | {"WW_MODEL_DIR": str(tiny), "WW_PORT": str(free_port())} | settings
    done = subprocess.run(
        [sys.executable, "-m", "serve"], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def runs(url: str) -> tuple[str, str, dict[str, str]]:
    """From /health: what runs, why, and what was found about flash_attention_2 and used by each part."""
    health = json.loads(ask(f"{url}/health")[1])
    print(json.dumps({key: health[key] for key in ("device", "dtype", "attention", "seconds")}))
    assert health["device"]["torch"] == "cuda:0"
    attention = health["attention"]
    rungs = {rung["name"]: rung["because"] for rung in attention["rungs"]}
    return attention["running"], attention["because"], {"flash": rungs["flash_attention_2"]} | attention["parts"]


@pytest.mark.parametrize(
    ("settings", "attention", "talker", "predictor"),
    [
        ({"WW_ATTENTION": "sdpa"}, "sdpa", "bfloat16", "bfloat16"),
        ({"WW_DTYPE": "float16"}, "sdpa", "float16", "float32"),  # the T4 profile: all but the talker in fp32
        ({"WW_DTYPE": "float32", "WW_ATTENTION": "eager"}, "eager", "float32", "float32"),
    ],
    ids=["sdpa", "t4-profile", "float32-eager"],
)
def test_it_clones_and_says_what_it_runs(
    tiny: Path, gpu: tuple[int, int], settings: dict[str, str], attention: str, talker: str, predictor: str
) -> None:
    if gpu < (8, 0) and "WW_DTYPE" not in settings:
        talker, predictor = "float16", "float32"
    with service(tiny, **settings) as url:
        assert runs(url)[0] == attention
        dtype = json.loads(ask(f"{url}/health")[1])["dtype"]
        assert (dtype["talker"], dtype["code_predictor"]) == (talker, predictor)
        assert clone(url) == clone(url)  # the same seed, the same bytes


def test_auto_without_an_image_runs_the_first_rung_that_can(tiny: Path, gpu: tuple[int, int]) -> None:
    with service(tiny) as url:
        running, because, found = runs(url)
        if FLASH and gpu >= (8, 0):
            assert running == "flash_attention_2"
            assert found["flash"].endswith("serves every visible GPU, and a call succeeded")
            assert "no image.json names a default; flash_attention_2 is the first of" in because
            # qwen-tts never gives its codec flash_attention_2.
            assert (found["talker"], found["code_predictor"], found["codec"]) == (running, running, "sdpa")
        else:
            assert running == "sdpa"
            reason = "FlashAttention-2 needs sm_80 or newer" if FLASH else "flash-attn is not installed"
            assert found["flash"].startswith(reason)
        assert clone(url) == clone(url)
        clone_batch(url)


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize("settings", [{}, {"WW_ATTENTION": "flash_attention_2"}], ids=["default", "forced"])
def test_an_image_whose_wheel_serves_this_gpu(
    tiny: Path, gpu: tuple[int, int], image: Callable[[str], str], settings: dict[str, str]
) -> None:
    with service(tiny, WW_IMAGE_JSON=image(sm(gpu)), **settings) as url:
        running, because, _ = runs(url)
        assert running == "flash_attention_2"
        said = "WW_ATTENTION=flash_attention_2 asks for it" if settings else "the image's default is flash_attention_2"
        assert said in because
        assert clone(url) == clone(url)


@pytest.mark.usefixtures("flash")
def test_an_image_whose_wheel_does_not_serve_this_gpu(
    tiny: Path, gpu: tuple[int, int], image: Callable[[str], str]
) -> None:
    other = "sm_80" if gpu[0] != 8 else "sm_90"
    reason = f"the wheel holds {other}, which does not serve a visible GPU ({sm(gpu)})"
    with service(tiny, WW_IMAGE_JSON=image(other)) as url:
        running, because, found = runs(url)
        assert running == "sdpa"
        assert found["flash"] == reason
        assert f"flash_attention_2 cannot run ({reason}); sdpa is the first of" in because
        clone(url)
    stderr = refused_start(tiny, WW_IMAGE_JSON=image(other), WW_ATTENTION="flash_attention_2")
    assert f"WW_ATTENTION=flash_attention_2 cannot run here: {reason}" in stderr


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize(("dtype", "part"), [("float32", "talker"), ("float16", "code predictor")])
def test_a_part_in_float32_rules_flash_attention_out(tiny: Path, dtype: str, part: str) -> None:
    reason = f"it computes in float16 or bfloat16, and the {part} runs in float32"
    stderr = refused_start(tiny, WW_DTYPE=dtype, WW_ATTENTION="flash_attention_2")
    assert f"WW_ATTENTION=flash_attention_2 cannot run here: {reason}" in stderr
    with service(tiny, WW_DTYPE=dtype) as url:
        running, because, _ = runs(url)
        assert running == "sdpa"
        assert reason in because


@pytest.mark.skipif(FLASH, reason="flash-attn is installed")
def test_flash_attention_that_is_not_there_stops_a_start_that_demands_it(tiny: Path) -> None:
    assert "flash-attn is not installed" in refused_start(tiny, WW_ATTENTION="flash_attention_2")
