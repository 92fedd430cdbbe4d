"""What the speaking side tells whoever counts: the metrics."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Is told what happens, in the event loop. Pieces are parts of texts; a request has one or several."""

    def enqueued(self, count: int) -> None:
        """Pieces entered the queue."""

    def dequeued(self, count: int) -> None:
        """Pieces left the queue, for the engine or for good."""

    def batch(self, size: int) -> None:
        """The engine begins a batch of so many pieces."""

    def first_audio(self, seconds: float) -> None:
        """A request's first sound is made, so long after the request was taken in."""

    def spoken(self, audio_s: float, wall_s: float) -> None:
        """A request is done: seconds of sound, and seconds that it took."""

    def cache(self, *, hit: bool) -> None:
        """A reference was looked up among the prompts."""

    def cache_size(self, size: int, entries: int) -> None:
        """The prompts that are kept: bytes, and how many."""

    def cancelled(self) -> None:
        """A piece is not wanted any more."""
