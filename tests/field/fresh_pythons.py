"""Pythons as they are found in the field, and the far end that serves them a wheel: all of it on the loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from images.uv import uv_executable
from tests.packing import digest, pack

#: A torch that tells the probe what the wheel is for: built for CUDA 12.8, ABI TRUE, and no GPU.
TORCH = b"""
__version__ = "2.8.0+cu128"
class version:
    cuda, hip = "12.8", None
class cuda:
    device_count = staticmethod(lambda: 0)
class _C:
    _GLIBCXX_USE_CXX11_ABI = True
"""
TORCH_VERSION = "2.8.0+cu128"


def flipped(wheel: bytes) -> bytes:
    """The wheel with one bit flipped, in the time of its first member: a zip file that is still read without fault."""
    return wheel[:10] + bytes([wheel[10] ^ 2]) + wheel[11:]


def stand_in(folder: Path, name: str, version: str, module: bytes) -> Path:
    """A wheel of one module under another project's name."""
    info = f"{name}-{version}.dist-info"
    every = {
        f"{name}/__init__.py": module,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{member},sha256={digest(text)},{len(text)}\n" for member, text in every.items())
    every[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    return pack(folder / f"{name}-{version}-py3-none-any.whl", every)


def around_flash_attn(folder: Path) -> list[Path]:
    """Wheels of what flash-attn requires: the stand-in torch, and einops."""
    folder.mkdir(exist_ok=True)
    return [
        stand_in(folder, "torch", TORCH_VERSION, TORCH),
        stand_in(folder, "einops", "0.8.1", b""),
    ]


def without_pip(folder: Path, wheels: list[Path]) -> Path:
    """What `uv venv` makes: a venv without pip; these wheels are in it."""
    quietly([uv_executable(), "venv", "--no-config", "--offline", "--python", sys.executable, str(folder)])
    python = folder / "bin" / "python"
    quietly([uv_executable(), "pip", "install", "--no-config", "--offline", "--python", str(python), *map(str, wheels)])
    return python


def with_pip(folder: Path, wheels: list[Path]) -> Path:
    """What `python -m venv` makes."""
    quietly([sys.executable, "-m", "venv", str(folder)])
    python = folder / "bin" / "python"
    quietly([str(python), "-m", "pip", "install", "--no-index", *map(str, wheels)])
    return python


def unpacked(folder: Path, wheels: list[Path]) -> Path:
    """These wheels as a folder for PYTHONPATH: how a Python that takes no packages sees them here."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder


def settings(**more: str) -> dict[str, str]:
    """An environment without this host's settings of pip and uv, and without an index; the loopback may be asked."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_CONFIG": "1",
        "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
        "UV_NO_CACHE": "1",
        **more,
    }


def quietly(command: list[str]) -> None:
    """Run a command that must succeed; its output is shown where it does not."""
    done = subprocess.run(command, env=settings(), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def said_by(python: Path, code: str, **more: str) -> str:
    """What a program in a Python prints."""
    done = subprocess.run(
        [str(python), "-c", code], env=settings(**more), capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.strip() or done.stderr.strip()
