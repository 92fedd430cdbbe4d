"""Voices that were encoded before: encoding one takes seconds on a small GPU, and most callers use few.

Each owner finds only what was encoded for that owner: how long an answer takes, and the count of hits, would tell
others whether a reference and its transcript had been used. The memory is one for all of them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve.speech.audio import Sound
from serve.speech.observer import Observer

if TYPE_CHECKING:
    from serve.engines.engine import Prompt

Key = tuple[str, str, str | None]
"""The owner, the digest of the audio, and the transcript: None for the likeness alone."""


@dataclass(eq=False, slots=True)
class _Coming:
    """A prompt that is encoded now, and how many wait for it."""

    task: asyncio.Task[Prompt]
    waiting: int = 0


class Prompts:
    """The least recently used go first when the bytes are over the budget."""

    def __init__(
        self, encode: Callable[[Sound, str | None], Awaitable[Prompt]], budget: int, observer: Observer
    ) -> None:
        """Take what encodes, the most bytes that may be kept, and who counts."""
        self._encode = encode
        self._budget = budget
        self._observer = observer
        self._kept: OrderedDict[Key, Prompt] = OrderedDict()
        self._coming: dict[Key, _Coming] = {}
        self._size = 0

    async def get(self, owner: str, sound: Sound, text: str | None) -> Prompt:
        """The prompt of a reference, encoded once however many ask at the same time, and not when all of them leave.

        Args:
            owner: whom it is encoded for.
            sound: the voice.
            text: what is said in it; None for the likeness alone.

        Raises:
            ServiceError: it cannot be encoded.
        """
        key = (owner, sound.digest, text)
        kept = self._kept.get(key)
        self._observer.cache(hit=kept is not None)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        coming = self._coming.get(key)
        if coming is None:
            coming = self._coming[key] = _Coming(asyncio.get_running_loop().create_task(self._make(key, sound)))
        coming.waiting += 1
        try:
            # One who leaves must not take it from the others who wait.
            return await asyncio.shield(coming.task)
        finally:
            coming.waiting -= 1
            if not coming.waiting and self._coming.get(key) is coming:
                del self._coming[key]  # at once: whoever asks now must not get one that is cancelled
                coming.task.cancel()

    async def _make(self, key: Key, sound: Sound) -> Prompt:
        prompt = await self._encode(sound, key[2])
        if prompt.size <= self._budget:
            self._kept[key] = prompt
            self._size += prompt.size
        while self._size > self._budget:
            _, oldest = self._kept.popitem(last=False)
            self._size -= oldest.size
        self._observer.cache_size(self._size, len(self._kept))
        return prompt
