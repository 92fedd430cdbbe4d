"""Text: cleaned, limited, split where a reader breathes, and how long it may take to say. Pure functions."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from serve.errors import invalid
from serve.speech.sentences import mark_ends, sentence_ends

# DESIGN.md fact 23: speech of longer pieces drifts, and shorter ones lose the melody of the paragraph.
PIECE_LEAST = 400
PIECE_MOST = 500

# How much of what follows is looked at: an end is only seen by the sentence after it.
LOOK_AHEAD = 20

FRAMES_PER_S = 12.5
# How slowly a text may be said before the model is taken to have run away: each about half of slow speech. Letters of
# alphabets go by at about 15 a second; a Chinese, Japanese or Korean character is a syllable, and a digit is a word.
LETTERS_PER_S = 7.0
SYLLABLES_PER_S = 2.5
LEAST_S = 2.0

CLAUSE_END = re.compile(r"[,;:–—](?=\s)|[，；：、]|(?<=\s)[–—]")
SPACE = re.compile(r"\s")
PARAGRAPH = "\n"
BLANK_LINE = re.compile(r"\n[^\S\n]*\n|\u2029")

# What a reader leaves after a piece, seconds; the model's own sound ends with about a tenth of a second of quiet.
PARAGRAPH_PAUSE_S = 0.6
SENTENCE_PAUSE_S = 0.3
CLAUSE_PAUSE_S = 0.12


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a text, and the silence that follows it: seconds, 0 after the last one and within a sentence."""

    text: str
    pause_s: float


def clean_text(text: str, most: int, field: str, *, paragraphs: bool = True) -> str:
    """The text that will be spoken: normalized (NFC), without control characters, blanks folded.

    Args:
        text: as it came.
        most: most characters.
        field: the request's field, for errors.
        paragraphs: keep a blank line, as one line end; else it is a blank like the others.

    Raises:
        ServiceError: 422; nothing in it can be spoken, or it is too long.
    """
    if len(text) > most:
        message = f"{field} has {len(text)} characters; at most {most} are accepted"
        raise invalid("text_too_long", message, field, "send it in several requests, split at paragraphs")
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    folded = [_fold(paragraph) for paragraph in (BLANK_LINE.split(lines) if paragraphs else [lines])]
    cleaned = PARAGRAPH.join(paragraph for paragraph in folded if paragraph)
    if not can_be_spoken(cleaned):
        remedy = "send at least one letter or digit"
        raise invalid("no_text", f"{field} holds nothing that can be spoken", field, remedy)
    return cleaned


def can_be_spoken(text: str) -> bool:
    """Whether there is anything in it but marks and blanks."""
    return any(char.isalnum() for char in text)


def split_text(text: str, language: str = "auto", *, least: int = PIECE_LEAST, most: int = PIECE_MOST) -> list[str]:
    """The pieces of ``split_parts``, without their pauses.

    >>> split_text("One two. Three four. Five.", least=5, most=21)
    ['One two. Three four.', 'Five.']
    """
    return [part.text for part in split_parts(text, language, least=least, most=most)]


def split_parts(text: str, language: str = "auto", *, least: int = PIECE_LEAST, most: int = PIECE_MOST) -> list[Part]:
    """Split cleaned text into pieces of at most ``most`` characters, each with the pause that follows it.

    Each cut is at the last sentence end between ``least`` and ``most``; else at the last sentence end before, then the
    last clause end, then the last blank, then anywhere. The end of a paragraph ends its piece, unless that piece would
    be shorter than a quarter of ``least``: then the next paragraph joins it.

    Args:
        text: cleaned; a line end separates paragraphs.
        language: the model's name or the ISO 639-1 code of its language; ``auto`` tells it from the script.
        least: where the search for a sentence end begins, characters.
        most: most characters of a piece.
    """
    parts: list[Part] = []
    for paragraph in _paragraphs(text, least // 4):
        rest = paragraph
        while len(rest) > most:
            cut, pause = _cut(rest, language, least, most)
            if piece := rest[:cut].strip():
                parts.append(Part(piece, pause))
            rest = rest[cut:].strip()
        if rest:
            parts.append(Part(rest, PARAGRAPH_PAUSE_S))
    return [*parts[:-1], Part(parts[-1].text, 0.0)] if parts else []


def frame_cap(text: str) -> int:
    """Most 80 ms frames that saying ``text`` may take: about twice what slow speech needs."""
    syllables = sum(char.isdigit() or unicodedata.east_asian_width(char) in {"W", "F"} for char in text)
    seconds = LEAST_S + syllables / SYLLABLES_PER_S + (len(text) - syllables) / LETTERS_PER_S
    return round(seconds * FRAMES_PER_S)


def _fold(text: str) -> str:
    """Without control characters, and with one blank for each run of blanks."""
    visible = "".join(
        " " if char.isspace() else char
        for char in unicodedata.normalize("NFC", text)
        if char.isspace() or unicodedata.category(char) not in {"Cc", "Cs", "Co", "Cn"}
    )
    return " ".join(visible.split())


def _paragraphs(text: str, least: int) -> list[str]:
    """The paragraphs; those shorter than ``least`` (a heading, an entry of a list) are joined with the next."""
    joined: list[str] = []
    for paragraph in filter(None, (line.strip() for line in text.split(PARAGRAPH))):
        if joined and len(joined[-1]) < least:
            joined[-1] += f" {paragraph}"
        else:
            joined.append(paragraph)
    return joined


def _clause_ends(text: str, _language: str) -> list[int]:
    return [match.end() for match in CLAUSE_END.finditer(text)]


def _cut(text: str, language: str, least: int, most: int) -> tuple[int, float]:
    """Where to end the first piece, and its pause; ``text`` is longer than ``most``, and begins with no blank."""
    window = text[: most + LOOK_AHEAD]
    # A sentence or a clause that ends early still beats a cut within the next one, but not for a piece of a few words.
    for find, pause in (
        (sentence_ends, SENTENCE_PAUSE_S),
        (mark_ends, SENTENCE_PAUSE_S),
        (_clause_ends, CLAUSE_PAUSE_S),
    ):
        good = [end for end in find(window, language) if end - window[:end].endswith(" ") <= most]
        if good and good[-1] >= least // 4:
            return good[-1], pause
    blanks = [match.end() for match in SPACE.finditer(window) if match.start() <= most]
    if blanks:
        return blanks[-1], 0.0
    whole = most
    while whole > 1 and unicodedata.combining(text[whole]):  # an accent stays with its letter
        whole -= 1
    return whole if whole > 1 else most, 0.0
