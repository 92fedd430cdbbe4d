"""What a caller sends: heads, bodies and audio, each a good one that was broken in a few places.

The service must answer with a status that fits, in the contract's shape, or close; never a 500, never a defect in its
log, and it must be there for the next caller.
"""

from __future__ import annotations

import base64
import io
import json
import re
from functools import cache

import numpy as np
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import ServiceError
from serve.speech.audio import FORMATS, AudioLimits, decode_audio, decode_base64
from tests.fuzz.mutations import mutated
from tests.fuzz.running import exchange, require_unharmed, running

HEADS = [
    b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer k\r\n\r\n",
    b"POST /clone HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /clone HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"POST /clone HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\n\r\n",
    b"GET http://a/ready?x=%2f#y HTTP/1.1\r\nHost: b\r\nX-Request-ID: abc\r\nExpect: 100-continue\r\n\r\n",
]
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
LIMITS = AudioLimits(1_000_000, 0.1, 5.0)


@given(mutated(HEADS))
def test_heads(content: bytes) -> None:
    answer = exchange(content)
    if answer:
        status = STATUS.match(answer)
        assert status is not None, answer[:200]
        assert int(status[1]) < 500, answer[:500]
    require_unharmed()


def require_callers_fault(refusal: ServiceError) -> None:
    """It says that the caller sent something wrong."""
    assert 400 <= refusal.status < 500, refusal


@cache
def sound(kind: str) -> bytes:
    """A file of half a second of noise."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 12_000).astype(np.float32)
    soundfile.write(file, noise, 24_000, format=kind)
    return file.getvalue()


@cache
def bodies() -> list[tuple[str, bytes]]:
    """Good bodies, each with its path and content type."""
    audio = base64.b64encode(sound("WAV")).decode()
    clone = {"text": "Hi.", "ref_text": "Ah.", "ref_audio_base64": audio, "language": "en", "seed": 1}
    form = (
        b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nHi.\r\n'
        b'--x\r\nContent-Disposition: form-data; name="ref_text"\r\n\r\nAh.\r\n'
        b'--x\r\nContent-Disposition: form-data; name="ref_audio"; filename="a.wav"\r\n'
        b"Content-Type: audio/wav\r\n\r\n" + sound("WAV") + b"\r\n--x--\r\n"
    )
    speech = {"model": "tts-1", "input": "Hi.", "voice": "none", "response_format": "pcm"}
    batch = {"items": [{"text": "Hi.", "ref_text": "Ah.", "ref_audio_base64": audio}]}
    return [
        ("/clone|application/json", json.dumps(clone).encode()),
        ("/clone|multipart/form-data; boundary=x", form),
        ("/clone-batch|application/json", json.dumps(batch).encode()),
        ("/v1/audio/speech|application/json", json.dumps(speech).encode()),
        ("/v1/audio/voices|multipart/form-data; boundary=x", form),
    ]


@given(st.data())
def test_bodies(data: st.DataObject) -> None:
    where, good = data.draw(st.sampled_from(bodies()))
    content = data.draw(mutated([good]))
    path, kind = where.split("|")
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
    answer = exchange(head.encode() + b"Connection: close\r\n\r\n" + content, half_close=False)
    status = STATUS.match(answer)
    assert status is not None, answer[:200]
    assert int(status[1]) < 500 or b'"bad_audio"' in answer, answer[:500]
    if int(status[1]) >= 400:
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert error.keys() == {"code", "message", "field", "remedy"}
    require_unharmed()


@given(st.data())
def test_audio(data: st.DataObject) -> None:
    content = data.draw(mutated([sound(kind) for kind in FORMATS if kind != "WAVEX"]))
    try:
        found = decode_audio(content, LIMITS, "audio")
    except ServiceError as refusal:
        require_callers_fault(refusal)
        return
    assert found.samples.dtype == np.float32
    assert np.isfinite(found.samples).all()
    assert np.abs(found.samples).max() <= 1
    assert LIMITS.min_s <= found.samples.size / found.rate <= LIMITS.max_s + 0.01


@given(st.one_of(mutated([base64.b64encode(b"audio" * 20), b"data:audio/wav;base64,AAAA"]), st.binary(max_size=200)))
def test_base64(content: bytes) -> None:
    text = content.decode("utf-8", "surrogateescape")
    try:
        found = decode_base64(text, 1000, "audio")
    except ServiceError as refusal:
        require_callers_fault(refusal)
        return
    assert 0 < len(found) <= 1000


def test_the_service_under_attack_is_the_real_one() -> None:
    assert running().popen.poll() is None
