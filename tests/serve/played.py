"""An engine that does what its texts say, so that a test decides what happens."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping

import numpy as np

from serve.engines.engine import EngineLostError, OutOfMemoryError, Prompt, TooLongError
from serve.image import Attention

PART = 100  # samples of what is said at once


class PlayedEngine:
    """Says each piece in two parts of 0.5; words in the text change that.

    ``mute``, ``nan``, ``empty``: other sound. ``crash``, ``lost``, ``long``: an error. ``endless``: capped.
    ``once``: the first time only. ``late``: the fault comes after the first part. ``wait``: nothing goes on before
    ``gate`` is set. ``steps``: each part is heard before the next is made.
    """

    unfit: Mapping[Attention, str] = {}

    def __init__(self, fits: int = 64) -> None:
        self.frames = 0
        self.fits = fits
        self.batches: list[list[str]] = []
        self.seeds: list[int | None] = []
        self.prompts: list[str | None] = []
        self.gate = threading.Event()
        self.unwanted: list[str] = []
        self._seen: Counter[str] = Counter()

    def load(self, plan):
        raise NotImplementedError

    def warm(self):
        raise NotImplementedError

    def prompt(self, sound, text):
        self.prompts.append(text)
        if text == "no prompt":
            raise ValueError("secret transcript")
        return Prompt(text, 100)

    def run(self, batch, seed, deliver):
        self.batches.append([piece.text for piece in batch])
        self.seeds.append(seed)
        if any("wait" in piece.text for piece in batch):
            self.gate.wait(10)
        if len(batch) > self.fits:
            raise OutOfMemoryError("too much")
        for piece in batch:
            self._say(piece, deliver)

    def _say(self, piece, deliver):
        text = piece.text
        self._seen[text] += 1
        faulty = "once" not in text or self._seen[text] == 1
        value = {"mute": 0.0, "nan": np.nan}.get(next((w for w in ("mute", "nan") if w in text and faulty), ""), 0.5)
        if "late" in text:
            self._sound(piece, 0.5, deliver)
        if "crash" in text:
            raise RuntimeError("secret text")
        if "long" in text:
            raise TooLongError("5000 of 4096")
        if "lost" in text:
            raise EngineLostError("device-side assert")
        if "empty" not in text:
            for _ in range(2):
                self._sound(piece, value, deliver)
        deliver(piece, None, "capped" if "endless" in text and faulty else "done")

    def _sound(self, piece, value, deliver):
        self.frames += 1
        deliver(piece, np.full(PART, value, np.float32), None)
        if "steps" in piece.text:
            time.sleep(0.1)

    def cancel(self, piece):
        self.unwanted.append(piece.text)


class Nobody:
    """Counts nothing."""

    def enqueued(self, count: int) -> None: ...

    def dequeued(self, count: int) -> None: ...

    def batch(self, size: int) -> None: ...

    def first_audio(self, seconds: float) -> None: ...

    def spoken(self, audio_s: float, wall_s: float) -> None: ...

    def cache(self, *, hit: bool) -> None: ...

    def cache_size(self, size: int, entries: int) -> None: ...

    def cancelled(self) -> None: ...
