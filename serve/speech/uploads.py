"""Reference audio as it comes in: a file of a form, or base64 text. Nothing of it names a file or a place to open."""

from __future__ import annotations

from starlette.datastructures import UploadFile

from serve.errors import invalid
from serve.pool import hold, holding_for
from serve.speech.audio import ACCEPTED, AudioLimits, Sound, decode_audio, decode_base64, too_large

# What no file is called, whoever sends it: a browser and curl send the last part of a path.
SEPARATORS = frozenset("/\\")
LONGEST_NAME = 255
ACCEPTED_FILE = "send a wav, flac, ogg or mp3 file as a file of the form (curl: -F name=@voice.wav)"


async def read_upload(file: UploadFile | str | None, max_bytes: int, field: str) -> bytes:
    """The bytes of a form's file; of one that is too large at most one more than the limit is ever in memory.

    Args:
        file: what the form has in that place; text there is a mistake that is told.
        max_bytes: most bytes.
        field: the form's field, for errors.

    Raises:
        ServiceError: 413 too large; 422 missing, empty, text in place of a file, or a name that is a path.
    """
    if not isinstance(file, UploadFile):
        what = "is missing" if not file else "is text and not a file; paths and URLs are never opened"
        raise invalid("no_audio" if not file else "not_audio", f"{field} {what}", field, ACCEPTED_FILE)
    _check_name(file.filename, field)
    if file.size is not None and file.size > max_bytes:
        raise too_large(file.size, max_bytes, field)
    hold(file.size or 0)  # the form's own copy goes when it is read
    content = await file.read(max_bytes + 1)
    if not content:
        raise invalid("no_audio", f"{field} is empty", field, ACCEPTED_FILE)
    if len(content) > max_bytes:
        raise too_large(len(content), max_bytes, field)
    return content


def decode_reference(audio: bytes | str, limits: AudioLimits, field: str) -> Sound:
    """The sound of a reference, however it came. Takes up to a second of processor time: call it in a thread.

    Args:
        audio: a file's bytes, or base64 or a ``data:`` URL.
        limits: its size and length.
        field: the request's field, for errors.

    Raises:
        ServiceError: 413 too large; 422 whatever else is wrong with it.
    """
    if isinstance(audio, str):
        with holding_for(len(audio) * 2):  # as bytes, and those without blanks, or decoded
            content = decode_base64(audio, limits.max_bytes, field)
        with holding_for(len(content)):
            return decode_audio(content, limits, field)
    if not audio:
        raise invalid("no_audio", f"{field} is empty", field, ACCEPTED)
    if len(audio) > limits.max_bytes:
        raise too_large(len(audio), limits.max_bytes, field)
    return decode_audio(audio, limits, field)


def _check_name(name: str | None, field: str) -> None:
    """The name is used for nothing; one that is a path shows that somebody tries where it leads."""
    if name is None:
        return
    if len(name) > LONGEST_NAME or SEPARATORS & set(name) or not name.isprintable() or name.strip(". ") == "":
        message = f"the file name of {field} is a path, or no file name"
        raise invalid("bad_name", message, field, "send its last part: voice.wav")
