"""The engine ``faster`` where it cannot run. Where it can: tests/gpu/test_faster.py."""

from __future__ import annotations

import importlib.metadata

import pytest

from serve.engines.attention import Decision, Rung, decide, withhold
from serve.engines.dtypes import decide_dtypes
from serve.engines.engine import LoadPlan, make_engine
from serve.engines.probe import Device
from serve.errors import HostError

CPU = Device("cpu", "CPU", (), "this torch is built without CUDA")
H100 = Device("cuda:0", "H100", ((9, 0),), "the visible GPU")


def plan(folder, device):
    return LoadPlan(folder, device, Decision("sdpa", "a test", ()), decide_dtypes("auto", device.gpus))


def test_it_needs_a_gpu(launch):
    service = launch(ENGINE="faster")
    assert service.popen.wait(60) == 4
    said = service.stderr()
    assert "WW_ENGINE=faster needs an NVIDIA GPU, and the model would run on the CPU: " in said
    assert "remedy: set WW_ENGINE=qwen" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("found", [None, "0.3.1"])
def test_it_needs_the_version_whose_parts_it_uses(tiny, monkeypatch, found):
    version = importlib.metadata.version

    def other(name):
        if name != "faster-qwen3-tts":
            return version(name)
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", other)
    with pytest.raises(
        HostError, match=rf"needs faster-qwen3-tts 0\.3\.2, and here is {found or 'none'}\n.*pip install"
    ):
        make_engine("faster").load(plan(tiny, H100))


def test_flash_attention_is_withheld_from_it():
    can = (Rung("flash_attention_2", True, "a call succeeded"), Rung("sdpa", True, "part of torch"))
    rungs = withhold((*can, Rung("eager", True, "plain torch")), make_engine("faster").unfit)
    decision = decide("auto", ("flash_attention_2", "the image's"), rungs)
    assert decision.running == "sdpa"
    assert "one fixed shape" in decision.because
    with pytest.raises(HostError, match=r"WW_ATTENTION=flash_attention_2 cannot run here: .*one fixed shape"):
        decide("flash_attention_2", None, rungs)
    assert withhold(can, make_engine("qwen").unfit) == can
