"""What this image is: ``/app/image.json``, written when the image was built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from serve.errors import SettingsError

DEFAULT_PATH = Path("/app/image.json")

Attention = Literal["flash_attention_2", "sdpa", "eager"]
Capability = tuple[int, int]
"""A GPU's compute capability, or that of the code in a wheel: ``(8, 6)`` is sm_86."""


def parse_capability(text: object) -> Capability:
    """``"8.6"`` and ``"sm_86"`` are ``(8, 6)``; ``"sm_100"`` is ``(10, 0)``.

    Raises:
        ValueError: it is neither form.
    """
    match = re.fullmatch(r"(\d+)\.(\d)|sm_(\d+)(\d)", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a compute capability such as '8.6' or 'sm_86'")
    major, minor = (match[1], match[2]) if match[1] else (match[3], match[4])
    return int(major), int(minor)


class AttentionDefault(BaseModel):
    """The target's default attention, and its evidence."""

    model_config = ConfigDict(frozen=True, strict=True)

    default: Attention
    because: str


class Image(BaseModel):
    """The content of ``image.json``, schema 1. Fields that this version does not know are left alone."""

    model_config = ConfigDict(frozen=True, strict=True)

    format: Literal[1] = Field(alias="schema")
    target: str
    python: str
    torch: str
    cuda: str
    abi: str | None
    platform: str
    flash_attn: str | None
    wheel_sass: tuple[Annotated[Capability, BeforeValidator(parse_capability)], ...]
    wheel_sha256: str | None
    driver_floor: str | None
    model: str
    attention: AttentionDefault
    lock_hash: str


def read_image(path: Path | None) -> Image | None:
    """Read ``image.json``.

    Args:
        path: the file that the settings name; None for ``/app/image.json``, which may be missing.

    Returns:
        The image, or None outside of one.

    Raises:
        SettingsError: a named file is missing, or the content is not schema 1.
    """
    file = path or DEFAULT_PATH
    if path is None and not file.exists():
        return None
    remedy = "rebuild the image, or unset WW_IMAGE_JSON outside of one"
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read: {error}", remedy=remedy) from error
    try:
        return Image.model_validate_json(text)
    except ValidationError as error:
        details = "; ".join(
            f"{'.'.join(str(part) for part in detail['loc']) or 'content'}: {detail['msg']}"
            for detail in error.errors(include_url=False)
        )
        raise SettingsError(f"{file}: {details}", remedy=remedy) from error
