"""The audio of one voice in one safetensors file: written whole or not at all, and checked when it is read.

Its header says what is known of the voice, but for whose it is: audio whose row is lost can be taken in again, and it
is the operator who says for whom.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from serve.ownership import hand_over
from serve.speech.audio import Samples, Sound
from serve.voices.folder import unfinished
from serve.voices.records import VoiceInfo

NAME: Final = "samples"
_LENGTH: Final = 8  # bytes of the header's length, before it
_LONGEST_HEADER: Final = 1 << 20


class DamagedSamples(Exception):  # noqa: N818 - it names a state of a file
    """The file is not what was written; the message says in which way."""


def checksum(samples: Samples) -> str:
    """SHA-256 of the samples, as they lie in the file."""
    return hashlib.sha256(np.ascontiguousarray(samples, "<f4").tobytes()).hexdigest()


def pack(info: VoiceInfo, samples: Samples) -> bytes:
    """The content of a voice's file."""
    label = {
        "rate": str(info.rate),
        "name": info.name,
        "language": info.language,
        "consent": info.consent,
        "created": str(info.created),
        "digest": info.digest,
    }
    if info.transcript is not None:
        label["transcript"] = info.transcript
    content: bytes = save({NAME: np.ascontiguousarray(samples, "<f4")}, label)
    return content


def write_samples(file: Path, content: bytes, mode: int) -> None:
    """Write the file under its unfinished name; when this returns, it survives a crash of the process and the machine.

    Args:
        file: what it will be named by ``finish``.
        content: all of it.
        mode: of the file. A voice is personal: never more than owner and group.

    Raises:
        OSError: it cannot be written; nothing is left of it unless the process died, too.
    """
    part = unfinished(file)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
            os.fchmod(out.fileno(), mode)  # whatever the umask is
            hand_over(part)
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(part.parent)


def finish(file: Path) -> None:
    """Give a written file its name, once the database knows its voice."""
    # It is not there when another process did the same at its start, or has deleted the voice already.
    with suppress(FileNotFoundError):
        unfinished(file).replace(file)
        sync_folder(file.parent)


def remove(file: Path) -> None:
    """Take a voice's file away, under either name: the unfinished first, so that nobody finishes it in between."""
    unfinished(file).unlink(missing_ok=True)
    file.unlink(missing_ok=True)


def read_content(file: Path) -> bytes:
    """The content of a voice's file, whether or not it has its name yet.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    # A third look: it may have got its name between the first two.
    for path in (file, unfinished(file)):
        with suppress(FileNotFoundError):
            return path.read_bytes()
    return file.read_bytes()


def unpack(content: bytes, expected: str | None) -> Samples:
    """The samples of a file.

    Args:
        content: of the file.
        expected: the samples' checksum; None: nobody knows it.

    Raises:
        DamagedSamples: it holds others.
    """
    try:
        samples: Samples = load(content)[NAME]
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DamagedSamples(f"{type(error).__name__}: {error}") from error
    if samples.dtype != np.float32 or samples.ndim != 1 or not np.isfinite(samples).all():
        raise DamagedSamples("its samples are no mono sound")
    if expected is not None and checksum(samples) != expected:
        raise DamagedSamples("its samples are not those that were written")
    return samples


def read_samples(file: Path, info: VoiceInfo) -> Sound:
    """Read a voice's audio back.

    Raises:
        DamagedSamples: the file is missing, or holds other samples.
        PermissionError: this process may not read it.
    """
    try:
        content = read_content(file)
    except PermissionError:
        raise
    except OSError as error:
        raise DamagedSamples(f"{type(error).__name__}: {error}") from error
    return Sound(unpack(content, info.checksum), info.rate, info.digest)


def read_label(content: bytes) -> dict[str, str]:
    """What a file's header says of its voice; nothing that is not text."""
    header = _header(content)
    label = header.get("__metadata__") if header else None
    return {key: value for key, value in label.items() if isinstance(value, str)} if isinstance(label, dict) else {}


def is_partial(file: Path) -> bool:
    """Whether a file ends before its header says: what was left of a copy that was cut off, and holds no voice."""
    size = file.stat().st_size
    with file.open("rb") as content:
        head = content.read(_LENGTH + _LONGEST_HEADER)
    if len(head) < _LENGTH:
        return True
    length = int.from_bytes(head[:_LENGTH], "little")
    if length > _LONGEST_HEADER:
        return False  # no header of ours: damaged, and perhaps not beyond repair
    if size < _LENGTH + length:
        return True
    try:
        end = max(tensor["data_offsets"][1] for name, tensor in (_header(head) or {}).items() if name == NAME)
        return bool(size < _LENGTH + length + end)
    except (ValueError, TypeError, KeyError, IndexError):
        return False


def _header(content: bytes) -> dict[str, Any] | None:
    length = int.from_bytes(content[:_LENGTH], "little")
    if length > _LONGEST_HEADER:
        return None
    try:
        header = json.loads(content[_LENGTH : _LENGTH + length])
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None


def sync_folder(folder: Path) -> None:
    """Make names that were added to a folder, or taken out, survive a crash of the machine."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
