"""The pages of an Ogg stream: their serial number, and how much of the last packet is sound."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

# Of a page's head (RFC 3533, section 6): where its granule position, its stream's serial number, its checksum and its
# number of segments are.
_GRANULE, _SERIAL, _CHECKSUM, _SEGMENTS = 6, 14, 22, 26
_HEAD = 27
_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def renumber(pages: bytes, serial: int) -> bytes:
    """The same pages, of a stream with this serial number.

    Args:
        pages: whole pages of one stream.
        serial: 32 bits, the same for all pages of a stream.

    Raises:
        ValueError: these are no whole pages.
    """
    made = bytearray(pages)
    for start, end in _spans(pages):
        struct.pack_into("<I", made, start + _SERIAL, serial)
        _seal(made, start, end)
    return bytes(made)


def trim_end(pages: bytes, surplus: int) -> bytes:
    """The same pages, whose stream ends earlier: a decoder drops what the last packet holds beyond (RFC 7845, 4.4).

    Args:
        pages: whole pages, the last of them the stream's last.
        surplus: by how much, in units of the granule position (Opus: samples at 48 kHz); less than the last packet.

    Raises:
        ValueError: these are no whole pages.
    """
    made, (start, end) = bytearray(pages), (0, 0)
    for start, end in _spans(pages):  # noqa: B007 - the last one is meant
        pass
    (position,) = struct.unpack_from("<q", made, start + _GRANULE)
    struct.pack_into("<q", made, start + _GRANULE, position - surplus)
    _seal(made, start, end)
    return bytes(made)


def _spans(pages: bytes) -> Iterator[tuple[int, int]]:
    """Where each page begins and ends."""
    at = 0
    while at < len(pages):
        segments = at + _HEAD + pages[at + _SEGMENTS] if len(pages) - at >= _HEAD else len(pages) + 1
        end = segments + sum(pages[at + _HEAD : segments])
        if pages[at : at + 4] != b"OggS" or end > len(pages):
            raise ValueError(f"no page of Ogg begins at byte {at} of {len(pages)}")
        yield at, end
        at = end


def _seal(pages: bytearray, start: int, end: int) -> None:
    """Make a page's checksum fit: Ogg's CRC-32 is zlib's polynomial with the bits mirrored, from 0, not inverted."""
    struct.pack_into("<I", pages, start + _CHECKSUM, 0)
    mirrored = zlib.crc32(pages[start:end].translate(_MIRROR), 0xFFFFFFFF) ^ 0xFFFFFFFF
    struct.pack_into("<I", pages, start + _CHECKSUM, int(f"{mirrored:032b}"[::-1], 2))
