"""WAV files with the standard library alone: a reference voice to send, and checks of what comes back."""

from __future__ import annotations

import array
import io
import math
import sys
import wave
from dataclasses import dataclass

RATE = 24_000  # Hz
_FULL = 32_767
_SILENT_RMS = 1e-3  # of full scale: -60 dB
_CLIPPED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Sound:
    """What a WAV file holds; ``rms`` and ``peak`` as shares of full scale."""

    rate: int
    channels: int
    bits: int
    seconds: float
    rms: float
    peak: float
    clipped: float

    def faults(self, least: float, most: float) -> list[str]:
        """What is wrong with it as an answer of the service; ``least`` and ``most`` in seconds."""
        checks = {
            f"rate {self.rate} Hz, not {RATE}": self.rate != RATE,
            f"{self.channels} channels, not 1": self.channels != 1,
            f"{self.bits} bits, not 16": self.bits != 16,  # noqa: PLR2004
            f"silent: RMS {self.rms:.5f} of full scale": self.rms < _SILENT_RMS,
            f"{self.clipped:.0%} of the samples are at full scale": self.clipped > _CLIPPED_SHARE,
            f"{self.seconds:.2f} s long, not {least:g} to {most:g}": not least <= self.seconds <= most,
        }
        return [text for text, wrong in checks.items() if wrong]


def reference_voice(seconds: float = 2.0) -> bytes:
    """A WAV file with a vowel-like tone (harmonics of a gliding 140 Hz): mono, 16 bit, 24 kHz."""
    samples = array.array("h")
    phase = 0.0
    for index in range(int(seconds * RATE)):
        moment = index / RATE
        phase += 2 * math.pi * (140 + 15 * math.sin(2 * math.pi * 3 * moment)) / RATE
        tone = sum(math.sin(phase * harmonic) / harmonic for harmonic in range(1, 12))
        envelope = min(1.0, moment * 20, (seconds - moment) * 20) * (0.7 + 0.3 * math.sin(2 * math.pi * 2 * moment))
        samples.append(int(0.15 * _FULL * tone * envelope))
    return write_wav(samples)


def write_wav(samples: array.array[int]) -> bytes:
    """16-bit samples as a mono WAV file of 24 kHz."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(_little_endian(samples).tobytes())
    return data.getvalue()


def read_wav(content: bytes) -> Sound:
    """Measure a WAV file.

    Raises:
        ValueError: it is not a PCM WAV file.
    """
    try:
        with wave.open(io.BytesIO(content), "rb") as file:
            rate, channels, bits = file.getframerate(), file.getnchannels(), 8 * file.getsampwidth()
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"not a PCM WAV file: {error}") from error
    samples = _little_endian(array.array("h", frames[: len(frames) // 2 * 2])) if bits == 16 else array.array("h")  # noqa: PLR2004
    count = len(samples) or 1
    return Sound(
        rate=rate,
        channels=channels,
        bits=bits,
        seconds=len(frames) / (rate * channels * bits / 8),
        rms=math.sqrt(sum(value * value for value in samples) / count) / _FULL,
        peak=max((abs(value) for value in samples), default=0) / _FULL,
        clipped=sum(abs(value) >= _FULL for value in samples) / count,
    )


def _little_endian(samples: array.array[int]) -> array.array[int]:
    if sys.byteorder == "big":
        samples = samples[:]
        samples.byteswap()
    return samples
