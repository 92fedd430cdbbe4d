"""Small inputs that are made to be slow: a list's page and a committed file are read in the time of their length."""

from __future__ import annotations

import random
import time

import pytest

from matrix.difference import difference
from matrix.errors import NetworkError
from matrix.shown import shown, shown_lines, some
from wheel_resolver.upstream.simple_index import links_of, read_index

#: Each opens something and never closes it: a parser that looks for the end each time takes hours for some hundred kB.
OPENED = [
    "<", "<!--", "</", "<!", "<![CDATA[", "<?", '<a x="', "<a x='", "&", "&#", "<a ", "<a\n", "<script>", "<title>",
    "<a '", '<a "\'', "<a =", "<a href", "<a href=", "<a href = ", "--><!--", "<a href=x.whl", "<a href='x.whl>",
]  # fmt: skip


@pytest.mark.parametrize("opened", OPENED)
@pytest.mark.parametrize("filling", ["", " " * 20, "x" * 20])
def test_an_index_page_that_opens_and_never_closes(opened: str, filling: str) -> None:
    page = ((opened + filling) * 200_000)[:2_000_000].encode()
    start = time.monotonic()
    with pytest.raises(NetworkError, match="links to no wheel"):
        read_index(page, "https://wheels.example/simple/")
    assert time.monotonic() - start < 10  # a sixth of this page took four minutes


def test_what_an_index_page_links_to() -> None:
    page = """<!DOCTYPE html><a href="1.whl">a</a><A HREF='2.whl'>b</A><a class=x href=3.whl>c</a>
    <a data-href="no.whl">d</a><a data-requires-python=">=3.8" href="4.whl">e</a><!-- <a href="no.whl"> -->
    <a\nhref = "5&amp;6.whl"\n>f</a>
    <abbr href="no.whl"><a name="no.whl"></a><a href="">g</a><!-- never closed <a href="no.whl">"""
    assert [link for link in links_of(page) if link] == ["1.whl", "2.whl", "3.whl", "4.whl", "5&6.whl"]


def test_a_difference_has_an_end() -> None:
    words = [f"line {random.Random(n).randrange(900)}" for n in range(400_000)]
    start = time.monotonic()
    said = difference("\n".join(words), "\n".join(words[::-3]), "committed", "fresh")
    assert said == "--- committed: 400,000 lines\n+++ fresh: 133,334 lines"
    said = difference("\n".join(words[:4_000]), "\n".join(reversed(words[:4_000])), "a", "b")
    assert "lines more" in said.splitlines()[-1]
    assert len(said.splitlines()) == 1_001
    assert len(difference("x" * 10**6, "y", "a", "b")) < 10_000
    assert time.monotonic() - start < 60


def test_showing_takes_the_time_of_the_text() -> None:
    start = time.monotonic()
    for text in ("\n" * 500_000, " " * 500_000, "\x1b" * 500_000, "#" * 500_000, ":" * 500_000, "\u202e\n" * 200_000):
        shown_lines(text)
        assert len(shown(text, 100)) < 1_000
    assert len(some(["x" * 10**6] * 10**5)) < 10_000
    assert time.monotonic() - start < 20
