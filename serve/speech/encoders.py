"""Samples out: each format as a stream, of which every part leaves as soon as it is made."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import numpy as np

from serve.speech.audio import OUTPUT_RATE, Samples

Format = Literal["wav", "mp3", "opus", "flac", "pcm"]
MEDIA_TYPES: Mapping[Format, str] = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "pcm": f"audio/pcm;rate={OUTPUT_RATE};channels=1;format=s16le",
}


class Encoder(Protocol):
    """Takes samples at 24 kHz, gives bytes; what all calls gave, joined, is one file."""

    def write(self, samples: Samples) -> bytes:
        """The bytes that are ready after these samples (finite, in [-1, 1]); may be none."""

    def close(self) -> bytes:
        """The last bytes."""


def make_encoder(kind: Format) -> Encoder:
    """An encoder for one stream."""
    return _ENCODERS[kind]()


class _Pcm:
    """Raw samples: 16 bit, little-endian, mono, 24 kHz."""

    def write(self, samples: Samples) -> bytes:
        return (np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes()

    def close(self) -> bytes:
        return b""


class _Wav(_Pcm):
    """A WAV whose length nobody knows yet: the header says the most, as ffmpeg and OpenAI's service do."""

    def __init__(self) -> None:
        self._head = struct.pack(
            "<4sI4s4sIHHIIHH4sI", b"RIFF", 0xFFFFFFFF, b"WAVE", b"fmt ", 16, 1, 1,
            OUTPUT_RATE, 2 * OUTPUT_RATE, 2, 16, b"data", 0xFFFFFFFF,
        )  # fmt: skip

    def write(self, samples: Samples) -> bytes:
        head, self._head = self._head, b""
        return head + super().write(samples)


_ENCODERS: Mapping[Format, Callable[[], Encoder]] = {"pcm": _Pcm, "wav": _Wav}
