"""Where sentences end, in the model's languages: sentencex (Wikimedia's segmenter), and what it does not know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

import sentencex

from serve.speech.languages import CODES

# Which language's rules a script gets when nobody says the language. Only the script is looked at: English rules for
# all of Latin may take an abbreviation of another language ("z. B.") for an end, which costs a pause and no word.
# Kana before Han, because Japanese is written with both.
SCRIPTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7a3\u1100-\u11ff]")),
    ("zh", re.compile("[\u3400-\u9fff\uf900-\ufaff]|[\U00020000-\U0003134f]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
)
OTHER_SCRIPT = "en"
# Foreign words in a text do not change its language: a script counts from one letter in ten.
SHARE = 0.1

# Words before a full stop that sentencex 1.0 takes for the end of a sentence, and which hardly ever are one: titles
# before a name, mostly. A missed end costs nothing, for there are others near it.
ABBREVIATIONS: Mapping[str, frozenset[str]] = {
    "de": frozenset(["hr", "hrn", "fr", "frl"]),
    "en": frozenset(),
    "es": frozenset(["ud", "uds", "vd", "vds", "dña", "dn", "av", "avda"]),
    "fr": frozenset(["mm", "mme", "mmes", "mlle", "mlles", "mgr", "dr", "drs", "pr", "me", "mes", "st", "ste", "av"]),
    "it": frozenset(["ing", "avv", "rag", "geom"]),
    "pt": frozenset(["av", "exa", "exas", "exmo", "exma", "ilmo", "ilma", "v"]),
    "ru": frozenset(["др", "пр", "им", "ул", "проф", "акад", "т"]),
}
LAST_WORD = re.compile(r"(\w+)\.\s*$")
# A mark with what closes it: quotes and brackets. Wide marks need no blank after them.
MARK = re.compile(r"[.!?…]+[\"'»”’)\]]*\s+|[。！？]+[」』”’）]*")
WIDE_END = re.compile(r"[。！？…．｡][\"'」』”’）】》\]]*$")
# Japanese puts speech in front of "says": the sentence goes on.
QUOTED = re.compile(r"[」』]$")
SAYS = re.compile(r"と|って")
SHORT_WORD = 3
ORDINAL = 2


def sentence_ends(text: str, language: str) -> list[int]:
    """Where sentences end, blanks included; the end of ``text`` itself is not among them.

    Args:
        text: one paragraph, or its beginning. A few hundred characters: sentencex takes quadratic time on some texts.
        language: the model's name or the ISO 639-1 code of a language, or ``auto``.
    """
    code = _rules(text, language)
    ends, at = [], 0
    for before, after in pairwise(sentencex.segment(code, text)):
        at += len(before)
        if _ends(before, after, code):
            ends.append(at)
    return ends


def mark_ends(text: str, language: str) -> list[int]:
    """Where a mark stands that may end a sentence, within long speech in quotes, too, which sentencex keeps whole."""
    code = _rules(text, language)
    ends = [match.end() for match in MARK.finditer(text)]
    return [end for end in ends if _ends(text[:end], text[end:], code)]


def guess_rules(text: str) -> str:
    """The language whose rules fit the text's script."""
    letters = sum(char.isalpha() for char in text)
    for code, script in SCRIPTS:
        if letters and len(script.findall(text)) >= SHARE * letters:
            return code
    return OTHER_SCRIPT


def _rules(text: str, language: str) -> str:
    code = CODES.get(language, language)
    return code if code in CODES.values() else guess_rules(text)


def _ends(before: str, after: str, code: str) -> bool:
    """Whether a sentence ends between the two."""
    if not before.strip():
        return False
    if QUOTED.search(before) and SAYS.match(after):
        return False
    if WIDE_END.search(before.rstrip()):
        return True
    if not before[-1].isspace():  # "J.-C."
        return False
    return not _abbreviated(before, after, code)


def _abbreviated(before: str, after: str, code: str) -> bool:
    """Whether the full stop that ``before`` ends with belongs to its last word."""
    word = LAST_WORD.search(before)
    if word is None:
        return False
    name = word[1]
    if name.isdigit():  # German writes ordinals so: "3. Mai"
        return code == "de" and len(name) <= ORDINAL
    if len(name) == 1 or name.lower() in ABBREVIATIONS.get(code, ()):  # an initial: "J. Smith"
        return True
    return len(name) <= SHORT_WORD and name.isascii() and after[:1].isdigit()  # "Nr. 7"
