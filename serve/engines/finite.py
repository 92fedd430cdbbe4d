"""Whether all values of a loaded checkpoint are numbers: with one that is not, every answer is noise or an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from serve.errors import SettingsError

AGAIN = "fetch it again (`python -m serve verify` says which files differ), or set WW_MODEL_DIR to another one"
LEAVE_DTYPE = "set WW_DTYPE=auto or WW_DTYPE=float32"


def check_finite(parts: Mapping[Path, nn.Module]) -> None:
    """See that no tensor holds NaN or infinity, where it was loaded to; reads each value once.

    Args:
        parts: the folder of each part's files, and what was loaded from it.

    Raises:
        SettingsError: one does; says which, and whether the file or the precision is at fault.
    """
    for folder, part in parts.items():
        for name, tensor in part.state_dict().items():
            if not _is_finite(tensor):
                raise _not_finite(folder, name, tensor.dtype)


def _is_finite(tensor: torch.Tensor) -> bool:
    if not tensor.numel() or not tensor.is_floating_point():
        return True
    # One pass without a copy: both are NaN if any value is.
    least, most = torch.aminmax(tensor)
    return bool(torch.isfinite(least) and torch.isfinite(most))


def _not_finite(folder: Path, name: str, dtype: torch.dtype) -> SettingsError:
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as content:
                if name not in content.keys():  # noqa: SIM118 - no mapping
                    continue
                if _is_finite(content.get_tensor(name)):
                    what = f"{file}: {name} is finite, but not in {str(dtype).removeprefix('torch.')}"
                    return SettingsError(what, remedy=LEAVE_DTYPE)
                return SettingsError(f"{file}: {name} holds values that are not finite numbers", remedy=AGAIN)
        except (OSError, SafetensorError):
            continue
    return SettingsError(f"{folder}: {name} holds values that are not finite numbers", remedy=AGAIN)
