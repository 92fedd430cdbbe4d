"""Samples out, in every format: streamed in parts of any size, and whole."""

from __future__ import annotations

import io
from typing import get_args

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import ServiceError
from serve.speech.audio import AudioLimits, decode_audio, to_int16
from serve.speech.encoders import MEDIA_TYPES, Format, encode, make_encoder
from serve.speech.ogg import trim_end

RATE = 24_000
FRAME = 1920  # one frame of the model: 80 ms
KINDS = get_args(Format)
LOSSLESS = ("wav", "flac", "pcm")
# Encoder and decoder delay of mp3 (576 + 529 samples) and the header's frame: silence before the sound of a stream.
MP3_LEAD = 576 + 529 + 576


def tone(samples: int) -> np.ndarray:
    """A voice-like tone: harmonics of a fundamental that glides, float32, shape (samples,)."""
    at = np.arange(samples) / RATE
    phase = 2 * np.pi * (150 * at + 10 * np.sin(3 * at))
    return sum(0.3 / k * np.sin(k * phase) for k in range(1, 5)).astype(np.float32)


def decode(kind: str, content: bytes) -> np.ndarray:
    """What a player hears: float32, shape (n,)."""
    if kind == "pcm":
        return np.frombuffer(content, "<i2").astype(np.float32) / np.float32(32768)

    class Forward(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    with Forward(io.BytesIO(content)) as file:
        assert (file.samplerate, file.channels) == (RATE, 1)
        return file.read(frames=60 * RATE, dtype="float32")


def stream(kind: Format, samples: np.ndarray, sizes: list[int]) -> bytes:
    """Written in parts of these sizes, over and over."""
    encoder, out, at, turn = make_encoder(kind), b"", 0, 0
    while at < samples.size:
        size = sizes[turn % len(sizes)] if turn < 50 else FRAME
        out += encoder.write(samples[at : at + size])
        at, turn = at + size, turn + 1
    return out + encoder.close()


def check(kind: str, content: bytes, samples: np.ndarray, lead: int = 0) -> None:
    decoded = decode(kind, content)
    if kind in LOSSLESS:
        np.testing.assert_array_equal(decoded, to_int16(samples) / np.float32(32768))
        return
    assert 0 <= decoded.size - lead - samples.size <= (2 * 576 if lead else 0)  # a stream of mp3 ends on its frame
    error = decoded[lead : lead + samples.size] - samples
    # -20 dB: LAME makes all 5 percent quieter, which alone is -26 dB.
    assert np.sqrt(np.mean(error**2)) < 0.1 * np.sqrt(np.mean(samples**2))


@settings(deadline=None, max_examples=12)
@given(
    length=st.integers(RATE // 2, 2 * RATE),
    sizes=st.lists(st.integers(0, 700) | st.sampled_from([FRAME, 20_000]), min_size=1, max_size=6),
)
@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_any_size_are_one_file(kind, length, sizes):
    samples = tone(length)
    check(kind, stream(kind, samples, sizes), samples, MP3_LEAD if kind == "mp3" else 0)


@settings(deadline=None, max_examples=5)
@given(length=st.integers(1, 2 * RATE))
@pytest.mark.parametrize("kind", ["wav", "flac", "pcm"])
def test_lossless_at_any_length(kind, length):
    samples = tone(length)
    check(kind, stream(kind, samples, [FRAME]), samples)
    check(kind, encode(kind, samples), samples)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_has_its_true_length(kind):
    samples = tone(50_001)
    content = encode(kind, samples)
    check(kind, content, samples)
    if kind != "pcm":
        assert soundfile.info(io.BytesIO(content)).frames == samples.size


@pytest.mark.parametrize("make", [encode, lambda kind, samples: stream(kind, samples, [FRAME])], ids=["whole", "parts"])
def test_opus_is_sound_to_its_last_sample(make):
    """Whatever part of a packet of 480 samples the end fills: those that libsndfile alone garbles are among them."""
    last = 192  # 8 ms
    for length in {*range(1, 480, 23), 84, 85, 323, 324, 325, 479, 480}:
        samples = tone(RATE // 2 + length)
        decoded = decode("opus", make("opus", samples))
        assert decoded.size == samples.size
        error = (decoded - samples)[-last:]
        assert np.sqrt(np.mean(error**2)) < 0.2 * np.sqrt(np.mean(samples[-last:] ** 2))


@pytest.mark.parametrize("length", [0, 1, 323, 324, 325, 480, 500])
def test_the_shortest_opus_has_its_length(length):
    assert decode("opus", encode("opus", tone(length))).size == length


def test_what_is_no_page_of_ogg_is_not_trimmed():
    content = encode("opus", tone(500))
    for broken in (content[:-1] + b"x" + content[-1:], content[1:], content + b"OggX" * 10):
        with pytest.raises(ValueError, match="no page of Ogg begins at byte"):
            trim_end(broken, 1)


@pytest.mark.parametrize(("kind", "held_ms"), [("pcm", 0), ("wav", 0), ("flac", 48), ("mp3", 127), ("opus", 87)])
def test_little_is_held_back(kind, held_ms):
    samples = tone(2 * RATE)
    encoder, out, most = make_encoder(kind), b"", 0.0
    for at in range(0, samples.size, FRAME):
        new = encoder.write(samples[at : at + FRAME])
        assert new, "nothing left after a frame"
        out += new
        written = min(at + FRAME, samples.size)
        heard = decode(kind, out).size - (MP3_LEAD if kind == "mp3" else 0)
        most = max(most, (written - heard) / RATE * 1000)
        if at >= FRAME or kind != "mp3":
            assert heard > 0
    assert held_ms - 5 <= most <= held_ms  # the docstring's numbers are neither too small nor out of date


@pytest.mark.parametrize("kind", KINDS)
def test_writes_of_nothing_change_nothing(kind):
    samples, none = tone(RATE), np.zeros(0, np.float32)
    encoder = make_encoder(kind)
    content = encoder.write(none) + encoder.write(samples) + encoder.write(none) + encoder.write(none) + encoder.close()
    check(kind, content, samples, MP3_LEAD if kind == "mp3" else 0)


def test_a_stream_of_nothing_is_a_wav_of_nothing():
    encoder = make_encoder("wav")
    assert decode("wav", encoder.write(np.zeros(0, np.float32)) + encoder.close()).size == 0
    assert decode("wav", make_encoder("wav").close()).size == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_too_loud_is_clipped_and_not_wrapped(kind):
    samples = np.repeat(np.array([2, -2] * 40, np.float32), 200)
    decoded = decode(kind, stream(kind, samples, [FRAME]))
    lead = MP3_LEAD if kind == "mp3" else 0
    # Within each half wave the sign is right; ringing at the edges is the lossy formats' own.
    middle = decoded[lead + 100 : lead + samples.size : 200]
    assert np.array_equal(np.sign(middle), np.sign(samples[100::200]))
    assert kind not in LOSSLESS or np.abs(decoded).min() > 0.99


@pytest.mark.parametrize("kind", ["wav", "flac", "opus", "mp3"])
def test_what_a_stream_gave_is_accepted_as_a_reference(kind):
    samples = tone(2 * RATE)
    sound = decode_audio(stream(kind, samples, [FRAME]), AudioLimits(10**6, 1, 30), "ref_audio")
    assert sound.rate == RATE
    assert abs(sound.samples.size - samples.size) <= MP3_LEAD + 2 * 576


def test_a_streamed_flac_of_hours_is_refused_all_the_same():
    content = stream("flac", np.zeros(40 * RATE, np.float32) + np.float32(0.1), [RATE])
    with pytest.raises(ServiceError) as caught:
        decode_audio(content, AudioLimits(10**7, 1, 30), "ref_audio")
    assert caught.value.code == "audio_too_long"


def test_sixteen_bits_stay_the_same_bits():
    values = np.arange(-32768, 32768, dtype=np.int16)
    np.testing.assert_array_equal(to_int16(values.astype(np.float32) / np.float32(32768)), values)


def test_each_format_has_a_media_type():
    assert set(MEDIA_TYPES) == set(KINDS)
