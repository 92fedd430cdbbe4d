"""Utterances: pieces and their order, seeds, second tries, and what must not be heard."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serve.errors import ServiceError
from serve.speech import cloning
from serve.speech.audio import OUTPUT_RATE, Sound
from serve.speech.cloning import Reference, Utterance, Wish, speak
from serve.speech.prompts import Prompts
from serve.speech.scheduler import Limits, Scheduler
from serve.speech.text import SENTENCE_PAUSE_S
from tests.serve.played import PART, Nobody, PlayedEngine

LONG = "This sentence has exactly fifty characters in it. " * 25  # three pieces
PAUSE = round(SENTENCE_PAUSE_S * OUTPUT_RATE)


def utterance(text, reference="a", digest="1"):
    return Utterance(text, "english", Reference(Sound(np.ones(1, np.float32), 24_000, digest), reference))


def say(engine, *utterances, seed=None, stream=False, seconds=10.0, budget=10_000, may_run_away=False, pause_s=0.0):
    """Each utterance's parts, or its error behind them; all at the same time; ``pause_s`` between its parts."""

    async def one(scheduler, prompts, spoken):
        parts = []
        wish = Wish("client", seed, stream, time.monotonic() + seconds, may_run_away)
        try:
            async for samples in speak(scheduler, prompts, spoken, wish):
                parts.append(samples)
                await asyncio.sleep(pause_s)
        except ServiceError as error:
            parts.append(error)
        return parts

    async def main():
        with ThreadPoolExecutor(1) as thread:
            scheduler = Scheduler(engine, thread, Limits(8, 0.01), Nobody(), lambda error: None)
            prompts = Prompts(scheduler.prompt, budget, Nobody())
            try:
                return await asyncio.gather(*(one(scheduler, prompts, spoken) for spoken in utterances))
            finally:
                engine.gate.set()

    return asyncio.run(main())


def sizes(parts):
    return [part.size for part in parts]


def test_the_pieces_of_a_text_share_a_batch_and_are_heard_in_order_with_pauses():
    engine = PlayedEngine()
    (parts,) = say(engine, utterance(LONG))
    assert [len(batch) for batch in engine.batches] == [3]
    assert engine.prompts == ["a"]
    assert sizes(parts) == [PART, PART, PAUSE, PART, PART, PAUSE, PART, PART]
    assert not parts[2].any()


def test_pieces_without_a_letter_or_digit_are_passed_over():
    engine = PlayedEngine()
    (parts,) = say(engine, utterance(f"{'One. ' * 30}\n{'- ' * 700}\n{'Two. ' * 30}\n{'…' * 1200}"))
    assert [text.split()[0] for text in engine.batches[0]] == ["One.", "Two."]
    assert sum(map(len, engine.batches)) == 2
    assert [part.size for part in parts if part.any()] == [PART] * 4
    assert parts[-1].any()


def test_the_same_words_in_other_audio_are_another_prompt():
    engine = PlayedEngine()
    say(engine, *(utterance("x", digest=digest) for digest in ("1", "2", "1")))
    assert engine.prompts == ["a", "a"]


def test_prompts_over_the_budget_are_not_kept():
    engine = PlayedEngine()

    async def main():
        async def encode(sound, text):
            return engine.prompt(sound, text)

        prompts = Prompts(encode, 250, Nobody())
        for digest in ("1", "2", "1", "3", "1", "2"):  # two of 100 bytes fit: 3 drives 2 out
            await prompts.get("owner", Sound(np.ones(1, np.float32), 24_000, digest), digest)

    asyncio.run(main())
    assert engine.prompts == ["1", "2", "3", "2"]


def test_a_voice_is_not_encoded_when_everyone_who_wanted_it_has_left():
    engine = PlayedEngine()

    async def main():
        with ThreadPoolExecutor(1) as thread:
            scheduler = Scheduler(engine, thread, Limits(8, 0.0), Nobody(), lambda error: None)
            prompts = Prompts(scheduler.prompt, 10_000, Nobody())

            def ask(digest):
                return asyncio.ensure_future(
                    prompts.get("owner", Sound(np.ones(1, np.float32), 24_000, digest), digest)
                )

            thread.submit(engine.gate.wait, 10)
            left, stays, again = [ask("1"), ask("2"), ask("2"), ask("3")], ask("1"), None
            await asyncio.sleep(0.05)
            for one in left:
                one.cancel()
            await asyncio.wait(left)
            again = ask("3")
            await asyncio.sleep(0.05)
            assert len(scheduler._prompts) == 2
            engine.gate.set()
            assert [(await one).value for one in (stays, again)] == ["1", "3"]
            assert (await ask("3")).value == "3"

    asyncio.run(main())
    assert sorted(engine.prompts) == ["1", "3"]


