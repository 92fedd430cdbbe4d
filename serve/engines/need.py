"""How much memory the engine needs for the most that one request may ask of it at once."""

from __future__ import annotations

import numpy as np

from serve.engines.engine import Engine, Piece
from serve.memory import give_back, measure_peak
from serve.speech.audio import MOST_KEPT, Sound

# A batch of eight needs a tenth more than one piece: the codec makes one piece after the other.
FOR_BATCHES = 1.125
FRAMES = 4


def measure_need(engine: Engine, seconds: float) -> int | None:
    """Bytes that it took at most to encode a reference of so many seconds and to speak after it; None if unknown."""
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, round(seconds * MOST_KEPT)).astype(np.float32)

    def work() -> None:
        prompt = engine.prompt(Sound(noise, MOST_KEPT, ""), "noise")
        engine.run([Piece("Warm.", "auto", prompt, FRAMES)], 0, lambda *_: None)

    work()  # the first time it is slow, and loads much of the libraries
    give_back()
    peak = measure_peak(work)
    return None if peak is None else round(peak * FOR_BATCHES)
