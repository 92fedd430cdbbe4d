"""Reference audio in, WAV out. Audio is decoded here, and only from memory (``serve.speech.uploads``: how it came).

qwen-tts opens any path or URL that it is given and mistakes raw base64 for a path, does not scale int16 and fails on
stereo (DESIGN.md fact 23), so it never sees anything but samples.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from serve.errors import ServiceError, invalid, one_line
from serve.pool import hold, holding_for

Samples = NDArray[np.float32]
"""Mono sound: float32, shape (n,), in [-1, 1]."""

OUTPUT_RATE = 24_000
# What libsndfile says of a flac that was streamed: its header tells no length. The decoded samples are counted anyway.
UNKNOWN_FRAMES = 2**63 - 1
FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
MAX_CHANNELS = 2
RATES = (8_000, 192_000)
# The model hears 24 kHz; more is not kept, because a flac of 80 kB can hold 30 s at 192 kHz, which are 23 MB.
MOST_KEPT = 48_000
# Of a sample as it is kept; while it is resampled there are its result, and that once more while it is clipped.
KEPT_BYTES, RESAMPLED_COPIES = 4, 1
# Samples that are decoded at once: a third of a second of the highest rate.
PART = 65_536
# -80 dB below full scale: a recording of a voice is far above it, dither and an unplugged microphone below.
SILENCE = 1e-4
# Recognized only to give a better answer: neither is ever opened.
LOCATION = re.compile(
    r"\s*(?:[a-z][a-z0-9+.-]*://|file:|~|\.{1,2}/|[a-z]:\\|/?(?:[\w.-]+/)*[\w-]+\.[a-z0-9]{2,4}\s*$)", re.IGNORECASE
)
LONGEST_LOCATION = 4096
DATA_URL = re.compile(r"\s*data:[^,]{0,255};base64\s*,", re.IGNORECASE)
ACCEPTED = "send the bytes of a wav, flac, ogg or mp3 file as base64, or as a data: URL with ;base64"


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """What a reference may be: most bytes after base64, and its length in seconds."""

    max_bytes: int
    min_s: float
    max_s: float


@dataclass(frozen=True, slots=True)
class Sound:
    """Decoded audio.

    Args:
        samples: float32, shape (n,), in [-1, 1].
        rate: samples per second, Hz; at most ``MOST_KEPT``.
        digest: sha256 of the encoded bytes, to recognize the same reference again.
    """

    samples: Samples
    rate: int
    digest: str


class _Forward(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file that is read from its start to its end.

    After each read soundfile seeks to where it is, and libFLAC cannot do so in a flac that was streamed.
    """

    def seekable(self) -> bool:
        return False


def decode_base64(text: str, max_bytes: int, field: str) -> bytes:
    """The bytes behind base64 text or a ``data:`` URL, limited before they are decoded.

    The standard alphabet, padded; ASCII blanks are passed over.

    Raises:
        ServiceError: 413 too large; 422 empty, a path or URL, or not base64.
    """
    prefix = DATA_URL.match(text)
    if prefix is None and LOCATION.match(text[:LONGEST_LOCATION]):
        message = "holds a path or a URL, and the service opens neither"
        raise invalid("not_audio", f"{field} {message}", field, ACCEPTED)
    try:
        # As bytes: what str.split makes of a text with many blanks is fifty times its size.
        payload = text[prefix.end() if prefix else 0 :].encode("ascii")
        payload = payload.translate(None, b" \t\r\n\f\v")
        size = len(payload) * 3 // 4
        if size > max_bytes + 2:  # base64 pads by up to two bytes
            raise too_large(size, max_bytes, field)
        content = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("not_base64", f"{field} is not base64: {error}", field, ACCEPTED) from error
    if not content:
        raise invalid("no_audio", f"{field} is empty", field, ACCEPTED)
    if len(content) > max_bytes:
        raise too_large(len(content), max_bytes, field)
    return content


def decode_audio(content: bytes, limits: AudioLimits, field: str) -> Sound:
    """Decode a wav, flac, ogg or mp3 file from memory to mono.

    What the header says about length is checked first (a short flac can hold hours), and never trusted: at most one
    sample more than the limit is decoded.

    Raises:
        ServiceError: 422 not audio, more than two channels, an odd rate, too short, too long, silent or not finite.
    """
    try:
        with _Forward(io.BytesIO(content)) as file:
            _check_header(file, limits, field)
            rate: int = file.samplerate
            most = min(int(limits.max_s * rate) + 1, file.frames)
        # Mono, and once more while it is resampled; what is kept stays held until the request is over.
        hold(KEPT_BYTES * most)
        with holding_for(RESAMPLED_COPIES * KEPT_BYTES * most if rate > MOST_KEPT else 0):
            samples = _to_mono(content, most, rate, limits, field)
            if rate > MOST_KEPT:
                samples, rate = np.clip(soxr.resample(samples, rate, MOST_KEPT), -1, 1), MOST_KEPT
    except (soundfile.SoundFileError, RuntimeError, OverflowError, MemoryError) as error:
        # libsndfile's own words; str() adds the object that it read from, with its address in memory.
        reason = one_line(getattr(error, "error_string", error))
        message = f"{field} is not audio that can be decoded: {reason}"
        raise invalid("not_audio", message, field, ACCEPTED) from error
    return Sound(samples, rate, hashlib.sha256(content).hexdigest())


