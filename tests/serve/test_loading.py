"""Weights are mapped into memory from the checkpoint, and not read into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.engines.attention import Decision
from serve.engines.dtypes import decide_dtypes
from serve.engines.engine import LoadPlan
from serve.engines.probe import Device
from serve.engines.qwen import QwenEngine

CPU = Device("cpu", "CPU", (), "a test")


def mapped(folder: Path) -> list[range]:
    """The addresses where this process has files of the folder mapped."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]
    return [range(*(int(address, 16) for address in line[0].split("-"))) for line in lines]


def inside(module, places):
    """For each parameter whether it lies in one of the places."""
    return [any(tensor.data_ptr() in place for place in places) for tensor in module.parameters()]


@pytest.mark.parametrize(
    ("dtype", "talker", "others"),
    [
        ("float32", True, True),  # the tiny checkpoint's own
        ("bfloat16", False, False),  # converted, and the mapping is gone
        ("float16", False, True),  # a T4's: only what is converted is copied
    ],
)
def test_what_need_not_be_converted_stays_in_the_file(tiny, dtype, talker, others):
    engine = QwenEngine()
    engine.load(LoadPlan(tiny, CPU, Decision("sdpa", "a test", ()), decide_dtypes(dtype, [])))
    model, places = engine._model.model, mapped(tiny)
    assert set(inside(model.talker.model, places)) == {talker}
    assert set(inside(model.talker.code_predictor, places)) == {others}
    assert set(inside(model.speaker_encoder, places)) == {others}
    assert set(inside(model.speech_tokenizer.model, places)) == {True}  # the codec, always float32
