"""A progress line for people: on a terminal only, on stderr, drawn a few times a second."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

from matrix.shown import shown

_EVERY_S = 0.1
_BAR = 24


class ProgressLine:
    """Call it with the bytes that are there and the bytes there will be; it leaves a clean line behind.

    >>> ProgressLine("x.whl").text(5_000_000, 10_000_000, 2.0)
    'x.whl [############            ]  50%  5.0 of 10.0 MB, 2.5 MB/s'
    """

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        name = shown(name)
        self._name = name if len(name) < 40 else f"{name[:36]}..."  # noqa: PLR2004 - the bar has to fit beside it
        self._stream = stream or sys.stderr
        self._shown = self._stream.isatty()
        self._start = time.monotonic()
        self._first: int | None = None
        self._last = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown and self._last:
            self._draw("")

    def __call__(self, have: int, total: int | None) -> None:
        """Draw, if it is time to."""
        now = time.monotonic()
        if self._first is None:
            self._first = have
        if self._shown and (now - self._last >= _EVERY_S or have == total):
            self._last = now
            self._draw(self.text(have, total, now - self._start))

    def text(self, have: int, total: int | None, seconds: float) -> str:
        """The line; the speed is that of what came now, not of what an earlier run left."""
        speed = (have - (self._first or 0)) / 1e6 / max(seconds, 1e-3)
        if not total:
            return f"{self._name}  {have / 1e6:.1f} MB, {speed:.1f} MB/s"
        share = min(1.0, have / total)
        bar = ("#" * int(share * _BAR)).ljust(_BAR)
        return f"{self._name} [{bar}] {share:4.0%}  {have / 1e6:.1f} of {total / 1e6:.1f} MB, {speed:.1f} MB/s"

    def _draw(self, text: str) -> None:
        self._stream.write(f"\r\x1b[2K{text}")
        self._stream.flush()
