"""Reference audio in, WAV out."""

from __future__ import annotations

import base64
import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import ServiceError
from serve.speech.audio import AudioLimits, Sound, decode_audio, decode_base64, encode_wav

LIMITS = AudioLimits(max_bytes=4_000_000, min_s=1, max_s=30)


def refusal(content: bytes, limits: AudioLimits = LIMITS) -> str:
    with pytest.raises(ServiceError) as caught:
        decode_audio(content, limits, "ref_audio_base64")
    assert caught.value.status == 422
    assert caught.value.field == "ref_audio_base64"
    assert caught.value.remedy
    return caught.value.code


def decoded(content: bytes) -> Sound | ServiceError:
    """The sound, or the refusal; anything else that is raised fails the test."""
    try:
        return decode_audio(content, LIMITS, "audio")
    except ServiceError as error:
        return error


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", name) for name in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")]
    + [("WAVEX", "PCM_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS")]
    + [("MP3", "MPEG_LAYER_III")],
)
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (24_000, 2), (48_000, 1)])
def test_every_format_becomes_mono_float(sound, kind, subtype, rate, channels):
    made = decode_audio(sound(2, rate, channels, kind, subtype), LIMITS, "audio")
    assert made.samples.dtype == np.float32
    assert made.samples.ndim == 1
    assert made.rate == rate
    assert abs(made.samples.size / rate - 2) < 0.2  # lossy formats pad
    # Uniform noise of +-0.3 has an RMS of 0.17, the mean of two channels 0.12: an unscaled int16 would be thousands.
    assert 0.05 < np.sqrt(np.mean(made.samples**2)) < 0.2
    assert np.abs(made.samples).max() <= 1


@pytest.mark.parametrize("rate", [22_050, 44_100])
def test_other_rates_are_kept(sound, rate):
    assert decode_audio(sound(1.5, rate), LIMITS, "audio").rate == rate


def test_stereo_is_the_mean_of_its_channels(sound):
    left_and_right, _ = soundfile.read(io.BytesIO(sound(1, channels=2, subtype="FLOAT")), dtype="float32")
    made = decode_audio(sound(1, channels=2, subtype="FLOAT"), LIMITS, "audio")
    np.testing.assert_allclose(made.samples, left_and_right.mean(axis=1), atol=1e-6)


def floats(values: np.ndarray, subtype: str = "FLOAT", rate: int = 24_000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, values, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def test_floats_above_full_scale_are_scaled_down():
    values = np.sin(np.linspace(0, 500, 24_000)).astype(np.float32)
    made = decode_audio(floats(values * 20_000), LIMITS, "audio")
    assert np.abs(made.samples).max() == pytest.approx(1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    values = np.full(24_000, 0.1, np.float32)
    values[700] = value
    assert refusal(floats(values)) == "not_finite"


@pytest.mark.parametrize("rate", [48_000, 96_000, 176_400, 192_000])
def test_what_is_kept_of_a_high_rate_is_what_a_voice_has(rate):
    seconds = 2
    tone = 0.9 * np.sin(2 * np.pi * 1000 * np.arange(seconds * rate) / rate)
    made = decode_audio(floats(tone.astype(np.float32), rate=rate), LIMITS, "audio")
    assert made.rate == 48_000
    assert made.samples.size == seconds * 48_000
    assert np.abs(made.samples).max() <= 1
    expected = 0.9 * np.sin(2 * np.pi * 1000 * np.arange(seconds * 48_000) / 48_000)
    np.testing.assert_allclose(made.samples[1000:-1000], expected[1000:-1000], atol=1e-3)


def test_a_double_beyond_float32_is_refused():
    assert refusal(floats(np.full(24_000, 1e300), "DOUBLE")) == "not_finite"


@pytest.mark.parametrize("level", [0, 1e-5, 0.5, -1])
def test_silence_is_refused(level):
    assert refusal(floats(np.full(24_000, level, np.float32))) == "silent_audio"


def test_channels_that_cancel_are_silent():
    values = np.random.default_rng(0).uniform(-0.5, 0.5, 24_000).astype(np.float32)
    assert refusal(floats(np.stack([values, -values], axis=1))) == "silent_audio"


@pytest.mark.parametrize(
    ("seconds", "code"), [(0, "audio_too_short"), (0.5, "audio_too_short"), (30.1, "audio_too_long")]
)
def test_lengths(sound, seconds, code):
    assert refusal(sound(seconds)) == code


@pytest.mark.parametrize("seconds", [1, 30])
def test_lengths_at_the_limits(sound, seconds):
    assert decode_audio(sound(seconds), LIMITS, "audio").samples.size == seconds * 24_000


def test_a_small_file_with_hours_of_sound_is_refused():
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(24_000 * 3600, np.int16), 24_000, format="FLAC")
    content = buffer.getvalue()
    assert len(content) < LIMITS.max_bytes
    assert refusal(content) == "audio_too_long"


@pytest.mark.parametrize(("channels", "code"), [(3, "bad_channels"), (8, "bad_channels")])
def test_more_than_stereo_is_refused(sound, channels, code):
    assert refusal(sound(1, channels=channels)) == code


@pytest.mark.parametrize("rate", [4_000, 200_000])
def test_odd_rates_are_refused(sound, rate):
    assert refusal(sound(1, rate)) == "bad_rate"


@pytest.mark.parametrize("kind", ["AIFF", "AU", "W64", "CAF"])
def test_other_containers_are_refused(sound, kind):
    assert refusal(sound(1, kind=kind)) == "not_audio"


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not audio", b"\xff\xfb" * 50, b"fLaC" + b"\0" * 100, b"OggS" * 20])
def test_garbage_is_refused(content):
    assert refusal(content) == "not_audio"


def test_a_cut_off_flac_is_refused_or_shorter(sound):
    content = sound(2, kind="FLAC")
    for part in (0.1, 0.5, 0.9):
        cut = content[: int(len(content) * part)]
        made = decoded(cut)
        assert made.status == 422 if isinstance(made, ServiceError) else made.samples.size < 48_000


def patched(content: bytes, at: int, value: int, form: str = "<I") -> bytes:
    return content[:at] + struct.pack(form, value) + content[at + struct.calcsize(form) :]


@pytest.mark.parametrize("claimed", [0xFFFFFFFF, 0x7FFFFFFF, 10_000_000])
def test_a_header_that_claims_more_than_there_is_gives_what_there_is(sound, claimed):
    made = decode_audio(patched(sound(2), 40, claimed), LIMITS, "audio")
    assert made.samples.size == 48_000


@pytest.mark.parametrize(
    ("at", "value", "form", "codes"),
    [
        (40, 10, "<I", {"audio_too_short"}),  # data bytes
        (24, 1, "<I", {"bad_rate"}),  # rate
        (24, 0, "<I", {"not_audio", "bad_rate"}),
        (24, 0xFFFFFFFF, "<I", {"not_audio", "bad_rate"}),
        (22, 0, "<H", {"not_audio"}),  # channels
        (22, 65_535, "<H", {"not_audio", "bad_channels"}),
        (20, 0x1234, "<H", {"not_audio"}),  # encoding
    ],
)
def test_other_lies_of_a_wav_header_are_refused(sound, at, value, form, codes):
    assert refusal(patched(sound(2), at, value, form)) in codes


def refused_base64(text: str, most: int = 1000) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        decode_base64(text, most, "ref_audio_base64")
    return caught.value


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "data:audio/wav;base64,",
        "data:;base64,",
        "\n data:audio/ogg; codecs=opus;base64,",
        'DATA:a/b;c="d";BASE64 ,',
    ],
)
def test_base64_and_data_urls(prefix):
    assert decode_base64(prefix + base64.b64encode(b"sound").decode(), 1000, "audio") == b"sound"


