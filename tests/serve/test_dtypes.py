"""Dtypes by compute capability."""

from __future__ import annotations

import pytest

from serve.engines.dtypes import decide_dtypes
from serve.errors import HostError

F32, T4 = ("float32",) * 4, ("float16", "float32", "float32", "float32")
BF16 = ("bfloat16", "bfloat16", "float32", "bfloat16")


@pytest.mark.parametrize(
    ("choice", "gpus", "parts"),
    [
        ("auto", [], F32),
        ("auto", [(7, 0)], T4),
        ("auto", [(7, 5)], T4),
        ("auto", [(8, 0)], BF16),
        ("auto", [(8, 6)], BF16),
        ("auto", [(10, 0)], BF16),
        ("auto", [(9, 0), (7, 5)], T4),
        ("float32", [], F32),
        ("float32", [(9, 0)], F32),
        ("bfloat16", [], BF16),
        ("bfloat16", [(8, 0)], BF16),
        ("float16", [], T4),
        ("float16", [(9, 0)], T4),
    ],
)
def test_parts(choice, gpus, parts):
    made = decide_dtypes(choice, gpus)
    assert (made.talker, made.code_predictor, made.codec, made.speaker_encoder) == parts
    assert made.uniform is (parts is not T4)
    assert made.because
    assert (f"WW_DTYPE={choice}" in made.because) is (choice != "auto")


@pytest.mark.parametrize("gpus", [[(7, 5)], [(9, 0), (7, 5)]])
def test_bfloat16_cannot_be_forced_on_turing(gpus):
    with pytest.raises(HostError, match=r"WW_DTYPE=bfloat16 cannot run here.*7\.5"):
        decide_dtypes("bfloat16", gpus)
