"""Text that comes from outside, as it may be printed: on a terminal, in a log, on the page of a CI run.

What a terminal obeys (escape codes), what turns the direction of writing, what cannot be seen and what a CI runner
takes for its own command is written as an escape that one can read: ``\\x1b``, ``\\u202e``, ``\\n``. Plain text of any
language stays as it is.

    a piece of a line, wherever it comes from   shown(text)
    what is printed, at the edge                shown_lines(text)     (matrix.cli: say, tell)
    JSON that is printed                        json_text(value)      (matrix.cli: tell_json)
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

#: Of one of many texts.
_LONGEST = 200

#: What Python calls printable, and yet shows nothing: joiners, fillers, variation selectors, the empty Braille cell.
_UNSEEN = frozenset(
    {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}
    | set(range(0x180B, 0x1810))
    | set(range(0xFE00, 0xFE10))
    | set(range(0xE0100, 0xE01F0))
)

# GitHub's runner takes a line that begins with `::` for a command, behind blanks too; the older `##[command]`, like
# those of Azure (##vso[) and TeamCity (##teamcity[), it takes anywhere in a line.
_AT_BEGINNING = re.compile(r"^([^\S\n]*):(?=:)", re.MULTILINE)
_WITHIN = re.compile(r"#(?=#\w{0,20}\[)")


def is_plain(char: str) -> bool:
    """Whether a character shows itself, and moves nothing else: a letter, a sign, a blank."""
    if char.isascii():
        return char.isprintable()
    return (char.isprintable() and ord(char) not in _UNSEEN) or unicodedata.category(char) == "Zs"


def hidden(text: str) -> str | None:
    """The first character of a text that is not plain; None where there is none."""
    if text.isascii() and text.isprintable():
        return None
    strange = {char for char in set(text) if not is_plain(char)}
    return next((char for char in text if char in strange), None)


def escaped(char: str) -> str:
    """A character as Python writes it in ASCII: ``\\x1b``, ``\\u202e``."""
    return ascii(char)[1:-1]


def shown(text: str, limit: int | None = None) -> str:
    """A text as a piece of one line, which does nothing but be read.

    A text of more than ``limit`` characters loses a part behind its middle, and says so.

    >>> shown("a\\x1b[2J\\n::error::b"), shown("Größe 你好")
    ('a\\\\x1b[2J\\\\n::error::b', 'Größe 你好')
    >>> shown("x" * 1000, 20)
    'xxxxxxxxxxxxxxxx... (980 characters more) ...xxxx'
    """
    if limit is not None and len(text) > limit:
        tail = limit // 5
        left = f"... ({len(text) - limit:,} characters more) ..."
        text = text[: limit - tail] + left + text[len(text) - tail :]
    if hidden(text) is None:
        return text
    return text.translate({ord(char): escaped(char) for char in set(text) if not is_plain(char)})


def shown_lines(text: str) -> str:
    """A text of several lines as it may be printed: its lines stay lines, and no CI runner takes one for a command.

    >>> shown_lines("one\\n  ::add-mask::x ##[error]y")
    'one\\n  \\\\x3a:add-mask::x \\\\x23#[error]y'
    """
    if not (text.isascii() and text.isprintable()):
        text = "\n".join(map(shown, text.split("\n")))
    if ":" in text:
        text = _AT_BEGINNING.sub(r"\1\\x3a", text)
    return _WITHIN.sub(r"\\x23", text) if "##" in text else text


def some(texts: Sequence[str], between: str = ", ", most: int = 20) -> str:
    """The first of many texts in one line, none of them long, and how many more there are.

    >>> some(["torch", "einops", "ninja"], most=2)
    'torch, einops and 1 more'
    """
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return between.join(shown(text, _LONGEST) for text in texts[:most]) + more


def json_text(value: Any) -> str:
    """JSON in plain ASCII: every text in it arrives as it was, and nothing obeys it on the way.

    >>> print(json_text({"a": "\\x1b\\x7f ##[error]"}))
    {
     "a": "\\u001b\\u007f \\u0023#[error]"
    }
    """
    text = json.dumps(value, indent=1, ensure_ascii=True).replace("\x7f", r"\u007f")
    return _WITHIN.sub(r"\\u0023", text) if "##" in text else text
