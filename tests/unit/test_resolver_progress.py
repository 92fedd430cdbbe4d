"""The progress line: on a terminal only, and gone when it is done."""

from __future__ import annotations

import io

from wheel_resolver.fetching.progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_line_that_is_gone_at_the_end() -> None:
    stream = Terminal()
    with ProgressLine("x" * 90, stream) as progress:
        for have in range(0, 1001, 10):
            progress(have, 1000)
    text = stream.getvalue()
    assert "100%" in text
    assert text.endswith("\r\x1b[2K")
    assert text.count("\r") < 10  # not once a block
    assert max(map(len, text.split("\r"))) < 120


def test_a_size_that_is_not_known_and_a_resumed_file() -> None:
    line = ProgressLine("x.whl", Terminal())
    line(90_000_000, None)
    assert line.text(100_000_000, None, 2.0) == "x.whl  100.0 MB, 5.0 MB/s"


def test_what_is_no_terminal_gets_nothing() -> None:
    stream = io.StringIO()
    with ProgressLine("x.whl", stream) as progress:
        progress(1, 2)
        progress(2, 2)
    assert stream.getvalue() == ""
