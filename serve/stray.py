"""What libraries write to stdout and stderr by themselves, as lines of the log: few enough, and never waited for.

The writers have the one end of a pipe, which never blocks: what does not fit is lost to them. `Relay` reads the other
end, in another process, so that a library's last words are said even when they were the service's last, too. A caller
can make a decoder complain without end: of more than a few lines a second the rest is counted and left out.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import mmap
import os
import queue
import select
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

LOGGER = "output"
"""The logger of these lines: no module of the service says them."""
PIPE_BYTES = 1 << 20
# Every line is written in one piece, so that no line of the service's comes between (PIPE_BUF is 4096 on Linux): a
# byte takes up to six characters of JSON.
PIECE_BYTES = 600
BURST, RATE = 100, 10.0
WAITING = 256
LAST_WORDS = 20
QUIET_S = 1.0
_COUNTS = struct.Struct("<QQQ")


class Tally:
    """How many lines were logged and left out; the service and who reads for it share the memory."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def add(self, place: int, count: int) -> None:
        """Count: 0 logged, 1 left out, 2 left out by the service itself. One process only adds to one place."""
        counts = [*_COUNTS.unpack_from(self._memory)]
        struct.pack_into("<Q", self._memory, 8 * place, counts[place] + count)

    @property
    def logged(self) -> int:
        """Lines that are in the log."""
        return int(_COUNTS.unpack_from(self._memory)[0])

    @property
    def dropped(self) -> int:
        """Lines that were left out."""
        return int(sum(_COUNTS.unpack_from(self._memory)[1:]))


class Unblocked(io.RawIOBase):
    """A descriptor that does not block, to print on: what does not fit is left out, and nobody gets an error."""

    def __init__(self, descriptor: int, tally: Tally) -> None:
        self._descriptor = descriptor
        self._tally = tally

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, content: Any) -> int:
        data = bytes(content)
        try:
            os.write(self._descriptor, data)
        except OSError:
            self._tally.add(2, max(data.count(b"\n"), 1))
        return len(data)


@dataclass(slots=True)
class Budget:
    """So many lines at once, and then so many a second."""

    burst: float = BURST
    rate: float = RATE
    _left: float = field(init=False)
    _at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._left = self.burst

    def spend(self, now: float) -> bool:
        """Whether one more may be said at that time."""
        self._left = min(self.burst, self._left + self.rate * max(now - self._at, 0.0))
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Lines:
    """Bytes in, lines out; a line that is too long comes in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that end within these bytes."""
        *whole, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in whole:
            yield from _pieces(line)
        while len(self._rest) >= PIECE_BYTES:
            piece, self._rest = self._rest[:PIECE_BYTES], self._rest[PIECE_BYTES:]
            yield from _pieces(piece)

    def end(self) -> Iterator[str]:
        """What is left without an end."""
        rest, self._rest = self._rest, b""
        yield from _pieces(rest)


def _pieces(line: bytes) -> Iterator[str]:
    for at in range(0, len(line), PIECE_BYTES):
        text = line[at : at + PIECE_BYTES].decode("utf-8", "backslashreplace")
        if text.strip():
            yield text


class Relay:
    """Reads the pipe in one thread and writes lines in another: a log that nobody reads stops the second one only."""

    def __init__(self, source: int, sink: int, form: logging.Formatter, tally: Tally) -> None:
        """Take the pipe's end, where to write, what makes a record a line, and who counts."""
        self._source = source
        self._sink = sink
        self._form = form
        self._tally = tally
        self._budget = Budget()
        self._waiting: queue.Queue[tuple[int, str] | None] = queue.Queue(WAITING)
        # Small writes do not fill its pages: from here on some may not have fitted.
        self._nearly_full = fcntl.fcntl(source, fcntl.F_GETPIPE_SZ) * 3 // 4
        self._dropped = 0
        self._last: deque[str] = deque(maxlen=LAST_WORDS)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._write)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def finish(self, seconds: float, died: str | None) -> None:
        """The service has ended: say what it left, within that time.

        Args:
            seconds: the most that is waited for who reads the log.
            died: what killed it, if something did; then its last lines are said, however many there were before.
        """
        self._over.set()
        deadline = time.monotonic() + seconds
        reader, writer = self._threads
        reader.join(seconds)
        last: list[tuple[int, str] | None] = [(logging.WARNING, _left_out(self._dropped))] if self._dropped else []
        if died is not None:
            last += [*((logging.WARNING, text) for text in self._last), (logging.CRITICAL, died)]
        try:
            for line in (*last, None):
                self._waiting.put(line, timeout=max(deadline - time.monotonic(), 0))
        except queue.Full:
            return
        writer.join(max(deadline - time.monotonic(), 0))

    def _read(self) -> None:
        lines = Lines()
        while True:
            ready, _, _ = select.select([self._source], [], [], 0.05 if self._over.is_set() else QUIET_S)
            if not ready:
                self._take(lines.end())
                if self._over.is_set():  # a child of the service's may keep the pipe open: it is not waited for
                    return
                self._tell()
                continue
            if _held(self._source) > self._nearly_full:
                self._drop("[what did not fit into the pipe]")
            data = os.read(self._source, PIPE_BYTES)
            if not data:
                self._take(lines.end())
                return
            self._take(lines.feed(data))
            self._tell()

    def _take(self, lines: Iterator[str]) -> None:
        for text in lines:
            if self._waiting.full() or not self._budget.spend(time.monotonic()):
                self._drop(text)
            else:
                self._last.clear()
                self._waiting.put_nowait((logging.WARNING, text))
                self._tally.add(0, 1)

    def _drop(self, text: str) -> None:
        self._dropped += 1
        self._last.append(text)
        self._tally.add(1, 1)

    def _tell(self) -> None:
        """Say how many were left out, as soon as one line more may be said."""
        if self._dropped and not self._waiting.full() and self._budget.spend(time.monotonic()):
            self._waiting.put_nowait((logging.WARNING, _left_out(self._dropped)))
            self._dropped = 0

    def _write(self) -> None:
        while (line := self._waiting.get()) is not None:
            try:
                os.write(self._sink, self._line(*line))
            except OSError:  # who read the log is gone
                self._tally.add(1, 1)

    def _line(self, level: int, text: str) -> bytes:
        record = logging.LogRecord(LOGGER, level, __file__, 0, text, None, None)
        return (self._form.format(record) + "\n").encode("utf-8", "backslashreplace")


def make_pipe() -> tuple[int, int]:
    """A pipe whose writers never wait: its end to read, its end to write."""
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    with contextlib.suppress(OSError):  # more than this user may have: the usual 64 kB do
        fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return source, sink


def _held(source: int) -> int:
    """Bytes in the pipe."""
    return int(struct.unpack("<i", fcntl.ioctl(source, termios.FIONREAD, b"\0" * 4))[0])


def _left_out(count: int) -> str:
    return f"{count} lines more are left out"
