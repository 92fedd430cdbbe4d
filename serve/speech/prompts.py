"""Voices that were encoded before: encoding one takes seconds on a small GPU, and most callers use few."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from serve.speech.audio import Sound
from serve.speech.observer import Observer

if TYPE_CHECKING:
    from serve.engines.engine import Prompt

Key = tuple[str, str | None]
"""The digest of the audio, and the transcript: None for the likeness alone."""


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
        self._coming: dict[Key, asyncio.Task[Prompt]] = {}
        self._size = 0

    async def get(self, sound: Sound, text: str | None) -> Prompt:
        """The prompt of a reference, encoded once however many ask at the same time.

        Raises:
            ServiceError: it cannot be encoded.
        """
        key = (sound.digest, text)
        kept = self._kept.get(key)
        self._observer.cache(hit=kept is not None)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        if key not in self._coming:
            task = asyncio.get_running_loop().create_task(self._make(key, sound))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to hear it
            self._coming[key] = task
        # One who leaves must not take it from the others who wait.
        return await asyncio.shield(self._coming[key])

    async def _make(self, key: Key, sound: Sound) -> Prompt:
        try:
            prompt = await self._encode(sound, key[1])
        finally:
            del self._coming[key]
        if prompt.size <= self._budget:
            self._kept[key] = prompt
            self._size += prompt.size
        while self._size > self._budget:
            _, oldest = self._kept.popitem(last=False)
            self._size -= oldest.size
        self._observer.cache_size(self._size, len(self._kept))
        return prompt
