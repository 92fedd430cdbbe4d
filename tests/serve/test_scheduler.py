"""The queue before the engine: batches, turns, seeds, memory, and its end."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from serve.engines.engine import Piece, Prompt
from serve.errors import ServiceError
from serve.logs import OneLine, working_for
from serve.speech.scheduler import Limits, Scheduler
from serve.speech.turns import Take
from tests.serve.played import Nobody, PlayedEngine


@asynccontextmanager
async def scheduler_of(engine, batch=4, lost=None):
    with ThreadPoolExecutor(1) as thread:
        yield Scheduler(engine, thread, Limits(batch, 0.01), Nobody(), [].append if lost is None else lost.append)
        engine.gate.set()


def take(text, client="a", seed=None):
    return Take(Piece(text, "auto", Prompt(None, 0), 10), client, seed)


async def end_of(take):
    """The take's outcome or error, after all its sound."""
    while not isinstance(event := await asyncio.wait_for(take.events.get(), 10), str | ServiceError):
        pass
    return event


async def ends_of(takes):
    return [await end_of(take) for take in takes]


def test_what_comes_within_the_window_shares_a_batch():
    async def main():
        engine = PlayedEngine()
        async with scheduler_of(engine) as scheduler:
            takes = [take("one"), take("two", "b")]
            scheduler.submit(takes[:1])
            await asyncio.sleep(0)
            scheduler.submit(takes[1:])
            assert await ends_of(takes) == ["done", "done"]
        assert engine.batches == [["one", "two"]]

    asyncio.run(main())


def test_clients_take_turns_however_much_one_of_them_sends():
    async def main():
        engine = PlayedEngine()
        async with scheduler_of(engine, batch=2) as scheduler:
            takes = [take(f"a{number}") for number in range(6)] + [take("b0", "b"), take("b1", "b"), take("c0", "c")]
            scheduler.submit(takes)
            assert set(await ends_of(takes)) == {"done"}
        assert engine.batches == [["a0", "b0"], ["c0", "a1"], ["b1", "a2"], ["a3", "a4"], ["a5"]]

    asyncio.run(main())


def test_a_seed_runs_alone_and_holds_up_nobody_for_good():
    async def main():
        engine = PlayedEngine()
        async with scheduler_of(engine) as scheduler:
            takes = [take("a0"), take("b0", "b", seed=7), take("c0", "c"), take("b1", "b", seed=8), take("a1")]
            scheduler.submit(takes)
            await ends_of(takes)
        assert engine.batches == [["a0", "c0", "a1"], ["b0"], ["b1"]]
        assert engine.seeds == [None, 7, 8]

    asyncio.run(main())


def test_a_batch_that_does_not_fit_is_made_in_smaller_ones(caplog):
    async def main():
        engine = PlayedEngine(fits=2)
        async with scheduler_of(engine, batch=5) as scheduler:
            takes = [take(str(number)) for number in range(5)]
            scheduler.submit(takes)
            assert await ends_of(takes) == ["done"] * 5
            again = [take(str(number)) for number in range(5, 9)]
            scheduler.submit(again)
            await ends_of(again)
        assert [len(batch) for batch in engine.batches] == [5, 2, 2, 1, 2, 2]
        assert engine.batches[1] == ["0", "1"]

    asyncio.run(main())
    assert "at most 2" in caplog.text


def test_one_piece_that_does_not_fit_is_told_so():
    async def main():
        async with scheduler_of(PlayedEngine(fits=0)) as scheduler:
            alone = take("one")
            scheduler.submit([alone])
            error = await end_of(alone)
        assert (error.status, error.code) == (503, "out_of_memory")

    asyncio.run(main())


def test_an_engine_that_fails_fails_its_batch_alone_and_says_nothing_of_the_text(caplog):
    async def main():
        async with scheduler_of(PlayedEngine(), batch=2) as scheduler:
            takes = [take("fine"), take("crash"), take("later")]
            scheduler.submit(takes)
            return await ends_of(takes)

    ends = asyncio.run(main())
    assert ends[0] == "done"  # it was said before the other crashed
    assert (ends[1].status, ends[1].code) == (500, "engine_failed")
    assert ends[2] == "done"
    said = caplog.text + str(ends[1].body())
    assert "RuntimeError" in said
    assert "played.py" in said
    assert "secret" not in said


def test_what_the_engine_has_no_room_for_is_the_callers_fault(caplog):
    async def main():
        async with scheduler_of(PlayedEngine(), batch=1) as scheduler:
            takes = [take("long"), take("later")]
            scheduler.submit(takes)
            return await ends_of(takes)

    error, later = asyncio.run(main())
    assert (error.status, error.code) == (422, "too_long")
    assert "5000 of 4096" in error.message
    assert later == "done"
    assert not caplog.records


class Talkative(PlayedEngine):
    """Says in the log, from the engine's thread, what it was called for."""

    def prompt(self, sound, text):
        logging.getLogger("engine").warning("prompt %s", text)
        return super().prompt(sound, text)

    def run(self, batch, seed, deliver):
        logging.getLogger("engine").warning("run %s", [piece.text for piece in batch])
        super().run(batch, seed, deliver)


