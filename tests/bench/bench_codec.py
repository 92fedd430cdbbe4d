"""`make bench-codec`: the codec in each precision: how far its sound is from float32's, and what it costs.

    PYTHONPATH=. python tests/bench/bench_codec.py CHECKPOINT

The same 240 frames (19.2 s) of random codes are decoded whole, and streamed as the service streams, after contexts of
several lengths. Needs a GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from serve.engines import attention, dtypes, probe  # noqa: E402 - it lies beside us
from serve.engines.engine import LoadPlan  # noqa: E402
from serve.engines.qwen_load import load_checkpoint  # noqa: E402
from serve.engines.qwen_run import LARGEST_STEP, Codec  # noqa: E402
from serve.speech.audio import Samples  # noqa: E402

T = TypeVar("T")
CODES, CODEBOOKS, FRAMES = 2048, 16, 240
CONTEXTS = (25, 72, 100, 150)
STEP = 100 + LARGEST_STEP
RUNS = 5
# dtype, TF32 in convolutions, TF32 in matrix products; torch's own default is the second.
PRECISIONS: dict[str, tuple[dtypes.Dtype, bool, bool]] = {
    "float32": ("float32", False, False),
    "float32, TF32 in convolutions": ("float32", True, False),
    "float32, TF32": ("float32", True, True),
    "bfloat16": ("bfloat16", True, False),
}


def streamed(codec: Codec, codes: torch.Tensor, context: int) -> Samples:
    """The sound in steps of 1, 2, 4, 8, 16, 16, ... frames."""
    parts: list[Samples] = []
    sent, step = 0, 1
    while sent < len(codes):
        before = codes[max(0, sent - context) : sent]
        made = codes[sent : sent + step]
        parts.append(codec.whole(before if len(before) else None, made))
        sent, step = sent + len(made), min(2 * step, LARGEST_STEP)
    return np.concatenate(parts)


def difference(one: Samples, other: Samples) -> float:
    """Per cent of the other's rms."""
    return float(100 * np.sqrt(np.mean((one - other) ** 2) / np.mean(other**2)))


def milliseconds(call: Callable[[T], object], argument: T) -> float:
    call(argument)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(RUNS):
        call(argument)
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / RUNS * 1000


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    checkpoint: Path = parser.parse_args().checkpoint.resolve()
    device = probe.find_device(None)
    codes = torch.randint(0, CODES, (FRAMES, CODEBOOKS), generator=torch.Generator().manual_seed(0)).to(device.torch)
    reference: Samples | None = None
    contexts = " | ".join(f"streamed, context {context}, %" for context in CONTEXTS)
    print(f"{device.name}, torch {torch.__version__}; rms difference to the same precision's whole, and ms")
    print(f"| | whole to float32, % | {contexts} | {STEP} frames, ms | {FRAMES} frames, ms | 8 times {STEP}, ms |")
    print(f"|---|{'---:|' * (4 + len(CONTEXTS))}")
    for name, (dtype, convolutions, products) in PRECISIONS.items():
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = products
        parts = replace(dtypes.decide_dtypes("float32", device.gpus), codec=dtype)
        plan = LoadPlan(checkpoint, device, attention.Decision("sdpa", "the benchmark", ()), parts)
        tokenizer = load_checkpoint(plan).model.model.speech_tokenizer
        codec = Codec(tokenizer)
        with torch.inference_mode():
            whole = codec.whole(None, codes)
            reference = whole if reference is None else reference
            cells = [difference(whole, reference)]
            cells += [difference(streamed(codec, codes, context), whole) for context in CONTEXTS]
            step = [{"audio_codes": codes[:STEP]}]
            cells += [milliseconds(tokenizer.decode, some) for some in (step, [{"audio_codes": codes}], step * 8)]
        print(f"| {name} | {' | '.join(f'{cell:.3g}' for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
