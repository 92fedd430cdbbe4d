"""One batch in the engine ``qwen``: frames of codes as the talker makes them, and their sound."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from serve.engines.engine import Deliver, Outcome, Piece
from serve.speech.audio import OUTPUT_RATE, Samples

# A streamed piece is made to sound after 1, 2, 4, ... frames: the first soon, later ones with less waste.
LARGEST_STEP = 16
# What the codec hears before a part that it decodes alone: 8 s. qwen-tts takes 25 frames between parts of 300; its
# attention looks back 72 a layer, and what is nearer to the whole has fewer clicks.
CONTEXT = 100


class StopRunError(Exception):
    """Nobody waits for another frame of this batch."""


class Codec:
    """The 12 Hz codec's decoder."""

    def __init__(self, tokenizer: Any) -> None:
        """Take qwen-tts's wrapper of it.

        Raises:
            ValueError: it makes another rate than ours.
        """
        self._tokenizer = tokenizer
        rate = int(tokenizer.get_output_sample_rate())
        if rate != OUTPUT_RATE:
            raise ValueError(f"the codec makes {rate} Hz, not {OUTPUT_RATE}")
        self.frame = int(tokenizer.get_decode_upsample_rate())  # samples

    def whole(self, reference: torch.Tensor | None, codes: torch.Tensor) -> Samples:
        """The sound of ``codes`` (frames, codebooks) after a reference, whose own is cut off: as qwen-tts does it."""
        heard = codes if reference is None else torch.cat([reference.to(codes.device), codes])
        return self._decode(heard)[(0 if reference is None else len(reference)) * self.frame :]

    def part(self, before: torch.Tensor, codes: torch.Tensor) -> Samples:
        """The sound of ``codes`` alone, after at most ``CONTEXT`` frames of what came before."""
        context = before[-CONTEXT:]
        return self._decode(torch.cat([context.to(codes.device), codes]))[len(context) * self.frame :]

    def _decode(self, codes: torch.Tensor) -> Samples:
        (wave,), _rate = self._tokenizer.decode([{"audio_codes": codes}])
        return np.asarray(wave, dtype=np.float32)


@dataclass(slots=True)
class _Take:
    """A piece of the batch: what was given of it."""

    piece: Piece
    cap: int
    sent: int = 0
    step: int = 1
    ended: bool = False


@dataclass
class Run:
    """The batch.

    Attributes:
        codec: that makes codes sound.
        end: the first code of a frame that is none: the sequence has ended before it.
        batch: the pieces.
        ceiling: the most frames that the checkpoint allows.
        deliver: takes the sound.
        unwanted: pieces that nobody wants any more; others are in it, too, and it grows in another thread.
    """

    codec: Codec
    end: int
    batch: Sequence[Piece]
    ceiling: int
    deliver: Deliver
    unwanted: Container[Piece]
    _codes: list[torch.Tensor] = field(default_factory=list)
    _takes: list[_Take] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._takes = [_Take(piece, min(piece.max_frames, self.ceiling)) for piece in self.batch]

    @property
    def most_frames(self) -> int:
        """After which every piece has ended."""
        return max(take.cap for take in self._takes)

    def limit(self, frames: int) -> None:
        """Cut every piece off after so many frames at the latest."""
        for take in self._takes:
            take.cap = min(take.cap, frames)

    def frame(self, codes: torch.Tensor) -> None:
        """Take the next frame of every sequence.

        Args:
            codes: integers, shape (batch, codebooks).

        Raises:
            StopRunError: that was the last that anybody waits for.
        """
        self._codes.append(codes)
        made = len(self._codes)
        firsts = codes[:, 0].tolist()
        for index, take in enumerate(self._takes):
            if take.ended:
                continue
            if take.piece in self.unwanted:
                self._end(take, "cancelled")
            elif firsts[index] == self.end:
                self._sound(index, made - 1, "done")
            elif made >= take.cap:
                self._sound(index, made, "capped")
            elif take.piece.stream and made - take.sent >= take.step:
                self._sound(index, made, None)
        if all(take.ended for take in self._takes):
            raise StopRunError

    def finish(self) -> None:
        """The model has ended every sequence that had not ended before."""
        for index, take in enumerate(self._takes):
            if not take.ended:
                self._sound(index, len(self._codes), "done")

    def _sound(self, index: int, until: int, outcome: Outcome | None) -> None:
        """Deliver the frames up to ``until`` that were not delivered yet."""
        take = self._takes[index]
        if until > take.sent:
            reference = take.piece.prompt.value.ref_code
            start = max(0, take.sent - CONTEXT) if take.piece.stream else 0
            codes = torch.stack([frame[index] for frame in self._codes[start:until]])
            if take.piece.stream:
                before, made = codes[: take.sent - start], codes[take.sent - start :]
                if reference is not None and len(before) < CONTEXT:
                    before = torch.cat([reference.to(before.device), before])
                samples = self.codec.part(before, made)
            else:
                samples = self.codec.whole(reference, codes)
            take.sent, take.step = until, min(2 * take.step, LARGEST_STEP)
            self.deliver(take.piece, samples, None)
        if outcome is not None:
            self._end(take, outcome)

    def _end(self, take: _Take, outcome: Outcome) -> None:
        take.ended = True
        self.deliver(take.piece, None, outcome)
