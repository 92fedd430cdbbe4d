"""In which precision each part of the model runs: a pure decision by compute capability (DESIGN.md fact 13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from serve.errors import HostError
from serve.image import Capability

Dtype = Literal["float32", "bfloat16", "float16"]
# bfloat16 arithmetic is in hardware from Ampere on. `torch.cuda.is_bf16_supported()` says yes on Turing too, where it
# is emulated: so the capability decides.
FIRST_WITH_BFLOAT16: Capability = (8, 0)


@dataclass(frozen=True, slots=True)
class Dtypes:
    """The dtype of each part, and why."""

    talker: Dtype
    code_predictor: Dtype
    codec: Dtype
    speaker_encoder: Dtype
    because: str

    @property
    def uniform(self) -> bool:
        """Whether the parts that share one checkpoint file (all but the codec) have one dtype."""
        return self.talker == self.code_predictor == self.speaker_encoder


def decide_dtypes(choice: Literal["auto"] | Dtype, gpus: Sequence[Capability]) -> Dtypes:
    """Choose the dtypes.

    Args:
        choice: what the setting says.
        gpus: compute capability of every visible GPU; empty on a CPU.

    Raises:
        HostError: bfloat16 is demanded on a GPU that has none.
    """
    oldest = min(gpus, default=None)
    asked = "" if choice == "auto" else f"WW_DTYPE={choice}"
    lacks_bfloat16 = oldest is not None and oldest < FIRST_WITH_BFLOAT16
    if choice == "float32":
        return _all("float32", asked)
    if choice == "bfloat16":
        if lacks_bfloat16:
            raise HostError(
                f"WW_DTYPE=bfloat16 cannot run here: a visible GPU has compute capability {_dotted(oldest)},"
                " and bfloat16 needs 8.0",
                remedy="set WW_DTYPE=auto (float16 with float32 parts), or float32",
            )
        return _bfloat16(asked)
    if choice == "float16" or lacks_bfloat16:
        why = asked or f"compute capability {_dotted(oldest)} has no bfloat16"
        # In float16 the 0.6B code predictor overflows to NaN, and the device assert that follows kills the process.
        return Dtypes(
            "float16", "float32", "float32", "float32", f"{why}; only the talker is safe from overflow in float16"
        )
    if oldest is None:
        return _all("float32", "a CPU computes in float32")
    return _bfloat16(f"compute capability {_dotted(oldest)} has bfloat16")


def _bfloat16(because: str) -> Dtypes:
    # What the codec computes is the sound itself. In bfloat16 it is 12 % (rms) off, in float32 with torch's TF32
    # convolutions 1.5 %, for a tenth more time at batch 1 (docs/performance.md).
    because = f"{because}; the codec in float32, for its sound would keep 8 bits"
    return Dtypes("bfloat16", "bfloat16", "float32", "bfloat16", because)


def _all(dtype: Dtype, because: str) -> Dtypes:
    return Dtypes(dtype, dtype, dtype, dtype, because)


def _dotted(capability: Capability | None) -> str:
    return "none" if capability is None else f"{capability[0]}.{capability[1]}"
