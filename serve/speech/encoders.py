"""Samples out: each format as a stream, of which every part leaves as soon as it is made, and as a whole file.

How much sound an encoder holds back at most, with one 80 ms frame of the model a write (measured; a test keeps it so):

| format | held back | what comes out |
|---|---|---|
| pcm, wav | 0 ms | the same samples |
| flac | 48 ms | the same samples; 48 ms are one block |
| mp3 | 127 ms | 80 kbit/s; a stream begins with 70 ms of silence, of which a whole file's header tells the decoder |
| opus | 87 ms | about 37 kbit/s; 20 ms a packet, 60 ms a page; exactly as many samples as went in |

All but mp3 give bytes after the first 80 ms that decode to sound; mp3 after 160 ms.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import numpy as np
import soundfile

from serve.speech.audio import OUTPUT_RATE, Samples, encode_wav, to_int16
from serve.speech.ogg import renumber, trim_end

Format = Literal["wav", "mp3", "opus", "flac", "pcm"]
MEDIA_TYPES: Mapping[Format, str] = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "pcm": f"audio/pcm;rate={OUTPUT_RATE};channels=1;format=s16le",
}
# What soundfile is asked for. mp3: constant, because a decoder guesses the length of a stream from its bit rate.
# flac: levels 0 to 2 have blocks of 1152 samples, the others of 4096, which are 171 ms, and win 2 percent.
_MP3: Mapping[str, Any] = {
    "format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT", "compression_level": 0.5,
}  # fmt: skip
_OPUS: Mapping[str, Any] = {"format": "OGG", "subtype": "OPUS"}
_FLAC: Mapping[str, Any] = {"format": "FLAC", "subtype": "PCM_16", "compression_level": 0.0}
# libsndfile's SFC_SET_OGG_PAGE_LATENCY_MS, which soundfile has no name for.
_SET_PAGE_LATENCY = 0x1302
_PAGE_MS, _WHOLE_PAGE_MS = 50.0, 1000.0
# Samples of one packet of opus, and how much later than it went in a sample comes out of libopus.
_PACKET, _LOOK_AHEAD = 480, 156
_GRANULES = 48_000 // OUTPUT_RATE
# What a stream of opus is numbered by: the model's first frame, which is the least that is written at once.
_BEGINNING = 1920


class Encoder(Protocol):
    """Takes samples at 24 kHz, gives bytes; what all calls gave, joined, is one file."""

    def write(self, samples: Samples) -> bytes:
        """The bytes that are ready after these samples (finite, in [-1, 1]); may be none."""

    def close(self) -> bytes:
        """The last bytes; nothing may be written after it."""


def make_encoder(kind: Format) -> Encoder:
    """An encoder for one stream. One that is dropped before its end leaves nothing open."""
    return _ENCODERS[kind]()


def encode(kind: Format, samples: Samples) -> bytes:
    """A whole file, whose header tells its true length.

    Args:
        kind: the format.
        samples: float32, shape (n,), finite, in [-1, 1], at 24 kHz.
    """
    if kind == "pcm":
        return _Pcm().write(samples)
    if kind == "wav":
        return encode_wav(samples)
    if kind == "opus":
        encoder = _Opus(_WHOLE_PAGE_MS)
        return encoder.write(samples) + encoder.close()
    buffer = io.BytesIO()
    soundfile.write(buffer, to_int16(samples), OUTPUT_RATE, **_OPTIONS[kind])
    return buffer.getvalue()


class _Pcm:
    """Raw samples: 16 bit, little-endian, mono, 24 kHz."""

    def write(self, samples: Samples) -> bytes:
        return to_int16(samples).tobytes()

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

    def close(self) -> bytes:
        head, self._head = self._head, b""
        return head


class _Outbox:
    """A file for libsndfile to write, whose bytes leave as they come.

    At the end, flac and mp3 go back to put the length into their headers. Those have left, so what is written there is
    dropped: both formats define the header without it (flac: an unknown number of samples; mp3: a frame of silence).
    """

    def __init__(self) -> None:
        self._left = 0
        self._waiting = bytearray()
        self._at = 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._left + len(self._waiting)}[whence]
        self._at = start + offset
        return self._at

    def read(self, _size: int = -1) -> bytes:
        return b""

    def write(self, content: bytes) -> int:
        data = bytes(content)
        late = max(self._left - self._at, 0)
        at = max(self._at - self._left, 0)
        self._waiting[at : at + len(data[late:])] = data[late:]
        self._at += len(data)
        return len(data)

    def take(self) -> bytes:
        """What is ready; a second call does not give it again."""
        ready = bytes(self._waiting)
        self._left += len(ready)
        self._waiting.clear()
        return ready


class _Sndfile:
    """A format that libsndfile writes."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._outbox = _Outbox()
        self._file: soundfile.SoundFile = soundfile.SoundFile(self._outbox, "w", OUTPUT_RATE, 1, **options)

    def write(self, samples: Samples) -> bytes:
        self._file.write(to_int16(samples))
        return self._outbox.take()

    def close(self) -> bytes:
        self._file.close()
        return self._outbox.take()


class _Opus(_Sndfile):
    """Opus, with an end that libsndfile cannot make.

    To flush the encoder, libsndfile (1.2.2, `ogg_opus_flush`) shortens the last packet to what is left, and encodes the
    last samples a second time where one packet is not enough. libopus garbles up to 8 ms of sound at such a change of
    length. So silence is added until what is left is one whole packet, look-ahead included, and cut off again by the
    position of the last page.

    libsndfile draws the stream's serial number at random, so the same sound would never be the same bytes twice: here
    it is a digest of the sound's beginning, which also tells the streams apart that somebody joins to a chain.
    """

    def __init__(self, page_ms: float) -> None:
        super().__init__(_OPUS)
        self._written = 0
        self._serial: int | None = None
        latency = soundfile._ffi.new("double *", page_ms)  # noqa: SLF001 - soundfile passes no commands on
        size = soundfile._ffi.sizeof("double")  # noqa: SLF001
        soundfile._snd.sf_command(self._file._file, _SET_PAGE_LATENCY, latency, size)  # noqa: SLF001

    def write(self, samples: Samples) -> bytes:
        if self._serial is None:
            self._serial = zlib.crc32(to_int16(samples[:_BEGINNING]).tobytes())
        self._written += samples.size
        return renumber(super().write(samples), self._serial)

    def close(self) -> bytes:
        surplus = (_PACKET - _LOOK_AHEAD - self._written) % _PACKET
        self._file.write(np.zeros(surplus, np.int16))
        return renumber(trim_end(super().close(), surplus * _GRANULES), self._serial or 0)


_OPTIONS: Mapping[Format, Mapping[str, Any]] = {"mp3": _MP3, "flac": _FLAC}
_ENCODERS: Mapping[Format, Callable[[], Encoder]] = {
    "pcm": _Pcm,
    "wav": _Wav,
    "mp3": lambda: _Sndfile(_MP3),
    "opus": lambda: _Opus(_PAGE_MS),
    "flac": lambda: _Sndfile(_FLAC),
}