def test_wrapped_base64():
    content = bytes(range(256))
    assert decode_base64(base64.encodebytes(content).decode(), 1000, "audio") == content


@pytest.mark.parametrize(
    "text",
    [
        *("http://127.0.0.1/a.wav", "https://host/a", "file:///etc/passwd", "ftp://host/a", "s3://bucket/key"),
        *("/etc/passwd.wav", "voice.wav", "./voice", "../../etc/passwd", "~/voice.mp3", "models/ref.flac"),
        *("C:\\voice.wav", "\\\\host\\share", "data:audio/wav,plain", "data:audio/wav;base64"),
        *("====", "a", "abc", "AAA=A", "é", "AAAA-AAAA_AA=="),
    ],
)
def test_paths_urls_and_garbage_are_refused(text, monkeypatch):
    def barred(*_args, **_kwargs):
        raise AssertionError("nothing may be opened")

    monkeypatch.setattr("builtins.open", barred)
    monkeypatch.setattr("socket.socket.connect", barred)
    error = refused_base64(text)
    assert error.status == 422
    assert error.code in {"not_audio", "not_base64"}
    assert "base64" in str(error.remedy)


def test_a_path_that_happens_to_be_base64_is_bytes_and_never_opened(sound, tmp_path):
    path = "/etc/passwd/"  # twelve characters of the base64 alphabet
    content = decode_base64(path, 1000, "audio")
    assert content == base64.b64decode(path)
    assert refusal(content) == "not_audio"


@pytest.mark.parametrize("text", ["", "  ", "data:audio/wav;base64,"])
def test_empty(text):
    assert refused_base64(text).code == "no_audio"


def test_size_is_checked_before_and_after_decoding():
    for size in (1001, 1002, 1003, 5000):
        error = refused_base64(base64.b64encode(b"x" * size).decode())
        assert (error.status, error.code) == (413, "audio_too_large")
    assert len(decode_base64(base64.b64encode(b"x" * 1000).decode(), 1000, "audio")) == 1000
    # Not base64 at all, but too large to be looked at.
    assert refused_base64("%" * 5000).status == 413


@settings(deadline=None)
@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda content: base64.b64encode(content).decode()))
def test_any_text_gives_sound_or_a_refusal(text):
    try:
        content = decode_base64(text, 1000, "audio")
    except ServiceError as error:
        status = error.status
    else:
        made = decoded(content)
        status = made.status if isinstance(made, ServiceError) else 200
    assert status in {200, 413, 422}


@settings(deadline=None, max_examples=300)
@given(data=st.data(), kind=st.sampled_from(["WAV", "FLAC", "OGG", "MP3"]))
def test_any_damage_gives_sound_or_a_refusal(sound, data, kind):
    content = bytearray(sound(1.2, 8_000, kind=kind))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(content) - 1, 200)) | st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content)) | st.just(len(content))) :]
    made = decoded(bytes(content))
    if isinstance(made, ServiceError):
        assert made.status == 422
        assert "0x" not in made.message  # no address of an object
    else:
        assert made.samples.ndim == 1
        assert np.isfinite(made.samples).all()
        assert 0 < np.abs(made.samples).max() <= 1
        assert 1 <= made.samples.size / made.rate <= 30


def test_output_is_clipped_and_not_wrapped(samples):
    read = samples(encode_wav(np.array([-2, -1, 0, 0.5, 2], np.float32)))
    np.testing.assert_allclose(read, [-1, -1, 0, 0.5, 1], atol=1e-4)
