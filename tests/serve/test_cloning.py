"""Pieces, prompts, batches and errors, on an engine that shows what it was asked."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from serve.errors import ServiceError
from serve.speech.audio import Sound
from serve.speech.cloning import Reference, Utterance, speak

LONG = "This sentence has exactly fifty characters in it. " * 25  # three pieces


class RecordingEngine:
    """Says a text of n characters as n samples of 0.5."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.prompts: list[str] = []
        self.seeds: list[int | None] = []

    def load(self, plan):
        raise NotImplementedError

    def warm(self):
        raise NotImplementedError

    def prompt(self, sound, text):
        if text == "no prompt":
            raise ValueError("secret transcript")
        self.prompts.append(text)
        return text

    def run(self, batch, seed):
        self.batches.append([piece.text for piece in batch])
        self.seeds.append(seed)
        if any("crash" in piece.text for piece in batch):
            raise RuntimeError("secret text")
        return [np.full(len(p.text), {"mute": 0, "nan": np.nan}.get(p.text, 0.5), np.float32) for p in batch]


def utterance(text, reference="a", digest="1"):
    return Utterance(text, "english", Reference(Sound(np.ones(1, np.float32), 24_000, digest), reference))


def length(content):
    return soundfile.info(io.BytesIO(content)).frames


def test_one_call_for_all_pieces_and_one_prompt_for_equal_references():
    engine = RecordingEngine()
    made = speak(engine, [utterance("one"), utterance(LONG), utterance("three", "b")], 5, 16)
    assert [len(batch) for batch in engine.batches] == [5]
    assert engine.prompts == ["a", "b"]
    assert engine.seeds == [5]
    assert [length(wav) for wav in made] == [3, 499 + 499 + 249, 5]


def test_the_same_words_in_other_audio_are_another_prompt():
    engine = RecordingEngine()
    speak(engine, [utterance("x", digest="1"), utterance("x", digest="2"), utterance("x", digest="1")], None, 16)
    assert engine.prompts == ["a", "a"]


def test_calls_are_no_larger_than_allowed():
    engine = RecordingEngine()
    made = speak(engine, [utterance(LONG), utterance("four"), utterance("fifth")], None, 2)
    assert [len(batch) for batch in engine.batches] == [2, 2, 1]
    assert [length(wav) for wav in made] == [1247, 4, 5]


def test_what_fails_fails_alone_and_says_nothing_of_the_text(caplog):
    engine = RecordingEngine()
    texts = ["fine", "mute", "nan", "crash", "fine too"]
    made = speak(engine, [*map(utterance, texts), utterance("x", "no prompt")], None, 1)
    codes = [result.code if isinstance(result, ServiceError) else "ok" for result in made]
    assert codes == ["ok", "bad_audio", "bad_audio", "engine_failed", "ok", "engine_failed"]
    assert [result.status for result in made if isinstance(result, ServiceError)] == [500] * 4
    said = caplog.text + "".join(str(result.body()) for result in made if isinstance(result, ServiceError))
    assert "RuntimeError" in said
    assert "test_cloning.py" in said
    assert "secret" not in said


def test_a_failed_call_fails_every_utterance_in_it():
    made = speak(RecordingEngine(), [utterance("fine"), utterance("crash"), utterance("later")], None, 2)
    assert [isinstance(result, ServiceError) for result in made] == [True, True, False]


def test_a_part_that_is_silent_fails_the_whole():
    engine = RecordingEngine()
    text = f"{'x' * 499}. mute"
    made = speak(engine, [utterance(text)], None, 4)
    assert engine.batches[0][-1] == "mute"
    assert isinstance(made[0], ServiceError)
    assert made[0].code == "bad_audio"