def test_pieces_of_a_seeded_text_run_alone_each_with_its_own_seed():
    engine = PlayedEngine()
    say(engine, utterance(LONG), seed=5)
    assert [len(batch) for batch in engine.batches] == [1, 1, 1]
    assert engine.seeds == [5, 6, 7]


@pytest.mark.parametrize(
    ("text", "code"),
    [("mute", "bad_audio"), ("nan", "bad_audio"), ("empty", "bad_audio"), ("endless steps", "runaway")],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_no_speech_is_tried_once_more_and_then_an_error(text, code, stream):
    engine = PlayedEngine()
    (parts,) = say(engine, utterance(text), stream=stream, seed=1)
    left = [part for part in parts if not isinstance(part, ServiceError)]
    if code == "runaway" and stream:  # its sound had left before it was known
        assert sizes(left) == [PART, PART]
        assert len(engine.batches) == 1
    else:
        assert left == []
        assert engine.seeds == [1, 1 + cloning.OTHER_SEED]
    assert (parts[-1].status, parts[-1].code) == (500, code)


@pytest.mark.parametrize("fault", ["mute", "nan", "endless"])
def test_the_second_try_is_heard_when_it_is_good(fault):
    engine = PlayedEngine()
    (parts,) = say(engine, utterance(f"{fault} once"))
    assert sizes(parts) == [PART, PART]
    assert all((part == 0.5).all() for part in parts)
    assert len(engine.batches) == 2


def test_a_later_piece_that_has_run_away_before_its_turn_is_tried_again():
    engine = PlayedEngine()

    async def main():
        with ThreadPoolExecutor(1) as thread:
            scheduler = Scheduler(engine, thread, Limits(2, 0.0), Nobody(), lambda error: None)
            prompts = Prompts(scheduler.prompt, 1000, Nobody())
            wish = Wish("client", None, True, time.monotonic() + 10)
            parts = speak(scheduler, prompts, utterance(f"{'x' * 480}. endless once {'y' * 30}"), wish)
            heard = [await anext(parts)]
            await asyncio.sleep(0.2)  # the second piece, in the same batch, has ended by now
            heard += [samples async for samples in parts]
            return heard

    assert sizes(asyncio.run(main())) == [PART, PART, PAUSE, PART, PART]
    assert [len(batch) for batch in engine.batches] == [2, 1]


def test_random_weights_never_know_when_to_stop():
    (parts,) = say(PlayedEngine(), utterance("endless"), may_run_away=True)
    assert sizes(parts) == [PART, PART]


def test_what_fails_fails_alone():
    texts = ["fine", "mute", "fine too"]
    *said, failed = say(PlayedEngine(), *map(utterance, texts), utterance("x", "no prompt"))
    assert [isinstance(parts[-1], ServiceError) for parts in said] == [False, True, False]
    assert (failed[-1].status, failed[-1].code) == (500, "engine_failed")
    assert "secret" not in str(failed[-1].body())


def test_a_piece_that_is_silent_fails_the_whole():
    (parts,) = say(PlayedEngine(), utterance(f"{'x' * 499}. mute"))
    assert parts[-1].code == "bad_audio"


def test_what_is_made_in_time_may_be_taken_later():
    # A long text may take longer to hear than to make, and a player takes it as it plays.
    (parts,) = say(PlayedEngine(), utterance(LONG), stream=True, seconds=0.5, pause_s=0.2)
    assert sizes(parts) == [PART, PART, PAUSE, PART, PART, PAUSE, PART, PART]


def test_a_request_has_a_deadline_and_its_pieces_are_cancelled():
    engine = PlayedEngine()
    (parts,) = say(engine, utterance("wait"), seconds=0.2)
    assert (parts[-1].status, parts[-1].code) == (504, "deadline")
    assert engine.unwanted == ["wait"]


def test_who_leaves_a_stream_stops_the_engine():
    engine = PlayedEngine()

    async def main():
        with ThreadPoolExecutor(1) as thread:
            scheduler = Scheduler(engine, thread, Limits(1, 0.0), Nobody(), lambda error: None)
            prompts = Prompts(scheduler.prompt, 1000, Nobody())
            wish = Wish("client", None, True, time.monotonic() + 10)
            text = "x" * 480 + ". " + "wait " * 99
            parts = speak(scheduler, prompts, utterance(text), wish)
            assert (await anext(parts)).size == PART
            await asyncio.sleep(0.1)  # the second piece runs now
            await parts.aclose()
            engine.gate.set()
            assert scheduler.waiting == 0

    asyncio.run(main())
    assert len(engine.unwanted) == 1
    assert "wait" in engine.unwanted[0]
