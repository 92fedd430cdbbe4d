"""flash_attention_2 is tried in a child process: what the child finds, and what is made of its end."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from serve.engines import flash_call, probe
from serve.engines.dtypes import decide_dtypes

NO_KERNEL = """
import atexit, sys
atexit.register(print, "more at the end of the process", file=sys.stderr)
raise RuntimeError("CUDA error: no kernel image is available\\nFor debugging consider this\\n")
"""
H100 = probe.Device("cuda:0", "NVIDIA H100", ((9, 0),), "the visible GPU")


@pytest.mark.parametrize(
    ("flash_attn", "available", "because"),
    [
        (
            "def flash_attn_func(*states, causal): return states[0]",
            True,
            "flash-attn 2.8.3 serves every visible GPU, and a call succeeded",
        ),
        (
            NO_KERNEL,
            False,
            "a tiny call failed: RuntimeError: CUDA error: no kernel image is available",
        ),
        ("raise ArithmeticError", False, "a tiny call failed: ArithmeticError:"),
        ("import os; os.abort()", False, "a tiny call failed: exit status -6"),
        (None, False, "a tiny call failed: ModuleNotFoundError: No module named 'flash_attn'"),
    ],
    ids=["works", "many lines", "no words", "killed", "missing"],
)
def test_what_the_child_finds_on_the_pythonpath_decides(monkeypatch, tmp_path, flash_attn, available, because):
    if flash_attn is not None:
        (tmp_path / "flash_attn.py").write_text(flash_attn)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(probe, "_version", lambda _name: "2.8.3")
    flash, *others = probe.probe_attentions(H100, decide_dtypes("auto", H100.gpus), None)
    assert (flash.name, flash.available, flash.because) == ("flash_attention_2", available, because)
    assert [rung.available for rung in others] == [True, True]


@pytest.mark.parametrize(("value", "right"), [(1.0, True), (0.0, False), (float("nan"), False)])
def test_a_call_that_returns_something_else_is_no_success(monkeypatch, value, right):
    ones = torch.ones
    fake = SimpleNamespace(flash_attn_func=lambda query, *_, causal: torch.full_like(query, value))
    monkeypatch.setitem(sys.modules, "flash_attn", fake)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "ones", lambda *shape, dtype, device: ones(*shape, dtype=dtype))
    if right:
        assert flash_call.main("bfloat16") == 0
    else:
        with pytest.raises(ArithmeticError, match="GPU 0 computes wrong values"):
            flash_call.main("bfloat16")


def test_a_gpu_can_be_taken_for_another():
    device = probe.Device("cuda:0", "NVIDIA H200", ((9, 0), (9, 0)), "the first visible GPU")
    taken = probe.taken_for(device, "7.5")
    assert taken.gpus == ((7, 5), (7, 5))
    assert taken.because == "the first visible GPU, taken for 7.5 (WW_ARCH_OVERRIDE)"
    assert probe.taken_for(device, None) == device
    cpu = probe.Device("cpu", "CPU", (), "none")
    assert probe.taken_for(cpu, "7.5") == cpu
