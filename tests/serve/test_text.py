"""Text: cleaning, limits, pieces, frame caps; and languages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import ServiceError
from serve.speech.languages import CODES, resolve_language
from serve.speech.text import clean_text, frame_cap, split_text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  Hello,\n\tworld. ", "Hello, world."),
        ("a\x00b\x1b[31m", "ab[31m"),
        ("Cafe\u0301", "Café"),
        ("one\u2028two\u00a0three", "one two three"),
        ("7", "7"),
        ("你好", "你好"),
        ("👋 hi", "👋 hi"),
    ],
)
def test_clean(text, cleaned):
    assert clean_text(text, 100, "text") == cleaned


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "...", "?!", "\x00", "👋", "\u200b"])
def test_what_cannot_be_spoken_is_refused(text):
    with pytest.raises(ServiceError) as caught:
        clean_text(text, 100, "ref_text")
    assert (caught.value.status, caught.value.code, caught.value.field) == (422, "no_text", "ref_text")


def test_too_long_is_refused_and_not_quoted():
    with pytest.raises(ServiceError, match="has 11 characters; at most 10") as caught:
        clean_text("secret word", 10, "text")
    assert "secret" not in str(caught.value.body())


def test_a_short_text_is_one_piece():
    assert split_text("Mr. Smith went. Then he came.") == ["Mr. Smith went. Then he came."]


def test_cuts_are_at_sentence_ends_between_400_and_500():
    sentence = "This sentence has exactly fifty characters in it. "
    pieces = split_text(sentence * 25)
    assert [len(piece) for piece in pieces] == [499, 499, 249]
    assert all(piece.endswith("it.") for piece in pieces)


def test_a_closing_quote_stays_with_its_sentence():
    text = f"{'a ' * 210}he said “yes.” {'b ' * 100}"
    assert split_text(text)[0].endswith("“yes.”")


def test_wide_marks_need_no_blank():
    pieces = split_text(("这是一个句子" * 5 + "。") * 40)
    assert all(piece.endswith("。") and 400 <= len(piece) <= 500 for piece in pieces[:-1])


@pytest.mark.parametrize(
    ("filler", "end"), [("word, " * 200, ","), ("word " * 200, "d"), ("x" * 1200, "x"), ("字、" * 400, "、")]
)
def test_without_sentences_clauses_then_blanks_then_anything(filler, end):
    pieces = split_text(filler)
    assert len(pieces) > 1
    assert all(len(piece) <= 500 and piece.endswith(end) for piece in pieces[:-1])


@given(st.text(max_size=3000))
def test_pieces_hold_the_whole_text_and_nothing_else(text):
    pieces = split_text(text)
    assert all(0 < len(piece) <= 500 for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


@given(st.text(alphabet="ab .!?,。字\n", min_size=1, max_size=80), st.integers(2, 12), st.integers(12, 30))
def test_pieces_keep_their_limit_at_any_size(text, least, most):
    pieces = split_text(text, least, most)
    assert all(0 < len(piece) <= most for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_the_frame_cap_is_about_twice_what_slow_speech_takes():
    # 150 characters of English take about 10 s, 125 frames; 40 of Chinese about 10 s; ten digits about 5 s.
    assert 200 < frame_cap("a" * 150) < 400
    assert 150 < frame_cap("字" * 40) < 350
    assert 60 < frame_cap("1234567890") < 125
    assert frame_cap("a") >= 25


@given(st.text(max_size=200), st.characters())
def test_more_text_never_gets_fewer_frames(text, char):
    assert frame_cap(text + char) >= frame_cap(text)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        *(("auto", "auto"), (" AUTO ", "auto"), ("English", "english"), ("en-US", "english"), ("ZH_cn", "chinese")),
        *((code, name) for name, code in CODES.items()),
    ],
)
def test_languages_by_name_and_code(wanted, name):
    assert resolve_language(wanted, CODES, "language") == name


@pytest.mark.parametrize("wanted", ["", "klingon", "xx", "eng", "-"])
def test_an_unknown_language_lists_the_known(wanted):
    with pytest.raises(ServiceError) as caught:
        resolve_language(wanted, ["english", "martian"], "language")
    assert (caught.value.status, caught.value.code) == (422, "unknown_language")
    assert caught.value.remedy == "auto, or one of: english (en), martian"


def test_a_language_that_the_model_lacks_is_refused():
    with pytest.raises(ServiceError):
        resolve_language("de", ["english"], "language")
