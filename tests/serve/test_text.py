"""Text: cleaning, limits, pieces, frame caps; and languages."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import ServiceError
from serve.speech.languages import CODES, resolve_language
from serve.speech.sentences import guess_rules, sentence_ends
from serve.speech.text import (
    CLAUSE_PAUSE_S,
    PARAGRAPH_PAUSE_S,
    SENTENCE_PAUSE_S,
    clean_text,
    frame_cap,
    split_parts,
    split_text,
)


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
    pieces = split_text(text, least=least, most=most)
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


# Each with what looks like the end of a sentence and is none.
SAMPLES = {
    "english": ["Mr. J. Smith paid $3.50 on Jan. 5, e.g. for tea.", "“Is it so?” she asked.", "Yes, No. 5 is it!"],
    "german": ["Dr. Müller und Hrn. Meier kamen z. B. am 3. Mai, d. h. spät.", "War es gut?", "Nr. 7 lebt."],
    "french": ["M. Dupont, Mme. Durand et le Dr. Petit sont là, p. ex. hier.", "Quoi ?", "Oui !"],
    "spanish": ["El Sr. García y la Dra. Ruiz viven en EE. UU. con D. Juan.", "¿Qué tal?", "¡Bien!"],
    "italian": ["Il sig. Rossi e il dott. Verdi sono qui con l'ing. Neri.", "Come va?", "Ciao!"],
    "portuguese": ["O Sr. Silva e a Dra. Ana moram na Av. Paulista com o Exmo. Lima.", "Tudo bem?", "Sim!"],
    "russian": ["Проф. Иванов и др. Сидоров живут на ул. Ленина с А. С. Пушкиным.", "Правда?", "Да!"],
    "chinese": ["价格是3.5元，他说“好的”。", "真的吗？", "是的！"],
    "japanese": ["「そうですか。」と彼は言った。", "値は3.5です。", "本当？"],
    "korean": ["김 씨는 3.5퍼센트라고 말했다.", "정말요?", "네!"],
}
SPACED = {name: "" if name in {"chinese", "japanese"} else " " for name in SAMPLES}


@pytest.mark.parametrize("language", SAMPLES)
@pytest.mark.parametrize("called", ["name", "code"])
def test_sentences_of_the_ten_languages(language, called):
    text = SPACED[language].join(SAMPLES[language] * 2)
    ends = [0, *sentence_ends(text, language if called == "name" else CODES[language]), len(text)]
    assert [text[a:b].strip() for a, b in pairwise(ends)] == SAMPLES[language] * 2


@pytest.mark.parametrize("language", SAMPLES)
def test_every_piece_of_every_language_ends_with_a_sentence(language):
    whole = SPACED[language].join(SAMPLES[language])
    text = SPACED[language].join(SAMPLES[language] * 40)
    parts = split_parts(text, language)
    assert len(parts) > 1
    for part in parts[:-1]:
        assert 400 <= len(part.text) <= 500
        assert part.pause_s == SENTENCE_PAUSE_S
        assert any(part.text.endswith(sentence) for sentence in SAMPLES[language])
    assert "".join("".join(part.text for part in parts).split()) == "".join(whole.split()) * 40


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Hello.", "en"),
        ("Tschüss!", "en"),
        ("안녕하세요, Kim.", "ko"),
        ("これは日本語です。漢字。", "ja"),
        ("这是中文。", "zh"),
        ("Это Россия, the land.", "ru"),
        ("A long English text that names 東京 once and goes on.", "en"),
        ("123 ...", "en"),
        ("", "en"),
    ],
)
def test_auto_looks_at_the_script_only(text, code):
    assert guess_rules(text) == code


def test_a_language_that_sentencex_does_not_know_goes_by_script():
    assert sentence_ends("One. Two. ", "martian") == [5]


def test_paragraphs_survive_cleaning_and_line_ends_do_not():
    raw = "  One\nline.\r\n\r\n \r\nTwo\u2029three.\n\n"
    assert clean_text(raw, 100, "text") == "One line.\nTwo\nthree."
    assert clean_text(raw, 100, "text", paragraphs=False) == "One line. Two three."


def test_pauses_tell_what_was_cut():
    sentence = "This sentence has exactly fifty characters in it. "
    paragraph = (sentence * 5).strip()
    parts = split_parts(f"{sentence * 12}\n{paragraph}\n{'a clause, ' * 60}\n{'word ' * 110}\n{'x' * 600}")
    assert [part.pause_s for part in parts] == [
        *(SENTENCE_PAUSE_S, PARAGRAPH_PAUSE_S, PARAGRAPH_PAUSE_S),
        *(CLAUSE_PAUSE_S, PARAGRAPH_PAUSE_S, 0.0, PARAGRAPH_PAUSE_S, 0.0, 0.0),
    ]
    assert PARAGRAPH_PAUSE_S > SENTENCE_PAUSE_S > CLAUSE_PAUSE_S > 0


def test_short_paragraphs_join_the_next_and_keep_the_limit():
    entries = [f"Entry number {number}." for number in range(100)]
    parts = split_parts("\n".join(entries))
    assert " ".join(part.text for part in parts) == " ".join(entries)
    assert all(100 <= len(part.text) <= 500 for part in parts[:-1])


def test_long_speech_in_quotes_is_cut_at_its_sentences():
    parts = split_parts("“" + "I went home and slept for a very long time. " * 30 + "”", "en")
    assert all(400 <= len(part.text) <= 500 and part.text.endswith("time.") for part in parts[:-1])
    parts = split_parts("「" + "私は家に帰って、とても長い間眠りました。" * 60 + "」", "ja")
    assert all(400 <= len(part.text) <= 500 and part.text.endswith("。") for part in parts[:-1])


def test_an_accent_is_not_cut_from_its_letter():
    parts = split_parts("x\u0323\u0331" * 400)
    assert all(not unicodedata.combining(part.text[0]) for part in parts)


@given(
    st.lists(
        st.sampled_from(
            ["Mr. ", "a", "。", "「", "“", '"', "(", ". ", "\n", "字", "가", "ж", "é", "1.5 ", ", ", "J.-C. "]
        )
        | st.text(max_size=50),
        max_size=150,
    ).map("".join),
    st.sampled_from(["auto", *SAMPLES, "martian"]),
)
def test_parts_hold_the_whole_text_in_any_language(text, language):
    parts = split_parts(text, language)
    assert parts == split_parts(text, language)
    assert all(0 < len(part.text) <= 500 and part.pause_s >= 0 for part in parts)
    assert "".join("".join(part.text for part in parts).split()) == "".join(text.split())
    assert not parts or parts[-1].pause_s == 0


@pytest.mark.parametrize("unit", ["。「", "“", "(", ".", "'a. ", "A. ", "\u0301"])
def test_no_text_takes_long(unit):
    # sentencex alone takes seconds for some of these; in windows it takes milliseconds.
    assert all(len(part.text) <= 500 for part in split_parts((unit * 100_000)[:100_000]))


@pytest.mark.parametrize("length", [499, 500])
def test_a_sentence_of_the_whole_limit_is_one_piece(length):
    sentence = "W" + "ord wo, " * 62
    sentence = sentence[: length - 1] + "."
    assert split_text(f"{sentence} And another one.", "en") == [sentence, "And another one."]
    words = ("x" * 9 + " ") * 49 + "x" * (length - 490)
    assert split_text(f"{words} y", "en") == [words, "y"]
