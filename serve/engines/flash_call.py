"""``python -m serve.engines.flash_call DTYPE``: call FlashAttention-2 once on each visible GPU; exit 0 if that works.

A module of its own, for a child process: on a GPU that the wheel does not serve, the call may kill the process.
"""

from __future__ import annotations

import os
import sys

import torch


def main(dtype_name: str) -> int:
    """Make the call on every GPU; whatever fails is raised."""
    from flash_attn import flash_attn_func  # noqa: PLC0415 - only images with the wheel have it

    dtype: torch.dtype = getattr(torch, dtype_name)
    for index in range(torch.cuda.device_count()):
        # (batch, sequence, heads, head_dim); 128 is the talker's head_dim.
        states = torch.ones(1, 8, 2, 128, dtype=dtype, device=f"cuda:{index}")
        output = flash_attn_func(states, states, states, causal=True)
        # A mean of ones is one; a kernel without code for this GPU may return what was in memory, which can be finite.
        if not torch.allclose(output, states, atol=0.01):
            raise ArithmeticError(f"GPU {index} computes wrong values")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason
        # The first line says what failed; torch appends advice on debugging. After a failed kernel the end of the
        # process may say more, so there is none: the reason is the last line of stderr.
        first = str(error).partition("\n")[0]
        print(f"{type(error).__name__}: {first}", file=sys.stderr, flush=True)
        os._exit(1)
