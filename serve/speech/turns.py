"""Whose turn it is: pieces that wait for the engine, fair between clients."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from serve.errors import ServiceError
from serve.logs import request_ids
from serve.pool import Holding, current

if TYPE_CHECKING:  # these import torch
    from serve.engines.engine import Outcome, Piece
    from serve.speech.audio import Samples


@dataclass(eq=False, slots=True)
class Take:
    """One attempt to say a piece.

    Attributes:
        piece: what to say.
        client: whom shares are fair between.
        seed: of a take that runs alone; None for one that may share a batch.
        events: samples, then the outcome, or the error that came in its place.
        requests: the id of the request that it is made for, so that lines of the log carry it.
        held: what counts its sound until somebody takes it.
    """

    piece: Piece
    client: str
    seed: int | None = None
    events: asyncio.Queue[Samples | Outcome | ServiceError] = field(default_factory=asyncio.Queue)
    begun: bool = False
    ended: bool = False
    requests: tuple[str, ...] = field(default_factory=request_ids.get)
    held: Holding | None = field(default_factory=current.get)

    def give(self, samples: Samples) -> None:
        """Let whoever waits for it have sound.

        Raises:
            ServiceError: there is no room for it.
        """
        if self.held is not None:
            self.held.add(samples.nbytes)
        self.events.put_nowait(samples)

    def taken(self, samples: Samples) -> None:
        """Whoever waited has it, and counts it himself."""
        if self.held is not None:
            self.held.sub(samples.nbytes)

    def end(self, how: Outcome | ServiceError) -> None:
        """End it, once."""
        if not self.ended:
            self.ended = True
            self.events.put_nowait(how)


class Turns:
    """Takes that wait, a line for each client; who had a turn goes to the end of the clients."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[Take]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def add(self, takes: Iterable[Take]) -> None:
        """Let them wait, those of one client one after the other."""
        for take in takes:
            self._lines.setdefault(take.client, deque()).append(take)

    def put_back(self, takes: Iterable[Take]) -> None:
        """Let them wait before all others of their clients."""
        for take in reversed([*takes]):
            self._lines.setdefault(take.client, deque()).appendleft(take)

    def remove(self, take: Take) -> bool:
        """Let one wait no longer; whether it did."""
        line = self._lines.get(take.client)
        if line is None or take not in line:
            return False
        line.remove(take)
        if not line:
            del self._lines[take.client]
        return True

    def clear(self) -> list[Take]:
        """Let none wait; those that did."""
        waiting = [take for line in self._lines.values() for take in line]
        self._lines.clear()
        return waiting

    def next_batch(self, most: int) -> list[Take]:
        """One take of each client in turn, until there are ``most``; one with a seed comes alone."""
        batch: list[Take] = []
        passed: set[str] = set()
        while len(batch) < most:
            client = next((name for name in self._lines if name not in passed), None)
            if client is None:
                break
            line = self._lines[client]
            if batch and line[0].seed is not None:  # first in the next batch
                passed.add(client)
                continue
            batch.append(line.popleft())
            if line:
                self._lines.move_to_end(client)
            else:
                del self._lines[client]
            if batch[0].seed is not None:
                break
        return batch
