"""The service with random weights of the released sizes, in bfloat16 and in a T4's dtypes: `make test-gpu`."""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.wav import read_wav, reference_voice
from serve.client import Client
from tests.gpu import full_size
from tests.gpu.test_service_on_gpu import ask, service

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.gpu
T4 = {"WW_ARCH_OVERRIDE": "7.5"}
FASTER = {"WW_ENGINE": "faster"}
SETTINGS = {"qwen": {}, "qwen-t4-profile": T4, "faster": FASTER, "faster-t4-profile": FASTER | T4}
FRAME = 1920  # samples


@pytest.fixture(scope="module", params=sorted(full_size.SIZES))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from serve.tiny import write_tiny  # noqa: PLC0415 - brings the model's packages

    return write_tiny(tmp_path_factory.mktemp("models") / "full", shape=full_size.shape(request.param, 64))


@pytest.fixture(scope="module", params=SETTINGS.values(), ids=SETTINGS)
def url(request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with service(checkpoint, WW_DATA_DIR=str(tmp_path_factory.mktemp("data")), **request.param) as address:
        dtype = json.loads(ask(f"{address}/health")[1])["dtype"]
        print(dtype)
        if "WW_ARCH_OVERRIDE" in request.param:
            parts = ("talker", "code_predictor", "codec", "speaker_encoder")
            assert [dtype[part] for part in parts] == ["float16", "float32", "float32", "float32"]
        yield address


def voice() -> dict[str, str]:
    return {"ref_audio_base64": base64.b64encode(reference_voice()).decode(), "ref_text": "A tone."}


def test_it_clones_the_same_with_the_same_seed(url: str) -> None:
    body = {"text": "Hi.", "seed": 7} | voice()
    first, again = (ask(f"{url}/clone", body) for _ in range(2))
    assert first[0] == again[0] == 200, first[1][:300]
    assert first[1] == again[1]
    assert read_wav(first[1]).faults(0.05, 60) == []


def test_likeness_alone(url: str) -> None:
    body = {"text": "Hi.", "x_vector_only": True, "ref_audio_base64": voice()["ref_audio_base64"]}
    status, content = ask(f"{url}/clone", body)
    assert status == 200, content[:300]
    assert read_wav(content).faults(0.05, 60) == []


def test_a_batch(url: str) -> None:
    texts = ["Hi.", "Hello there, you two.", "Yes.", "No, never."]
    status, content = ask(f"{url}/clone-batch", {"items": [{"text": text} for text in texts]} | voice())
    assert status == 200
    for item in json.loads(content)["items"]:
        assert item["status"] == 200, item
        assert read_wav(base64.b64decode(item["audio_base64"])).faults(0.05, 60) == []


def test_sound_leaves_with_the_first_frame(url: str) -> None:
    address = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
    body = json.dumps({"text": "Hello there.", "stream": True, "response_format": "pcm"} | voice())
    address.request("POST", "/clone", body, {"Content-Type": "application/json"})
    answer = address.getresponse()
    assert answer.status == 200
    first = answer.read1(10**6)
    assert 0 < len(first) <= 3 * 2 * FRAME
    assert len(answer.read()) > 10 * FRAME
    address.close()


def test_a_kept_voice_speaks_through_openais_client(url: str) -> None:
    import openai  # noqa: PLC0415 - the real one

    with Client(url) as client:
        made = client.voices.create("anna", reference_voice(), "A tone.", consent="a test", language="english")
    theirs = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    speech, model = theirs.audio.speech, theirs.models.list().data[0].id
    whole = speech.create(model=model, input="Hello.", voice="anna", response_format="wav").content
    assert read_wav(whole).faults(0.05, 60) == []
    with speech.with_streaming_response.create(
        model=model, input="Hello.", voice=made.id, response_format="pcm"
    ) as answer:
        first, *rest = answer.iter_bytes()
    assert 0 < len(first) <= 3 * 2 * FRAME
    assert len(b"".join(rest)) > 10 * FRAME
    with Client(url) as client:
        client.voices.delete("anna")
        assert client.voices.list() == []


def test_who_leaves_is_forgotten(url: str) -> None:
    with Client(url) as client:
        parts = client.clone_stream("Hello there.", reference_voice(), "A tone.", format="pcm")
        assert next(parts)
        parts.close()
    for _ in range(50):
        metrics = ask(f"{url}/metrics")[1].decode()
        if "wheelwright_requests_running 0.0" in metrics:
            break
        time.sleep(0.1)
    assert "wheelwright_queue_pieces 0.0" in metrics
    assert "wheelwright_pieces_cancelled_total 1.0" in metrics
    assert 'wheelwright_gpu_memory_bytes{gpu="cuda:0",kind="allocated"}' in metrics
