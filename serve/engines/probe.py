"""What this host has: its GPUs, and whether flash_attention_2 really runs on them. The edge of `attention`."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from serve.engines.attention import FlashFacts, Rung, flash_refusal
from serve.engines.dtypes import Dtypes
from serve.image import Capability, Image, parse_capability

# Importing torch and flash-attn and making one call takes some seconds, more from a cold disk; a hang is a refusal.
CALL_TIMEOUT_S = 180


@dataclass(frozen=True, slots=True)
class Device:
    """Where the model runs.

    Args:
        torch: torch's name for it, ``cpu`` or ``cuda:0``: one process serves one GPU.
        name: what it is called.
        gpus: compute capability of every visible GPU, in CUDA's order.
        because: why it is this one.
    """

    torch: str
    name: str
    gpus: tuple[Capability, ...]
    because: str


def find_device(image: Image | None) -> Device:
    """The first visible GPU, or the CPU and why."""
    # With too old a driver torch warns, on stderr, and answers False: the warning is the reason, so keep it.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.version.cuda is not None and torch.cuda.is_available()
    if usable:
        count = torch.cuda.device_count()
        gpus = tuple(torch.cuda.get_device_capability(index) for index in range(count))
        because = "the first visible GPU" if count > 1 else "the visible GPU"
        return Device("cuda:0", torch.cuda.get_device_name(0), gpus, because)
    if torch.version.cuda is None:
        because = "this torch is built without CUDA"
    else:
        said = " ".join(str(warning.message).split("\n")[0] for warning in caught)
        floor = f"; CUDA {torch.version.cuda} needs driver {image.driver_floor}" if image and image.driver_floor else ""
        because = f"no GPU is usable{floor}{': ' + said if said else ''}"
    return Device("cpu", "CPU", (), because)


def taken_for(device: Device, capability: str | None) -> Device:
    """The device with every GPU taken for one of another capability (``7.5``), which decides dtypes and attention."""
    if capability is None or not device.gpus:
        return device
    said = f"{device.because}, taken for {capability} (WW_ARCH_OVERRIDE)"
    return replace(device, gpus=(parse_capability(capability),) * len(device.gpus), because=said)


def probe_attentions(device: Device, dtypes: Dtypes, image: Image | None) -> tuple[Rung, ...]:
    """Find out about every attention; flash_attention_2 is tried in a child process when nothing rules it out."""
    facts = FlashFacts(
        installed=_version("flash-attn"),
        sass=image.wheel_sass if image else None,
        gpus=device.gpus,
        dtypes={"talker": dtypes.talker, "code_predictor": dtypes.code_predictor},
    )
    refusal = flash_refusal(facts) or _call_fails(dtypes.talker)
    flash = refusal or f"flash-attn {facts.installed} serves every visible GPU, and a call succeeded"
    return (
        Rung("flash_attention_2", refusal is None, flash),
        Rung("sdpa", True, "part of torch"),
        Rung("eager", True, "plain torch"),
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _call_fails(dtype: str) -> str | None:
    """Why a tiny call fails, or None. In a child, because an illegal instruction kills the process that makes it."""
    command = [sys.executable, "-m", "serve.engines.flash_call", dtype]
    # The child must find this package and all that this process finds, flash-attn on a PYTHONPATH included.
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CALL_TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return f"a tiny call did not end within {CALL_TIMEOUT_S} s"
    if done.returncode == 0:
        return None
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return f"a tiny call failed: {last}"
