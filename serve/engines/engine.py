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
from serve.speech.audio import Samples, Sound

Weights = Literal["random", "released"]
Prompt = Any
"""A reference as the engine keeps it; nobody else looks inside."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to load, and how: decided before, and not to be decided again by the engine."""

    folder: Path
    device: Device
    attention: Decision
    dtypes: Dtypes


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What was loaded.

    Args:
        weights: ``random`` when the checkpoint is marked so, else ``released``.
        languages: names of the languages that the model knows, without ``auto``.
        attention: what each part really uses, by the part's name.
        versions: of the packages that generate.
    """

    weights: Weights
    languages: tuple[str, ...]
    attention: Mapping[str, str]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Piece:
    """One sequence of a batch: at most ``max_frames`` (80 ms each) of ``text`` in the voice of ``prompt``."""

    text: str
    language: str
    prompt: Prompt
    max_frames: int


class Engine(Protocol):
    """The interface: load, warm, then prompts and runs."""

    def load(self, plan: LoadPlan) -> ModelFacts:
        """Load the checkpoint.

        Raises:
            StartError: it cannot be loaded; says why.
        """

    def warm(self) -> None:
        """Make one short sound, so that the first request finds everything initialized and faults show before it."""

    def prompt(self, sound: Sound, text: str) -> Prompt:
        """Turn a reference and its transcript into a prompt, which can be used many times."""

    def run(self, batch: Sequence[Piece], seed: int | None) -> list[Samples]:
        """Speak the pieces as one batch.

        Args:
            batch: one or more pieces.
            seed: the same batch with the same seed on the same machine gives the same samples.

        Returns:
            For each piece its samples at 24 kHz: float32, shape (n,), in [-1, 1] unless the model failed.
        """


# Imported when chosen: an engine brings its own heavy packages.
ENGINES: Mapping[str, str] = {"qwen": "serve.engines.qwen:QwenEngine"}


def make_engine(name: str) -> Engine:
    """The engine of that name, not loaded yet."""
    module, _, attribute = ENGINES[name].partition(":")
    factory: Callable[[], Engine] = getattr(importlib.import_module(module), attribute)
    return factory()
