"""The three things that qwen-tts asks of librosa, without its 400 MB: ``load``, ``resample`` and ``mel``.

Names and arguments are librosa's, as far as qwen-tts gives them (its defaults otherwise), and so are the numbers:
tests/serve/test_dsp.py compares every bit of them with librosa 0.11 and 1.0.
"""

from __future__ import annotations

import math
from os import PathLike
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

# Slaney's mel scale (Auditory Toolbox, 1998): linear to 1 kHz, 3 mels each 200 Hz; above, 27 mels each factor 6.4.
_HZ_PER_MEL = 200.0 / 3
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _HZ_PER_MEL
_LOG_PER_MEL = np.log(6.4) / 27.0


def load(
    path: str | PathLike[str] | BinaryIO, *, sr: float | None = 22050, mono: bool = True
) -> tuple[NDArray[np.floating[Any]], float]:
    """Decode a file with libsndfile.

    Args:
        sr: the rate to resample to, Hz; None keeps the file's.
        mono: average the channels.

    Returns:
        float32 samples, shape (n,), or (channels, n) of a file of several channels unless ``mono``; and their rate, Hz.

    Raises:
        soundfile.LibsndfileError: not a file that libsndfile can decode.
        ValueError: samples are not finite.
    """
    data, rate = soundfile.read(path, dtype="float32")
    samples = data.T
    if mono:
        _check(samples)
        samples = samples.mean(axis=tuple(range(samples.ndim - 1)))
    if sr is None:
        return samples, rate
    return resample(samples, orig_sr=rate, target_sr=sr), sr


def resample(y: NDArray[np.floating[Any]], *, orig_sr: float, target_sr: float) -> NDArray[np.floating[Any]]:
    """Change the rate of ``y``, shape (..., n), from ``orig_sr`` to ``target_sr`` (Hz) with libsoxr, high quality.

    Returns:
        The same type, shape (..., ceil(n * target_sr / orig_sr)): cut or filled with zeros where soxr rounds otherwise.

    Raises:
        ValueError: ``y`` is no array of floating-point numbers, or holds some that are not finite.
    """
    _check(y)
    if orig_sr == target_sr:
        return y
    length = math.ceil(y.shape[-1] * (float(target_sr) / orig_sr))
    made = np.apply_along_axis(soxr.resample, -1, y, orig_sr, target_sr, quality="HQ")[..., :length]
    missing = length - made.shape[-1]
    return np.pad(made, [(0, 0)] * (y.ndim - 1) + [(0, missing)]) if missing else made


def mel(
    *, sr: float, n_fft: int, n_mels: int = 128, fmin: float = 0.0, fmax: float | None = None
) -> NDArray[np.float32]:
    """Triangular filters, evenly spaced in mels from ``fmin`` to ``fmax`` (Hz; None: ``sr / 2``), each of area 1.

    Returns:
        Weights of the bins of an FFT of ``n_fft`` points at ``sr`` Hz: float32, shape (n_mels, 1 + n_fft // 2).
    """
    edges = _hz(np.linspace(_mel(fmin), _mel(sr / 2 if fmax is None else fmax), n_mels + 2))
    bins = np.fft.rfftfreq(n_fft, 1.0 / sr)
    low, centre, high = edges[:-2, np.newaxis], edges[1:-1, np.newaxis], edges[2:, np.newaxis]
    rising = -(low - bins) / (centre - low)
    falling = (high - bins) / (high - centre)
    weights = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    weights *= 2.0 / (high - low)  # on the float32, as librosa does: rounded twice, to the same bits
    return weights


def _mel(hz: float) -> float:
    return hz / _HZ_PER_MEL if hz < _KNEE_HZ else _KNEE_MEL + np.log(hz / _KNEE_HZ) / _LOG_PER_MEL


def _hz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    curved = _KNEE_HZ * np.exp(_LOG_PER_MEL * (mels - _KNEE_MEL))
    return np.where(mels < _KNEE_MEL, _HZ_PER_MEL * mels, curved)


def _check(samples: NDArray[Any]) -> None:
    if not np.issubdtype(samples.dtype, np.floating) or samples.ndim == 0 or not np.isfinite(samples).all():
        raise ValueError("audio must be an array of finite floating-point numbers")