def _to_mono(content: bytes, most: int, rate: int, limits: AudioLimits, field: str) -> Samples:
    """At most ``most`` samples, decoded part by part: all channels of all of it at once would be eight times that."""
    level = _Level()
    samples = np.empty(most, np.float32)
    filled = 0
    for mono in _parts(content, most):
        level.hear(mono)
        samples[filled : filled + mono.size] = mono
        filled += mono.size
    _check_length(filled / rate, limits, field)
    level.check(filled, field)
    if level.peak > 1:  # float files may exceed full scale; divided before it is rounded, so it is decoded again
        filled = 0
        for mono in _parts(content, most):
            samples[filled : filled + mono.size] = mono / level.peak
            filled += mono.size
    return samples[:filled]


def bad_audio(what: str) -> ServiceError:
    """The error for what is no speech and must not get a 200: ``silence``, ``non-finite samples``, ``no samples``."""
    return ServiceError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "bad_audio",
        f"the model made {what}",
        remedy="try again, with another seed if one was given; if it stays, set WW_DTYPE=float32",
    )


def encode_wav(samples: Samples) -> bytes:
    """A WAV file, 24 kHz mono 16-bit.

    Args:
        samples: float32, shape (n,), finite, in [-1, 1], at 24 kHz.
    """
    buffer = io.BytesIO()
    soundfile.write(buffer, to_int16(samples), OUTPUT_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def to_int16(samples: Samples) -> NDArray[np.int16]:
    """Samples as every lossless answer holds them: little-endian, what is beyond [-1, 1] clipped.

    By 32768, as decoders divide: what was 16 bits before stays the same bits.
    """
    scaled: NDArray[np.int16] = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767).astype("<i2")
    return scaled


def _check_header(file: soundfile.SoundFile, limits: AudioLimits, field: str) -> None:
    if file.format not in FORMATS:
        raise invalid("not_audio", f"{field} is {file.format}, which is not accepted", field, ACCEPTED)
    if file.channels > MAX_CHANNELS:
        message = f"{field} has {file.channels} channels; mono and stereo are accepted"
        raise invalid("bad_channels", message, field, "mix it down to mono")
    if not RATES[0] <= file.samplerate <= RATES[1]:
        message = f"{field} has {file.samplerate} samples a second; {RATES[0]} to {RATES[1]} are accepted"
        raise invalid("bad_rate", message, field, "resample it to 24000 Hz")
    if file.frames != UNKNOWN_FRAMES:
        _check_longest(file.frames / file.samplerate, limits, field)


def _check_length(seconds: float, limits: AudioLimits, field: str) -> None:
    _check_longest(seconds, limits, field)
    if seconds < limits.min_s:
        message = f"{field} holds {seconds:.2f} s of audio; at least {limits.min_s:g} s are needed"
        raise invalid("audio_too_short", message, field, "send 3 to 10 seconds of clear speech")


def _check_longest(seconds: float, limits: AudioLimits, field: str) -> None:
    if seconds > limits.max_s:
        message = f"{field} holds more than {limits.max_s:g} s of audio"
        raise invalid("audio_too_long", message, field, "send 3 to 10 seconds of clear speech")


def _parts(content: bytes, most: int) -> Iterator[NDArray[np.float64]]:
    """The audio in mono, in parts, from its start."""
    with _Forward(io.BytesIO(content)) as file:
        while most > 0:
            data = file.read(frames=min(most, PART), dtype="float32", always_2d=True)
            if not len(data):
                return
            most -= len(data)
            # Two float32 samples near the type's limit overflow when added; float64 holds the sum.
            yield data.mean(axis=1, dtype=np.float64)


class _Level:
    """How loud audio is, heard part by part."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._finite = True
        self._sum = self._squares = 0.0

    def hear(self, mono: NDArray[np.float64]) -> None:
        """Take the next part."""
        self._finite = self._finite and bool(np.isfinite(mono).all())
        if self._finite:
            self.peak = max(self.peak, float(np.abs(mono).max(initial=0)))
            self._sum += float(mono.sum())
            self._squares += float(np.square(mono).sum())

    def check(self, size: int, field: str) -> None:
        """Raise the 422 for samples that are silent or not finite."""
        if not self._finite:
            remedy = "export it again, as 16-bit PCM"
            raise invalid("not_finite", f"{field} holds samples that are not finite numbers", field, remedy)
        mean = self._sum / size
        # Not the mean square alone: a constant is no sound either.
        spread = math.sqrt(max(0.0, self._squares / size - mean**2)) / max(1.0, self.peak)
        if spread < SILENCE:
            raise invalid("silent_audio", f"{field} is silent", field, "record it again; check the microphone")


def too_large(size: int, max_bytes: int, field: str) -> ServiceError:
    """The 413 for reference audio."""
    return ServiceError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "audio_too_large",
        f"{field} is {size} bytes of audio; at most {max_bytes} are accepted",
        field=field,
        remedy="send 3 to 10 seconds of speech, as flac, ogg or mp3; or raise WW_MAX_AUDIO_MIB",
    )
