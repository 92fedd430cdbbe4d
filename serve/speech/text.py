"""Text: cleaned, limited, split where a reader breathes, and how long it may take to say. Pure functions."""

from __future__ import annotations

import re
import unicodedata

from serve.errors import invalid

# DESIGN.md fact 23: speech of longer pieces drifts, and shorter ones lose the melody of the paragraph.
PIECE_LEAST = 400
PIECE_MOST = 500

FRAMES_PER_S = 12.5
# How slowly a text may be said before the model is taken to have run away: each about half of slow speech. Letters of
# alphabets go by at about 15 a second; a Chinese, Japanese or Korean character is a syllable, and a digit is a word.
LETTERS_PER_S = 7.0
SYLLABLES_PER_S = 2.5
LEAST_S = 2.0

# A mark that ends a sentence with what closes it: quotes and brackets. Wide marks need no space after them.
SENTENCE_END = re.compile(r"[.!?…]+[\"'»”’)\]]*(?=\s)|[。！？]+[」』”’）]*|\n")
CLAUSE_END = re.compile(r"[,;:–—](?=\s)|[，；：、]|(?<=\s)[–—]")
SPACE = re.compile(r"\s")


def clean_text(text: str, most: int, field: str) -> str:
    """The text that will be spoken: normalized (NFC), without control characters, blanks folded.

    Args:
        text: as it came.
        most: most characters.
        field: the request's field, for errors.

    Raises:
        ServiceError: 422; nothing in it can be spoken, or it is too long.
    """
    if len(text) > most:
        message = f"{field} has {len(text)} characters; at most {most} are accepted"
        raise invalid("text_too_long", message, field, "send it in several requests, split at paragraphs")
    visible = "".join(
        " " if char.isspace() else char
        for char in unicodedata.normalize("NFC", text)
        if char.isspace() or unicodedata.category(char) not in {"Cc", "Cs", "Co", "Cn"}
    )
    folded = " ".join(visible.split())
    if not any(char.isalnum() for char in folded):
        remedy = "send at least one letter or digit"
        raise invalid("no_text", f"{field} holds nothing that can be spoken", field, remedy)
    return folded


def split_text(text: str, least: int = PIECE_LEAST, most: int = PIECE_MOST) -> list[str]:
    """Split cleaned text into pieces of at most ``most`` characters.

    Each cut is at the last sentence end between ``least`` and ``most``; else at the last sentence end before, then the
    last clause end, then the last blank, then anywhere.

    >>> split_text("One two. Three four. Five.", least=5, most=21)
    ['One two. Three four.', 'Five.']
    """
    pieces = []
    rest = text.strip()
    while len(rest) > most:
        cut = _cut(rest, least, most)
        pieces.append(rest[:cut].strip())
        rest = rest[cut:].strip()
    return [piece for piece in [*pieces, rest] if piece]


def frame_cap(text: str) -> int:
    """Most 80 ms frames that saying ``text`` may take: about twice what slow speech needs."""
    syllables = sum(char.isdigit() or unicodedata.east_asian_width(char) in {"W", "F"} for char in text)
    seconds = LEAST_S + syllables / SYLLABLES_PER_S + (len(text) - syllables) / LETTERS_PER_S
    return round(seconds * FRAMES_PER_S)


def _cut(text: str, least: int, most: int) -> int:
    """Where to end the first piece; ``text`` is longer than ``most``."""
    window = text[: most + 1]  # one more, to see the blank behind a mark that is the last of the piece
    for mark in (SENTENCE_END, CLAUSE_END, SPACE):
        ends = [match.end() for match in mark.finditer(window) if match.end() <= most]
        # A sentence that ends early still beats a cut within the next one, but not for a piece of a few words.
        if ends and (ends[-1] >= least or mark is SPACE or ends[-1] >= least // 4):
            return ends[-1]
    return most
