"""`serve.engines.dsp` against librosa: the same types, the same shapes, every bit the same."""

from __future__ import annotations

import io
import itertools
import warnings

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from serve.engines import dsp

# A part of the `test` extra. On CI a skipped test is a failure (tests/conftest.py).
librosa = pytest.importorskip("librosa", reason="the real librosa is not installed: pip install -e .[test]")
# librosa 0.11's audioread imports modules that Python 3.13 drops.
pytestmark = pytest.mark.filterwarnings("ignore:'(aifc|audioop|sunau)' is deprecated:DeprecationWarning")

RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)
SHAPES = ((1,), (2,), (7,), (160,), (4_801,), (24_000,), (2, 333), (2, 3, 50))


def assert_same(ours: np.ndarray, real: np.ndarray) -> None:
    assert (ours.dtype, ours.shape) == (real.dtype, real.shape)
    assert ours.tobytes() == real.tobytes()


def noise(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(dtype)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_resample(rate, dtype):
    for target, shape in itertools.product(RATES, SHAPES):
        y = noise(shape, dtype)
        ours = dsp.resample(y, orig_sr=rate, target_sr=target)
        assert_same(ours, librosa.resample(y, orig_sr=rate, target_sr=target))


@settings(max_examples=150, deadline=None)
@given(
    arrays(np.float32, st.integers(1, 3_000), elements=st.floats(-1, 1, width=32)),
    st.integers(8_000, 192_000),
    st.integers(8_000, 192_000),
)
def test_resample_from_any_rate_to_any(y, rate, target):
    ours = dsp.resample(y, orig_sr=rate, target_sr=target)
    assert_same(ours, librosa.resample(y, orig_sr=rate, target_sr=target))


def test_resample_to_the_same_rate_is_the_same_array():
    y = noise((9,), np.float32)
    assert dsp.resample(y, orig_sr=24_000, target_sr=24_000) is y


@pytest.mark.parametrize("y", [np.zeros(9, np.int16), np.float32(1), np.array([0, np.nan]), np.array([np.inf])])
def test_what_is_no_audio_is_refused_as_there(y):
    with pytest.raises(ValueError, match="finite floating-point numbers"):
        dsp.resample(y, orig_sr=8_000, target_sr=16_000)
    with pytest.raises(librosa.ParameterError):
        librosa.resample(y, orig_sr=8_000, target_sr=16_000)


def mels(**options: float | None) -> tuple[np.ndarray, np.ndarray]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Empty filters")  # librosa's, of odd choices; we keep quiet
        return dsp.mel(**options), librosa.filters.mel(**options)


# What qwen-tts asks for: the speaker encoder, the 25 Hz tokenizer's speech features, whisper's two.
@pytest.mark.parametrize(
    "options",
    [
        {"sr": 24_000, "n_fft": 1024, "n_mels": 128, "fmin": 0, "fmax": 12_000},
        {"sr": 16_000, "n_fft": 1024, "n_mels": 80, "fmin": 0, "fmax": 8_000},
        {"sr": 16_000, "n_fft": 400, "n_mels": 80},
        {"sr": 16_000, "n_fft": 400, "n_mels": 128},
    ],
)
def test_the_filters_of_qwen_tts(options):
    assert_same(*mels(**options))


@pytest.mark.parametrize("rate", RATES)
def test_mel(rate):
    for n_fft, n_mels, fmin, fmax in itertools.product(
        (400, 511, 512, 1024, 2048), (1, 40, 80, 128, 256), (0, 20, 50.5, 1_000, 1_200), (None, 3_999.5, 12_000)
    ):
        assert_same(*mels(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(8_000, 192_000),
    st.integers(2, 4_096),
    st.integers(1, 256),
    st.floats(0, 3_000),
    st.none() | st.floats(3_001, 96_000),
)
def test_mel_of_anything(sr, n_fft, n_mels, fmin, fmax):
    assert_same(*mels(sr=sr, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_load(rate, channels, tmp_path):
    for kind, subtype in (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_24")):
        file = tmp_path / f"{subtype}.{kind.lower()}"
        soundfile.write(file, noise((2_000, channels), np.float32), rate, format=kind, subtype=subtype)
        for sr, mono in itertools.product((None, 22_050, 24_000), (True, False)):
            (ours, our_rate), (real, real_rate) = (f(file, sr=sr, mono=mono) for f in (dsp.load, librosa.load))
            assert_same(ours, real)
            assert our_rate == real_rate
    assert_same(dsp.load(str(file))[0], librosa.load(str(file))[0])
    assert_same(dsp.load(io.BytesIO(file.read_bytes()))[0], librosa.load(file)[0])


def test_what_is_no_file_of_audio_is_refused(tmp_path):
    file = tmp_path / "a.wav"
    file.write_bytes(b"RIFF")
    with pytest.raises(soundfile.LibsndfileError):
        dsp.load(file)
    soundfile.write(file, np.array([0, np.nan], np.float32), 8_000, subtype="FLOAT")
    with pytest.raises(ValueError, match="finite"):
        dsp.load(file)