def test_lines_carry_the_ids_of_the_requests_that_they_are_about(caplog):
    caplog.handler.setFormatter(OneLine("%(message)s"))

    async def main():
        engine = Talkative()
        async with scheduler_of(engine, batch=2) as scheduler:
            with working_for(["first"]):
                takes = [take("wait", seed=1), take("crash", "b")]
                await scheduler.prompt(None, "text")
                scheduler.submit(takes)
            await asyncio.sleep(0)
            with working_for(["second"]):
                takes.append(take("later", "c"))
            scheduler.submit(takes[2:])
            takes.append(take("nobody's", seed=2))
            scheduler.submit(takes[3:])
            engine.gate.set()
            await ends_of(takes)

    asyncio.run(main())
    lines = [line.partition(" at ")[0] for line in caplog.text.splitlines()]
    assert lines[:3] == ["prompt text [first]", "run ['wait'] [first]", "run ['crash', 'later'] [first second]"]
    assert "the engine failed: RuntimeError" in lines[3]
    assert caplog.text.splitlines()[3].endswith(" [first second]")
    assert lines[4:] == ['run ["nobody\'s"]']


def test_a_lost_engine_ends_everything_once():
    async def main():
        lost = []
        async with scheduler_of(PlayedEngine(), batch=1, lost=lost) as scheduler:
            takes = [take("lost"), take("waits"), take("waits, too", "b")]
            scheduler.submit(takes)
            ends = await ends_of(takes)
            assert {(error.status, error.code) for error in ends} == {(503, "engine_lost")}
            with pytest.raises(ServiceError, match="will restart"):
                scheduler.submit([take("more")])
        assert len(lost) == 1

    asyncio.run(main())


def test_what_nobody_wants_leaves_the_queue_or_the_engine():
    async def main():
        engine = PlayedEngine()
        async with scheduler_of(engine, batch=1) as scheduler:
            running, queued = take("wait"), take("queued")
            scheduler.submit([running, queued])
            await asyncio.sleep(0.1)
            assert scheduler.waiting == 1
            for one in (running, queued):
                scheduler.cancel(one)
                scheduler.cancel(one)
            assert scheduler.waiting == 0
            assert scheduler.busy
            assert await ends_of([running, queued]) == ["cancelled", "cancelled"]
        assert engine.batches == [["wait"]]
        assert engine.unwanted == ["wait"]
        assert running.events.empty()

    asyncio.run(main())


def test_what_nobody_wants_before_the_engine_has_begun_is_not_begun():
    async def main():
        engine = PlayedEngine()
        async with scheduler_of(engine) as scheduler:
            scheduler._thread.submit(engine.gate.wait, 10)  # a voice that is encoded, say
            unwanted, wanted = take("unwanted"), take("wanted")
            scheduler.submit([unwanted, wanted])
            await asyncio.sleep(0.1)
            assert (scheduler.busy, scheduler.waiting) == (True, 0)
            scheduler.cancel(unwanted)
            engine.gate.set()
            assert await ends_of([unwanted, wanted]) == ["cancelled", "done"]
            only = take("nobody's")
            engine.gate.clear()
            scheduler._thread.submit(engine.gate.wait, 10)
            scheduler.submit([only])
            await asyncio.sleep(0.1)
            scheduler.cancel(only)
        assert engine.batches == [["wanted"]]

    asyncio.run(main())


def test_a_second_end_changes_nothing():
    async def main():
        async with scheduler_of(PlayedEngine()) as scheduler:
            scheduler.close(ServiceError(503, "engine_lost", "gone"))
            scheduler.close(ServiceError(503, "draining", "bye"))
            with pytest.raises(ServiceError, match="gone"):
                scheduler.submit([take("more")])

    asyncio.run(main())


def test_closing_ends_what_runs_and_what_waits():
    async def main():
        engine = PlayedEngine()
        async with scheduler_of(engine, batch=1) as scheduler:
            takes = [take("wait"), take("queued", "b")]
            scheduler.submit(takes)
            await asyncio.sleep(0.1)
            scheduler.close(ServiceError(503, "draining", "bye"))
            assert [error.code for error in await ends_of(takes)] == ["draining", "draining"]
        assert engine.unwanted[0] == "queued" or "wait" in engine.unwanted

    asyncio.run(main())


def test_pieces_whose_voices_are_encoded_now_share_the_batch():
    async def main():
        engine = PlayedEngine()
        async with scheduler_of(engine) as scheduler:

            async def say(text):
                one = Take(Piece(text, "auto", await scheduler.prompt(None, text), 10), "a")
                scheduler.submit([one])
                return await end_of(one)

            assert await asyncio.gather(*map(say, ["one", "two", "three"])) == ["done"] * 3
        assert max(map(len, engine.batches)) >= 2
        assert sum(map(len, engine.batches)) == 3

    asyncio.run(main())
