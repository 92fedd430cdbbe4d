"""The audio of one voice in one safetensors file: written whole or not at all, and checked when it is read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from serve.speech.audio import Samples, Sound

NAME: Final = "samples"
UNFINISHED: Final = ".part"


class DamagedSamples(Exception):  # noqa: N818 - it names a state of a file
    """The file is not what was written; the message says in which way."""


def checksum(sound: Sound) -> str:
    """SHA-256 of the samples, as they lie in the file."""
    return hashlib.sha256(np.ascontiguousarray(sound.samples, "<f4").tobytes()).hexdigest()


def write_samples(file: Path, sound: Sound) -> None:
    """Write the file; when this returns, it survives a crash of the process and of the machine.

    Args:
        file: what it will be named; nothing is there yet.
        sound: decoded audio.

    Raises:
        OSError: it cannot be written; nothing is left of it unless the process died, too.
    """
    content = save({NAME: np.ascontiguousarray(sound.samples, "<f4")}, {"rate": str(sound.rate)})
    part = file.with_name(file.name + UNFINISHED)
    try:
        # A voice is personal: only this user may read it.
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def read_samples(file: Path, rate: int, digest: str, expected: str) -> Sound:
    """Read the file back.

    Args:
        file: as ``write_samples`` wrote it.
        rate: samples per second, Hz.
        digest: that of the encoded audio which the samples came from.
        expected: their checksum.

    Raises:
        DamagedSamples: the file is missing, or holds other samples.
    """
    try:
        samples: Samples = load(file.read_bytes())[NAME]
    except (OSError, SafetensorError, KeyError) as error:
        raise DamagedSamples(f"{type(error).__name__}: {error}") from error
    sound = Sound(samples, rate, digest)
    if checksum(sound) != expected:
        raise DamagedSamples("its samples are not those that were written")
    return sound


def sync_folder(folder: Path) -> None:
    """Make names that were added to a folder, or taken out, survive a crash of the machine."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
