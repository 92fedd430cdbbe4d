"""Words that people type for a platform, a dtype or an attention, as Docker, pip, PyTorch and transformers spell them.

Each function gives the canonical word, or the text as it came where it is none of them: the caller refuses that.
"""

from __future__ import annotations

import re

#: By the name of the machine in every spelling: Docker's, uname's, Debian's, a wheel's.
_MACHINES = {
    "x86_64": "linux_x86_64",
    "x8664": "linux_x86_64",
    "amd64": "linux_x86_64",
    "x64": "linux_x86_64",
    "aarch64": "linux_aarch64",
    "arm64": "linux_aarch64",
    "arm64v8": "linux_aarch64",
}
_LINUX = re.compile(r"^(?:linux|manylinux\d*(?:_\d{1,2}_\d{1,3})?)[/_ -]", re.ASCII)
_SYSTEMS = {
    "windows": "win_amd64", "win64": "win_amd64", "macos": "macosx_14_0_arm64", "darwin_arm64": "macosx_14_0_arm64",
}  # fmt: skip
_DTYPES = {"fp16": "float16", "half": "float16", "bf16": "bfloat16", "fp32": "float32", "float": "float32"}
_ATTENTIONS = {
    "fa2": "flash_attention_2",
    "fa": "flash_attention_2",
    "flash": "flash_attention_2",
    "flash_attn": "flash_attention_2",
    "flash_attn_2": "flash_attention_2",
    "flash_attention": "flash_attention_2",
    "flashattention2": "flash_attention_2",
}


def platform_of(text: str) -> str:
    """The tag of a wheel's platform.

    >>> platform_of("linux/amd64"), platform_of("arm64"), platform_of("manylinux_2_28_x86_64"), platform_of("win_amd64")
    ('linux_x86_64', 'linux_aarch64', 'linux_x86_64', 'win_amd64')
    """
    plain = text.strip().lower()
    if plain in _SYSTEMS:
        return _SYSTEMS[plain]
    machine = _LINUX.sub("", plain)
    machine = machine.removesuffix("/v8").replace("-", "").replace("/", "")
    return _MACHINES.get(machine, text)


def dtype_of(text: str) -> str:
    """A torch dtype's name: ``float16`` for ``fp16``, ``half`` and ``torch.float16``."""
    plain = text.strip().lower().removeprefix("torch.")
    return _DTYPES.get(plain, plain)


def attention_of_word(text: str) -> str:
    """An attention as transformers names it: ``flash_attention_2`` for ``fa2`` and ``flash-attn``."""
    plain = text.strip().lower().replace("-", "_")
    return _ATTENTIONS.get(plain, plain)
