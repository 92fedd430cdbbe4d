"""Right inputs, made wrong: that reaches further into a reader than noise, which it refuses at the first byte."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import strategies as st

#: Pieces that mean something to one reader or other: ends, quotes, escapes, limits, letters that are not seen.
PIECES = tuple(
    piece.encode("utf-8", "surrogatepass")
    for piece in (
        "", "\n", "\r", "\r\n", "\t", "\0", "\x1b[2J", "\x7f", "\x85", "\u2028", "\u202e", "\u200b", "\ufeff",
        "\ud800", " ", "'", '"', "\\", "`", "$(id)", "${x}", "{{", "}}", "{", "}", "[", "]", ",", ":", ": ", "- ",
        "? ", "#", "&a ", "*a", "!", "!!binary ", "%TAG ! x", "|", ">", "<<: ", "---\n", "...", "@", "~", "null",
        "true", "no", "010", "0x1f", "1_000", "1:59:59", "1e400", "-1", "0", "9", "9", ".inf", "NaN", "2026-08-15",
        "..", "../", "/etc/passwd", "C:\\", "file:///etc/passwd", "http://", "https://u:p@h/", "//", "%2e%2e", "%00",
        "+", ";", "--hash=sha256:", "-r x", "-e .", "==", ">=", "; extra == 'x'", " @ ", "x",
        "\N{GREEK SMALL LETTER ALPHA}", "\N{PILE OF POO}", "::error::", "##[x]", "<script>", "<a href='x.whl'>",
    )
)  # fmt: skip

_WORDS = re.compile(rb"[A-Za-z0-9_]+|\s+|.", re.DOTALL)
_MOST_CHANGES = 6
_MOST_BYTES = 60


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes], pieces: Sequence[bytes] = PIECES) -> bytes:
    """One of the seeds with a few changes: pieces put in, ranges removed, doubled or moved, words of another seed."""
    text = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, _MOST_CHANGES))):
        text = _changed(draw, text, seeds, pieces)
    return text


def _changed(  # noqa: PLR0911 - one return for each kind of change
    draw: st.DrawFn, text: bytes, seeds: Sequence[bytes], pieces: Sequence[bytes]
) -> bytes:
    start = draw(st.integers(0, len(text)))
    end = min(len(text), start + draw(st.integers(0, _MOST_BYTES)))
    match draw(st.sampled_from(["piece", "bytes", "remove", "double", "flip", "splice", "cut", "line", "many"])):
        case "piece":
            return text[:start] + draw(st.sampled_from(pieces)) + text[end if draw(st.booleans()) else start :]
        case "bytes":
            return text[:start] + draw(st.binary(max_size=8)) + text[end:]
        case "remove":
            return text[:start] + text[end:]
        case "double":
            return text[:end] + text[start:end] * draw(st.integers(1, 3)) + text[end:]
        case "flip" if start < len(text):
            return text[:start] + bytes([text[start] ^ (1 << draw(st.integers(0, 7)))]) + text[start + 1 :]
        case "splice":
            other = _WORDS.findall(draw(st.sampled_from(seeds))[:2000])
            word = draw(st.sampled_from(other)) if other else b""
            return text[:start] + word + text[end:]
        case "cut":
            return text[:start]
        case "line":
            lines = text.split(b"\n")
            at = draw(st.integers(0, len(lines) - 1))
            lines.insert(draw(st.integers(0, len(lines))), lines.pop(at) if draw(st.booleans()) else lines[at])
            return b"\n".join(lines)
        case "many":
            return text[:start] + draw(st.sampled_from(pieces)) * draw(st.sampled_from([100, 3000])) + text[end:]
    return text
