"""Texts that must do nothing where they are printed, and the look at what was printed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from matrix.cli import run
from matrix.shown import is_plain

#: What a terminal obeys, what turns writing round, what cannot be seen, what begins a line: refused in a data file.
WILD = "\x1b]0;wild\x07\n::error::wild\r\u202ewild\x9b31m\x7f\u200b\u2028##[add-mask]wild"
#: What every reader lets pass, and a CI runner, Markdown, HTML or a shell would take for more than text.
TAME = "::error::tame ##[add-mask]tame |`tame` <script>alert('tame')</script> [tame](javascript:1) $(tame) 'tame\""


#: So many children of a mapping may all be looked at.
_MANY = 6


def assert_inert(text: str) -> None:
    """Nothing in what was printed moves a terminal, hides, or is a command of a CI runner."""
    strange = {ascii(char) for char in text if char != "\n" and not is_plain(char)}
    assert not strange, strange
    for line in text.split("\n"):
        assert not line.lstrip().startswith("::"), line
        assert not re.search(r"##\w*\[", line), line


def calls(main: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command in this process as its ``__main__`` does: status, stdout, stderr; all that it said is inert."""
    capsys.readouterr()
    try:
        status = run(main)
    except SystemExit as ended:  # argparse's own
        status = int(ended.code or 0)
    said = capsys.readouterr()
    assert_inert(said.out)
    assert_inert(said.err)
    assert "Traceback" not in said.err
    return status, said.out, said.err


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every text and of every key; of a list's items the first, and of many alike mappings the first."""
    if isinstance(value, dict):
        alike: set[frozenset[str]] = set()
        for key, child in value.items():
            if isinstance(child, dict) and len(value) > _MANY:
                if (keys := frozenset(child)) in alike:
                    continue
                alike.add(keys)
            yield (*at, key, None)  # the key itself
            yield from places(child, (*at, key))
    elif isinstance(value, list):
        for index, child in list(enumerate(value))[:1]:
            yield from places(child, (*at, index))
    elif isinstance(value, str):
        yield at


def with_text(value: Any, at: tuple[Any, ...], text: str) -> Any:
    """The same data with a text at a place; or, where the place ends in None, as the name of a key."""
    if not at:
        return text
    first, *rest = at
    if rest == [None]:
        return {(text if key == first else key): child for key, child in value.items()}
    changed = value.copy()
    changed[first] = with_text(value[first], tuple(rest), text)
    return changed
