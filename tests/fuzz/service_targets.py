"""What the service reads of its callers: heads, bodies, audio, base64.

Each broken request gets a status that fits in the contract's shape, or the connection is closed: never a 500, never a
defect in the log, and the next caller is served.
"""

from __future__ import annotations

import base64
import io
import json
import re
from functools import cache

import numpy as np
import soundfile
from hypothesis import strategies as st

from serve.errors import ServiceError
from serve.speech.audio import AudioLimits, decode_audio, decode_base64
from tests.fuzz.mutation import mutated
from tests.fuzz.running import exchange, require_unharmed, running
from tests.fuzz.target import Target

_HEADS = [
    b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer k\r\n\r\n",
    b"POST /clone HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /clone HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"POST /clone HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\n\r\n",
    b"GET http://a/ready?x=%2f#y HTTP/1.1\r\nHost: b\r\nX-Request-ID: abc\r\nExpect: 100-continue\r\n\r\n",
    b"GET /live HTTP/1.1\r\nHost: a\r\n\r\nGET /ready HTTP/1.1\r\nHost: a\r\n\r\n",
]
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_ANSWER = re.compile(rb"(\d{3}).*?\r\n\r\n", re.DOTALL)
_LIMITS = AudioLimits(1_000_000, 0.1, 5.0)
_MOST_BASE64 = 1000


def check_head(content: bytes) -> None:
    """Every answer is HTTP, and none of the server's faults."""
    answer = exchange(content)
    if answer:
        assert _STATUS.match(answer), answer[:200]
        assert [status for status in _STATUS.findall(answer) if int(status) >= 500] == [], answer[:500]
    require_unharmed()


@cache
def sound(kind: str) -> bytes:
    """A file of half a second of noise."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 12_000).astype(np.float32)
    soundfile.write(file, noise, 24_000, format=kind)
    return file.getvalue()


def _bodies() -> dict[str, bytes]:
    """Right bodies: path and content type -> content."""
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
    return {
        "/clone application/json": json.dumps(clone).encode(),
        "/clone multipart/form-data; boundary=x": form,
        "/clone-batch application/json": json.dumps(batch).encode(),
        "/v1/audio/speech application/json": json.dumps(speech).encode(),
        "/v1/audio/voices multipart/form-data; boundary=x": form.replace(b"ref_audio", b"audio_sample"),
    }


def check_body(given: tuple[str, bytes]) -> None:
    """A body is answered, and an error is one of the contract's."""
    where, content = given
    path, _, kind = where.partition(" ")
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
    answer = exchange(head.encode() + b"Connection: close\r\n\r\n" + content, half_close=False)
    found = _STATUS.match(answer)
    assert found is not None, answer[:200]
    status = int(found[1])
    if status >= 400:
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert error.keys() == {"code", "message", "field", "remedy"}
        # Random weights may make silence or never end, which is said and is no defect.
        assert status < 500 or error["code"] in {"bad_audio", "runaway"}, answer[:500]
    require_unharmed()


def check_audio(content: bytes) -> None:
    """A file is refused as its sender's fault, or gives sound of the promised form and length."""
    try:
        found = decode_audio(content, _LIMITS, "audio")
    except ServiceError as refusal:
        _require_callers_fault(refusal)
        return
    assert found.samples.dtype == np.float32
    assert np.isfinite(found.samples).all()
    assert np.abs(found.samples).max() <= 1
    assert _LIMITS.min_s <= found.samples.size / found.rate <= _LIMITS.max_s + 0.01


def check_base64(content: bytes) -> None:
    """A text is refused as its sender's fault, or gives at most so many bytes."""
    try:
        found = decode_base64(content.decode("utf-8", "surrogateescape"), _MOST_BASE64, "audio")
    except ServiceError as refusal:
        _require_callers_fault(refusal)
        return
    assert 0 < len(found) <= _MOST_BASE64


def _require_callers_fault(refusal: ServiceError) -> None:
    assert 400 <= refusal.status < 500, refusal


_BODIES = st.one_of([st.tuples(st.just(where), mutated([content])) for where, content in _bodies().items()])
_TEXTS = mutated([base64.b64encode(b"audio" * 20), b"data:audio/wav;base64,AAAA", b"/etc/passwd", b"https://a/b.wav"])

TARGETS = (
    Target("heads", mutated(_HEADS), check_head, seconds=30, examples=400, prepare=running),
    Target("bodies", _BODIES, check_body, seconds=30, examples=200, prepare=running),
    Target("audio", mutated([sound(kind) for kind in ("WAV", "FLAC", "OGG", "MP3")]), check_audio, examples=400),
    Target("base64", _TEXTS, check_base64, examples=400),
)
