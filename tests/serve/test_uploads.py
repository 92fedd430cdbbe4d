"""Reference audio as a file of a form, through a real form parser; and files that lie, by the thousand."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import struct
from typing import Annotated

import numpy as np
import pytest
import soundfile
import soxr
from fastapi import FastAPI, File, Form, UploadFile
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serve.api.http import Guard, add_error_handlers
from serve.errors import ServiceError
from serve.speech.audio import MOST_KEPT, AudioLimits, Sound, decode_base64
from serve.speech.uploads import decode_reference, read_upload

LIMITS = AudioLimits(max_bytes=300_000, min_s=1, max_s=30)
RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000)


@pytest.fixture(scope="module")
def form():
    """An app with one route that takes a file."""
    app = FastAPI()
    app.add_middleware(Guard, max_body_bytes=2_000_000, body_s=60)
    add_error_handlers(app)

    @app.post("/sound")
    async def sound(
        file: Annotated[UploadFile | None, File()] = None, other: Annotated[str | None, Form()] = None
    ) -> dict[str, float]:
        made = decode_reference(await read_upload(file or other, LIMITS.max_bytes, "file"), LIMITS, "file")
        return {"seconds": made.samples.size / made.rate}

    with TestClient(app) as client:
        yield client


def refusal(audio: bytes | str, limits: AudioLimits = LIMITS) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        decode_reference(audio, limits, "file")
    assert caught.value.remedy
    assert caught.value.field == "file"
    return caught.value


def outcome(audio: bytes | str) -> int:
    """The status of an answer, after checking that what is accepted is sound."""
    made: Sound | ServiceError
    try:
        made = decode_reference(audio, LIMITS, "file")
    except ServiceError as error:
        made = error
    if isinstance(made, ServiceError):
        assert made.remedy
        assert "0x" not in made.message  # no address of an object
        return made.status
    assert made.samples.ndim == 1
    assert np.isfinite(made.samples).all()
    assert 0 < np.abs(made.samples).max() <= 1
    assert LIMITS.min_s <= made.samples.size / made.rate <= LIMITS.max_s
    return 200


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("called", ["voice.wav", "Zoë's voice (2).mp3", "rec 12:30.ogg", "no ending", "...a"])
def test_a_file_of_a_form(form, sound, kind, called):
    answer = form.post("/sound", files={"file": (called, sound(2, 16_000, kind=kind), "text/html")})
    assert answer.status_code == 200, answer.text
    assert abs(answer.json()["seconds"] - 2) < 0.2


@pytest.mark.parametrize(
    "called",
    [
        "/etc/passwd",
        "../../voice.wav",
        "a/b.wav",
        "C:\\voice.wav",
        "\\\\host\\share",
        "file:///etc/passwd",
        "http://host/a.wav",
        "..",
        ".",
        " ",
        "a\x00b.wav",
        "a\tb.wav",
        "x" * 256,
    ],
)
def test_a_name_that_is_a_path_is_refused(called, sound):
    with pytest.raises(ServiceError) as caught:
        asyncio.run(read_upload(UploadFile(io.BytesIO(sound()), filename=called), 10**6, "file"))
    assert (caught.value.status, caught.value.code) == (422, "bad_name")
    assert called.strip() not in caught.value.message or called.strip() in {"", ".", ".."}


def test_a_path_in_a_form_is_refused(form, sound):
    answer = form.post("/sound", files={"file": ("../voice.wav", sound())})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_name")


@pytest.mark.parametrize("text", ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/a.wav", "UklGRg=="])
def test_text_in_place_of_a_file_is_refused(form, text):
    error = form.post("/sound", data={"other": text}).json()["error"]
    assert (error["code"], error["field"]) == ("not_audio", "file")
    assert text not in str(error)
    # A text part under the file's own name: the framework refuses it.
    assert form.post("/sound", data={"file": text}).status_code == 422


def test_nothing_and_an_empty_file(form):
    assert form.post("/sound").json()["error"]["code"] == "no_audio"
    assert form.post("/sound", files={"file": ("a.wav", b"")}).json()["error"]["code"] == "no_audio"


@pytest.mark.parametrize("more", [1, 1000, 1_500_000])
def test_too_large_a_file(form, more):
    answer = form.post("/sound", files={"file": ("a.wav", b"x" * (LIMITS.max_bytes + more))})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "audio_too_large")


def test_a_file_of_the_limit_is_read(form):
    answer = form.post("/sound", files={"file": ("a.wav", b"x" * LIMITS.max_bytes)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "not_audio")


@pytest.mark.parametrize("told", [None, 10])
def test_no_more_than_the_limit_is_read_whatever_the_size_says(told):
    class Counted(io.BytesIO):
        most = 0

        def read(self, size: int | None = -1, /) -> bytes:
            content = super().read(size)
            self.most = max(self.most, len(content))
            return content

    file = Counted(b"x" * 50_000)
    with pytest.raises(ServiceError) as caught:
        asyncio.run(read_upload(UploadFile(file, size=told, filename="a.wav"), 1000, "file"))
    assert caught.value.status == 413
    assert file.most == 1001


def test_bytes_and_base64_are_the_same_sound(sound):
    content = sound()
    made = decode_reference(content, LIMITS, "file")
    again = decode_reference("data:audio/wav;base64," + base64.b64encode(content).decode(), LIMITS, "file")
    assert made.digest == again.digest
    assert refusal(b"").code == "no_audio"
    assert refusal(b"x" * 300_001).status == 413


@settings(deadline=None, max_examples=60)
@given(
    rate=st.sampled_from(RATES),
    channels=st.sampled_from([1, 2]),
    shape=st.sampled_from(
        [("WAV", name) for name in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")]
        + [("FLAC", name) for name in ("PCM_S8", "PCM_16", "PCM_24")]
    ),
    seconds=st.floats(1, 1.5),
)
def test_every_width_rate_and_channel_count(sound, rate, channels, shape, seconds):
    content = sound(seconds, rate, channels, *shape)
    made = decode_reference(content, AudioLimits(10**8, 1, 30), "file")
    original = soundfile.read(
        io.BytesIO(sound(seconds, rate, channels, "WAV", "FLOAT")), dtype="float32", always_2d=True
    )
    mono = original[0].mean(axis=1)
    expected = soxr.resample(mono, rate, MOST_KEPT) if rate > MOST_KEPT else mono
    # Eight bits, the coarsest, are off by 1/128 at most; mu-law's steps at 0.3 are as large.
    np.testing.assert_allclose(made.samples, expected, atol=0.012)


@settings(deadline=None, max_examples=150)
@given(
    riff=st.integers(0, 2**32 - 1),
    claimed=st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1]),
    rate=st.sampled_from([0, 1, 7_999, 8_000, 24_000, 192_000, 192_001, 2**31, 2**32 - 1]),
    channels=st.integers(0, 65_535) | st.integers(0, 3),
    bits=st.integers(0, 65_535) | st.sampled_from([0, 8, 16, 24, 32, 64]),
    align=st.integers(0, 65_535) | st.sampled_from([0, 1, 2, 4]),
    form=st.sampled_from([1, 3, 6, 7, 0xFFFE, 0]),
)
def test_a_wav_header_may_say_anything(riff, claimed, rate, channels, bits, align, form):
    body = np.random.default_rng(0).integers(-9000, 9000, 30_000, dtype=np.int16).tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", riff, b"WAVE", b"fmt ", 16, form, channels,
        rate, (rate * 2) & 0xFFFFFFFF, align, bits, b"data", claimed,
    )  # fmt: skip
    assert outcome(head + body) in {200, 422}


@pytest.mark.parametrize("frames", [2**36 - 1, 2**31, 24_000 * 31])
def test_a_flac_that_claims_hours_is_refused_at_once(sound, frames):
    content = bytearray(sound(2, kind="FLAC"))
    # STREAMINFO: 36 bits of total samples end 18 bytes after its start, which is 8 bytes into the file.
    whole = int.from_bytes(content[18:26], "big")
    content[18:26] = (whole >> 36 << 36 | frames).to_bytes(8, "big")
    assert refusal(bytes(content)).code == "audio_too_long"


def test_a_flac_that_claims_nothing_gives_what_there_is(sound):
    content = bytearray(sound(2, kind="FLAC"))
    whole = int.from_bytes(content[18:26], "big")
    content[18:26] = (whole >> 36 << 36).to_bytes(8, "big")
    assert decode_reference(bytes(content), LIMITS, "file").samples.size == 48_000


@settings(deadline=None, max_examples=80)
@given(
    shape=st.sampled_from([("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("FLAC", None), ("WAV", None)]),
    part=st.floats(0, 1),
    tail=st.binary(max_size=40),
)
def test_a_file_that_is_cut_off(sound, shape, part, tail):
    content = sound(2.5, 48_000, 2, *shape)
    limits = outcome(content[: int(len(content) * part)][: LIMITS.max_bytes - 40] + tail)
    assert limits in {200, 422}


def test_two_files_in_one():
    ogg = io.BytesIO()
    soundfile.write(ogg, np.random.default_rng(0).uniform(-0.3, 0.3, 20 * 24_000), 24_000, format="OGG", subtype="OPUS")
    # A chained ogg: each part is within the limit, and both are not.
    assert outcome(ogg.getvalue() * 2) in {200, 422}


@pytest.mark.parametrize("bomb", ["A", "=", " ", "\n", "%", "é", "data:audio/wav;base64,", "////", "a/"])
def test_base64_bombs_are_refused_and_not_quoted(bomb):
    error = refusal(bomb * (8_000_000 // len(bomb)))
    assert error.status in {413, 422}
    assert len(error.message) < 300


@given(st.text(alphabet="/\\.:ab%~=+ \n", max_size=60) | st.from_regex(r"\A(file|https?|s3|ftp)://[a-z0-9./]{0,30}\Z"))
def test_no_text_is_ever_opened(text):
    with pytest.MonkeyPatch.context() as patch:

        def barred(*_args, **_kwargs):
            raise AssertionError("nothing may be opened")

        patch.setattr("builtins.open", barred)
        patch.setattr("socket.socket.connect", barred)
        with contextlib.suppress(ServiceError):
            decode_base64(text, 1000, "file")
        assert outcome(text) in {413, 422}
