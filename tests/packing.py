"""Pack wheels as the official ones are: ``+cu12...`` in the file name, plain ``2.8.3`` in the metadata."""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
NAME = f"flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-{TAG}-{TAG}-linux_x86_64.whl"


def members(
    files: Mapping[str, bytes], *, version: str = "2.8.3", tag: str = f"{TAG}-{TAG}-linux_x86_64"
) -> dict[str, bytes]:
    """The members of a wheel with these files in it, RECORD last."""
    info = f"flash_attn-{version}.dist-info"
    every = {
        "flash_attn/__init__.py": b'__version__ = "2.8.3"\n',
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: flash_attn\nVersion: {version}\n"
        "Requires-Dist: torch\nRequires-Dist: einops\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    record = "".join(f"{name},sha256={digest(text)},{len(text)}\n" for name, text in every.items())
    return {**every, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}


def digest(text: bytes) -> str:
    """A file's sha256 as RECORD writes it."""
    return base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()


def pack(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write a zip file with these members, the same bytes each time."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    return path
