"""What is known of a voice, and what a voice may be called."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final

from serve.errors import invalid
from serve.speech.audio import Sound

LONGEST_NAME: Final = 64
# NFC can make a text three times as long, and shorter: a text of more characters is no name, in whatever form.
_LONGEST_WRITTEN: Final = 4 * LONGEST_NAME
# A transcript of 30 s of speech has about 500 characters; a note of consent is no longer.
MAX_NOTE_CHARS: Final = 2000
_NAME_MARKS: Final = frozenset("-_.")


@dataclass(frozen=True, slots=True)
class VoiceInfo:
    """What is known of a voice.

    Attributes:
        id: ``voice_`` and 24 hex digits; never used twice.
        owner: the id of the caller that made it.
        name: chosen by the owner, and unique among the owner's.
        language: the model's name of it, or ``auto``.
        transcript: what is said in the audio; None: only the timbre is used (x-vector).
        consent: the owner's note of who agreed to this use of the voice.
        created: seconds since 1970, UTC.
        digest: SHA-256 of the encoded audio.
        rate: samples per second, Hz.
        duration_s: length of the audio, seconds.
        bytes: size of the decoded audio.
        checksum: SHA-256 of the samples.
    """

    id: str
    owner: str
    name: str
    language: str
    transcript: str | None
    consent: str
    created: int
    digest: str
    rate: int
    duration_s: float
    bytes: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice with its audio: all that speaking in it takes."""

    info: VoiceInfo
    sound: Sound


@dataclass(frozen=True, slots=True)
class NewVoice:
    """A voice to keep: checked text, a resolved language, decoded audio. ``transcript`` None: see ``VoiceInfo``."""

    name: str
    language: str
    transcript: str | None
    consent: str
    sound: Sound


def check_name(name: str, field: str) -> str:
    """The name, normalized (NFC): 1 to 64 letters, digits and ``-_.`` of any script, the first a letter or digit.

    Raises:
        ServiceError: 422; it is no such name, or looks like an id.
    """
    name = normalized(name) or name
    kinds = [unicodedata.category(char)[0] for char in name[: LONGEST_NAME + 1]]
    allowed = all(kind in "LMN" or char in _NAME_MARKS for char, kind in zip(name, kinds, strict=False))
    if not 0 < len(name) <= LONGEST_NAME or not allowed or kinds[0] not in "LN" or ".." in name:
        message = f"{field} is not 1 to {LONGEST_NAME} letters, digits and -_. that begin with a letter or digit"
        raise invalid("bad_name", message, field, "give the voice a short name, without blanks and slashes")
    if name.startswith("voice_"):
        raise invalid("bad_name", f"{field} begins like an id", field, "choose a name that does not begin with voice_")
    return name


def normalized(text: str) -> str | None:
    """The text as a name is kept (NFC), or None where it is too long to be one: that is not normalized first."""
    return unicodedata.normalize("NFC", text) if len(text) <= _LONGEST_WRITTEN else None
