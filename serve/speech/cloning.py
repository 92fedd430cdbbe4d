"""From what a caller asked for to speech: pieces, prompts, batches, and joined samples."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

import numpy as np

from serve.engines.engine import Engine, Piece, Prompt
from serve.errors import ServiceError
from serve.logs import log_defect
from serve.speech.audio import Sound, check_made, encode_wav
from serve.speech.text import frame_cap, split_text

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reference:
    """A voice: decoded audio and what is said in it."""

    sound: Sound
    text: str


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something to say: cleaned text, the model's name of its language (or ``auto``), and the voice."""

    text: str
    language: str
    reference: Reference


def speak(
    engine: Engine, utterances: Sequence[Utterance], seed: int | None, max_batch: int
) -> list[bytes | ServiceError]:
    """Speak all utterances, in as few generate calls as ``max_batch`` allows.

    Args:
        engine: loaded.
        utterances: one or more; long texts are split, and their pieces share the batch.
        seed: for each generate call.
        max_batch: most pieces in one call.

    Returns:
        For each utterance a WAV file (24 kHz mono 16-bit), or the error that it met.
    """
    prompts: dict[tuple[str, str], Prompt | ServiceError] = {}
    pieces: list[tuple[int, Piece]] = []
    errors: dict[int, ServiceError] = {}
    for index, utterance in enumerate(utterances):
        key = (utterance.reference.sound.digest, utterance.reference.text)
        if key not in prompts:
            prompts[key] = _prompt(engine, utterance.reference)
        prompt = prompts[key]
        if isinstance(prompt, ServiceError):
            errors[index] = prompt
            continue
        pieces += [
            (index, Piece(part, utterance.language, prompt, frame_cap(part))) for part in split_text(utterance.text)
        ]
    made: dict[int, list[np.ndarray]] = {}
    for start in range(0, len(pieces), max_batch):
        group = pieces[start : start + max_batch]
        try:
            waves = engine.run([piece for _, piece in group], seed)
        except Exception as error:  # noqa: BLE001 - whatever an engine raises, the others' pieces go on
            errors |= dict.fromkeys((index for index, _ in group), _engine_failed(error))
            continue
        for (index, _), wave in zip(group, waves, strict=True):
            made.setdefault(index, []).append(wave)
    return [errors.get(index) or _wav(made[index]) for index in range(len(utterances))]


def _prompt(engine: Engine, reference: Reference) -> Prompt | ServiceError:
    try:
        return engine.prompt(reference.sound, reference.text)
    except Exception as error:  # noqa: BLE001 - see speak
        return _engine_failed(error)


def _wav(parts: Sequence[np.ndarray]) -> bytes | ServiceError:
    # Each part is checked by itself: silence in one would hide behind the others.
    try:
        for part in parts:
            check_made(part)
    except ServiceError as error:
        return error
    return encode_wav(np.concatenate(parts))


def _engine_failed(error: Exception) -> ServiceError:
    log_defect(log, "the engine failed", error)
    return ServiceError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "engine_failed",
        f"the engine failed: {type(error).__name__}",
        remedy="try again; if it stays, see the log",
    )
