"""What generates speech, behind one small interface. Engines are called from one thread only."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from serve.engines.attention import Decision
from serve.engines.dtypes import Dtypes
from serve.engines.probe import Device
from serve.image import Attention
from serve.speech.audio import Samples, Sound

Weights = Literal["random", "released"]
Outcome = Literal["done", "capped", "cancelled"]
"""How a piece ended: the model ended it, its ``max_frames`` did, or nobody wanted it any more."""


class EngineLostError(Exception):
    """The engine will not work again in this process: its GPU context is gone."""


class OutOfMemoryError(Exception):
    """The batch did not fit; a smaller one may."""


class TooLongError(Exception):
    """Reference, transcript and text together are longer than the engine takes."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A reference as the engine keeps it.

    Attributes:
        value: the engine's own; nobody else looks inside.
        size: bytes that keeping it costs.
    """

    value: Any
    size: int


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to load, and how: decided before, and not to be decided again by the engine."""

    folder: Path
    device: Device
    attention: Decision
    dtypes: Dtypes


@dataclass(frozen=True, slots=True)
class LoadedAttention:
    """The attention that a part of the loaded model has.

    Args:
        implementation: what its layers are set to.
        module: where the function that they call is defined.
        version: of the installed package that the module is of; None if it is of none.
    """

    implementation: str
    module: str
    version: str | None


@dataclass(frozen=True, slots=True)
class KeptOut:
    """An installed package that the engine's packages would use without being asked, and do not get to see.

    Args:
        package: its name.
        version: None if it says none.
        because: what it would do.
    """

    package: str
    version: str | None
    because: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What was loaded.

    Args:
        weights: ``random`` when the checkpoint is marked so, else ``released``.
        languages: names of the languages that the model knows, without ``auto``.
        attention: what each part really has, by the part's name: read from the loaded model.
        kept_out: what is installed here, and kept out.
        versions: of the packages that generate.
        max_batch: the most pieces that fit into the memory at once.
    """

    weights: Weights
    languages: tuple[str, ...]
    attention: Mapping[str, LoadedAttention]
    kept_out: tuple[KeptOut, ...]
    versions: Mapping[str, str]
    max_batch: int


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Piece:
    """One sequence of a batch, which is one only with itself.

    Attributes:
        text: what to say, as many characters as the model says well at once.
        language: the model's name of it, or ``auto``.
        prompt: the voice.
        max_frames: where it is cut off: 80 ms each.
        stream: give its sound while it is made; else all of it at its end, which costs less.
    """

    text: str
    language: str
    prompt: Prompt
    max_frames: int
    stream: bool = False


class Deliver(Protocol):
    """Takes what an engine makes, in the engine's thread."""

    def __call__(self, piece: Piece, samples: Samples | None, outcome: Outcome | None) -> None:
        """Take sound of a piece (24 kHz, float32, shape (n,)), or its end, or both; its end comes once."""


class Engine(Protocol):
    """The interface: load, warm, then prompts and runs, in one thread; `cancel` and `frames` from any."""

    frames: int
    """Frames made since the load, prompts counted as one: it grows while the engine is well."""

    unfit: Mapping[Attention, str]
    """The attentions that it cannot run on any host, and why."""

    def load(self, plan: LoadPlan) -> ModelFacts:
        """Load the checkpoint.

        Raises:
            StartError: it cannot be loaded; says why.
        """

    def warm(self) -> None:
        """Make one short sound, so that the first request finds everything initialized and faults show before it."""

    def prompt(self, sound: Sound, text: str | None) -> Prompt:
        """Turn a reference and its transcript into a prompt, which can be used many times.

        Args:
            sound: the voice.
            text: what is said in it; None for the likeness of the voice alone (x-vector), without its manner.

        Raises:
            EngineLostError: see there.
        """

    def run(self, batch: Sequence[Piece], seed: int | None, deliver: Deliver) -> None:
        """Speak the pieces as one batch; every piece has ended when it returns.

        Args:
            batch: one or more pieces.
            seed: the same batch with the same seed on the same machine gives the same samples.
            deliver: gets the sound, in order for each piece.

        Raises:
            OutOfMemoryError, EngineLostError, TooLongError: see there; pieces that have not ended will not.
        """

    def cancel(self, piece: Piece) -> None:
        """Stop making a piece, within a frame; one whose batch has not begun will end with its first frame."""


# Imported when chosen: an engine brings its own heavy packages.
ENGINES: Mapping[str, str] = {
    "qwen": "serve.engines.qwen:QwenEngine",
    "faster": "serve.engines.faster:FasterEngine",
}


def make_engine(name: str) -> Engine:
    """The engine of that name, not loaded yet."""
    module, _, attribute = ENGINES[name].partition(":")
    factory: Callable[[], Engine] = getattr(importlib.import_module(module), attribute)
    return factory()
