"""Good input, broken in a few places: what a parser has not seen lies next to what it takes, and not in noise."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

# What has hurt parsers: ends and doublings of lines, quotes, signs of other grammars, limits of integers, bidi.
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\0", b"\x1b[2J", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80\xae",
    b" ", b"\t", b"%0A", b"%2f", b"::error::x", b"'", b'"', b"\\", b"$(id)", b"&a", b"*a", b"!!python/name:os",
    b"<<: ", b"- ", b"? ",
    b"[" * 40, b"{" * 40, b"1:59:59", b"-1", b"0x7f", b"4294967296", b"9" * 400, b"1e999", b"NaN", b"..", b"/", b"@",
    b"#", b";", b",", b"A" * 5000,
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes], most: int = 6) -> bytes:
    """One of the seeds with up to ``most`` changes: tokens put in, spans cut, doubled or moved, bits flipped."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, most))):
        at = draw(st.integers(0, len(content)))
        span = content[at : at + draw(st.integers(1, 64))]
        match draw(st.sampled_from(["token", "bytes", "cut", "double", "move", "flip", "end"])):
            case "token":
                content[at:at] = draw(st.sampled_from(TOKENS))
            case "bytes":
                content[at : at + len(span)] = draw(st.binary(max_size=16))
            case "cut":
                del content[at : at + len(span)]
            case "double":
                content[at:at] = span
            case "move":
                del content[at : at + len(span)]
                to = draw(st.integers(0, len(content)))
                content[to:to] = span
            case "flip" if at < len(content):
                content[at] ^= 1 << draw(st.integers(0, 7))
            case _:
                del content[at:]
    return bytes(content)
