"""From what a caller asked for to speech: pieces in the queue, their sound in order, checked before it leaves."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TypeVar

import numpy as np

from serve.errors import ServiceError
from serve.speech.audio import OUTPUT_RATE, Samples, Sound, bad_audio
from serve.speech.prompts import Prompts
from serve.speech.scheduler import Scheduler
from serve.speech.text import can_be_spoken, frame_cap, split_parts
from serve.speech.turns import Take

T = TypeVar("T")
log = logging.getLogger(__name__)
# Of the second try of a piece that ran away. Another seed, and the same one each time.
OTHER_SEED = 1_000_003
MOST_SEED = 2**63


@dataclass(frozen=True, slots=True)
class Reference:
    """A voice: decoded audio and what is said in it; no text for its likeness alone, without its manner."""

    sound: Sound
    text: str | None


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something to say: cleaned text, the model's name of its language (or ``auto``), and the voice."""

    text: str
    language: str
    reference: Reference


@dataclass(frozen=True, slots=True)
class Wish:
    """How an utterance is wanted.

    Attributes:
        client: whom shares of the engine are fair between.
        seed: for the same sound each time; its pieces run alone.
        stream: sound while it is made.
        deadline: ``time.monotonic`` after which nobody waits any more.
        may_run_away: the model does not know when to stop (random weights): reaching the cap is no fault.
        owner: whose encoded voices are used and kept; "" for those of everyone.
    """

    client: str
    seed: int | None
    stream: bool
    deadline: float
    may_run_away: bool = False
    owner: str = ""


async def speak(
    scheduler: Scheduler, prompts: Prompts, utterance: Utterance, wish: Wish
) -> AsyncGenerator[Samples, None]:
    """Say an utterance; all its pieces are in the queue at once, and share batches.

    Yields:
        Samples: 24 kHz, float32, shape (n,), finite; the first are not all zeros.

    Raises:
        ServiceError: the engine failed, or made no sound; 504 the deadline has passed.
    """
    from serve.engines.engine import Piece  # noqa: PLC0415 - torch comes with it, and is there by now

    # A line of dashes is no speech: the model would make noise of it until it is cut off, and all of the text with it.
    said = [part for part in split_parts(utterance.text, utterance.language) if can_be_spoken(part.text)]
    reference = utterance.reference
    prompt = await _in_time(prompts.get(wish.owner, reference.sound, reference.text), wish)
    takes = [
        Take(
            Piece(part.text, utterance.language, prompt, frame_cap(part.text), wish.stream),
            wish.client,
            None if wish.seed is None else (wish.seed + index) % MOST_SEED,
        )
        for index, part in enumerate(said)
    ]
    talk = _Talk(scheduler, takes, wish)
    scheduler.submit(takes)
    try:
        for index, part in enumerate(said):
            async for samples in talk.piece(index):
                yield samples
            if part.pause_s and index + 1 < len(said):
                yield np.zeros(round(part.pause_s * OUTPUT_RATE), np.float32)
    finally:
        talk.leave()


class _Talk:
    """The takes of one utterance."""

    def __init__(self, scheduler: Scheduler, takes: Sequence[Take], wish: Wish) -> None:
        self._scheduler = scheduler
        self._takes = list(takes)
        self._wish = wish

    def leave(self) -> None:
        """Want none of them any more."""
        for take in self._takes:
            self._scheduler.cancel(take)

    async def piece(self, index: int) -> AsyncGenerator[Samples, None]:
        """The sound of one piece; once more where it ran away or was silent before any of it had left."""
        try:
            async for samples in self._heard(self._takes[index]):
                yield samples
        except _BadTakeError as bad:
            if bad.left:
                raise bad.error from None
            log.info("piece %s of %s is made once more: %s", index + 1, len(self._takes), bad.error.code)
            first = self._takes[index]
            other = None if first.seed is None else (first.seed + OTHER_SEED) % MOST_SEED
            self._takes[index] = Take(replace(first.piece), first.client, other)
            self._scheduler.submit([self._takes[index]])
        else:
            return
        try:
            async for samples in self._heard(self._takes[index]):
                yield samples
        except _BadTakeError as bad:
            raise bad.error from None

    async def _heard(self, take: Take) -> AsyncGenerator[Samples, None]:
        """The samples of a take, held back until one of them is not zero."""
        held: list[Samples] = []
        left = False
        while True:
            # What was made in time may be taken later.
            made = not take.events.empty()
            event = take.events.get_nowait() if made else await _in_time(take.events.get(), self._wish)
            if isinstance(event, ServiceError):
                raise event
            if isinstance(event, str):
                break
            take.taken(event)
            if not np.isfinite(event).all():
                self._scheduler.cancel(take)
                raise _BadTakeError(bad_audio("non-finite samples"), left=left)
            held.append(event)
            # A streamed piece leaves part by part; one that is whole by now is judged whole.
            if take.piece.stream and (left or (event.any() and not take.ended)):
                for samples in held:
                    yield samples
                held, left = [], True
        if event == "capped" and not self._wish.may_run_away:
            raise _BadTakeError(_ran_away(), left=left)
        if not left and not any(samples.any() for samples in held):
            raise _BadTakeError(bad_audio("silence" if held else "no samples"), left=left)
        for samples in held:
            yield samples


class _BadTakeError(Exception):
    """A take that must not be heard; ``left``: some of it was."""

    def __init__(self, error: ServiceError, *, left: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.left = left


async def _in_time(waiting: Awaitable[T], wish: Wish) -> T:
    try:
        return await asyncio.wait_for(waiting, wish.deadline - time.monotonic())
    except TimeoutError:
        raise ServiceError(
            HTTPStatus.GATEWAY_TIMEOUT,
            "deadline",
            "the speech was not made within the time that a request has (WW_DEADLINE_S)",
            remedy="send a shorter text, or try again when less is going on",
        ) from None


def _ran_away() -> ServiceError:
    return ServiceError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "runaway",
        "the model did not come to an end within twice the time that the text takes",
        remedy="try again, with another seed if one was given, or with a clearer reference",
    )
