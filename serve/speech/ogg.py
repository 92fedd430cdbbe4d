"""The end of an Ogg stream: how much of its last packet is sound."""

from __future__ import annotations

import struct
import zlib

# Of a page's head (RFC 3533, section 6): where its granule position, its checksum and its number of segments are.
_GRANULE, _CHECKSUM, _SEGMENTS = 6, 22, 26
_HEAD = 27
_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def trim_end(pages: bytes, surplus: int) -> bytes:
    """The same pages, whose stream ends earlier: a decoder drops what the last packet holds beyond (RFC 7845, 4.4).

    Args:
        pages: whole pages, the last of them the stream's last.
        surplus: by how much, in units of the granule position (Opus: samples at 48 kHz); less than the last packet.

    Raises:
        ValueError: these are no whole pages.
    """
    start = at = 0
    while at < len(pages):
        if pages[at : at + 4] != b"OggS":
            raise ValueError(f"no page of Ogg begins at byte {at} of {len(pages)}")
        start, segments = at, pages[at + _SEGMENTS]
        at += _HEAD + segments + sum(pages[at + _HEAD : at + _HEAD + segments])
    page = bytearray(pages[start:])
    (position,) = struct.unpack_from("<q", page, _GRANULE)
    struct.pack_into("<q", page, _GRANULE, position - surplus)
    struct.pack_into("<I", page, _CHECKSUM, 0)
    struct.pack_into("<I", page, _CHECKSUM, _checksum(page))
    return pages[:start] + bytes(page)


def _checksum(page: bytearray) -> int:
    """Ogg's CRC-32: zlib's polynomial, with the bits the other way round, from 0 and not inverted."""
    mirrored = zlib.crc32(page.translate(_MIRROR), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
