"""Making audio in quarantine a voice again. The file says what it knows of the voice; the operator, whose it is."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serve.errors import ServiceError, SettingsError, invalid
from serve.speech.audio import MOST_KEPT, Samples
from serve.speech.languages import AUTO, CODES, resolve_language
from serve.speech.text import clean_text
from serve.voices.archive import LARGEST
from serve.voices.database import Rows
from serve.voices.quarantine import Held
from serve.voices.quotas import Quota
from serve.voices.records import MAX_NOTE_CHARS, VoiceInfo, check_name
from serve.voices.samples import DamagedSamples, checksum, read_label, unpack
from serve.voices.shelf import Shelf

NUMBER: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator says of a voice; what is None is the file's to say."""

    owner: str
    name: str | None = None
    language: str | None = None
    transcript: str | None = None
    consent: str | None = None


def held_label(held: Held) -> dict[str, str]:
    """What a file in quarantine says of its voice; nothing where it cannot be read."""
    try:
        return read_label(_content(held.file))
    except (OSError, DamagedSamples):
        return {}


def adopt(shelf: Shelf, quota: Quota, voice_id: str, wish: Wish) -> VoiceInfo:
    """Make a file in quarantine a voice of somebody's, with the id that it had.

    Raises:
        SettingsError: there is no such file, or it is damaged.
        ServiceError: what is known of the voice is not enough or cannot be, or the owner may have no more.
        OSError: the disk; nothing was changed.
        sqlite3.Error: the database; likewise.
    """
    file = shelf.quarantine.find(voice_id)
    try:
        content = _content(file)
        samples = unpack(content, None)
    except (OSError, DamagedSamples) as error:
        why = error.strerror if isinstance(error, OSError) else error
        remedy = "`python -m serve voices adopt` without an id lists what is there"
        raise SettingsError(f"{voice_id} cannot be adopted: {file}: {why}", remedy=remedy) from error
    info = _described(voice_id, samples, read_label(content), wish, int(file.stat().st_mtime))

    def check(rows: Rows) -> None:
        if voice_id in shelf.tombstones or rows.get(voice_id) is not None:
            raise SettingsError(f"{voice_id} was deleted, or is a voice", remedy="nothing needs to be done")
        # What is adopted leaves the quarantine: it is not counted twice.
        quota.check(rows, info, shelf.quarantine.size()[1] - len(content))

    shelf.adopt(info, check)
    return info


def _content(file: Path) -> bytes:
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as opened:
        content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise DamagedSamples("it is larger than the audio of any voice")
    return content


def _described(voice_id: str, samples: Samples, label: dict[str, str], wish: Wish, made: int) -> VoiceInfo:
    """What is known of the voice, checked as if a caller had sent it: a file in a folder may be anybody's."""
    rate = _number(label.get("rate"), 0)
    if not 0 < rate <= MOST_KEPT or not samples.size:
        raise ServiceError(422, "not_a_voice", f"{voice_id} holds no sound", remedy="discard it")
    name = wish.name or label.get("name")
    consent = wish.consent or label.get("consent")
    transcript = wish.transcript or label.get("transcript")
    if name is None or consent is None:
        missing = "name" if name is None else "consent"
        message = f"the file of {voice_id} says nothing of its {missing}: an earlier version wrote it"
        raise invalid("unknown_voice", message, missing, f"give --{missing}")
    return VoiceInfo(
        id=voice_id,
        owner=wish.owner,
        name=check_name(name, "name"),
        language=resolve_language(wish.language or label.get("language", AUTO), CODES, "language"),
        transcript=None if transcript is None else _note(transcript, "ref_text"),
        consent=_note(consent, "consent"),
        created=_number(label.get("created"), made),
        digest=label.get("digest", checksum(samples))[:200],
        rate=rate,
        duration_s=samples.size / rate,
        bytes=samples.nbytes,
        checksum=checksum(samples),
    )


def _note(text: str, field: str) -> str:
    return clean_text(text, MAX_NOTE_CHARS, field, paragraphs=False)


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and NUMBER.fullmatch(text) else otherwise
