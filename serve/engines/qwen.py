"""The engine ``qwen``: the unmodified package qwen-tts 0.1.1."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from serve.engines.engine import LoadPlan, ModelFacts, Piece, Prompt
from serve.engines.qwen_load import Loaded, load_checkpoint
from serve.errors import StartError
from serve.speech.audio import OUTPUT_RATE, Samples, Sound
from serve.speech.languages import AUTO

WARM_FRAMES = 4
WARM_RATE = 16_000  # not the model's, so that the resampling is warm, too


class QwenEngine:
    """Loads a Qwen3-TTS Base checkpoint and clones voices with it."""

    def __init__(self) -> None:
        self._loaded: Loaded | None = None
        self._specials: tuple[str, ...] = ()
        self._gpus: list[str] = []

    def load(self, plan: LoadPlan) -> ModelFacts:
        """Load the checkpoint; see `serve.engines.engine.Engine.load`."""
        self._loaded = loaded = load_checkpoint(plan)
        self._specials = tuple(loaded.model.processor.tokenizer.all_special_tokens)
        self._gpus = [plan.device.torch] if plan.device.gpus else []
        if loaded.weights == "random" and plan.device.torch == "cpu" and "OMP_NUM_THREADS" not in os.environ:
            # The tiny checkpoint's matrices are so small that a second thread makes it ten times slower.
            torch.set_num_threads(1)
        languages = loaded.model.get_supported_languages() or []
        return ModelFacts(
            weights=loaded.weights,
            languages=tuple(name for name in languages if name != AUTO),
            attention=loaded.attention,
            versions=loaded.versions,
        )

    def warm(self) -> None:
        """Clone a second of noise; see `serve.engines.engine.Engine.warm`.

        Raises:
            StartError: the result is not finite.
        """
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, WARM_RATE).astype(np.float32)
        prompt = self.prompt(Sound(noise, WARM_RATE, ""), "noise")
        samples = self.run([Piece("Warm.", AUTO, prompt, WARM_FRAMES)], seed=0)[0]
        if not np.isfinite(samples).all():
            raise StartError(
                "the first sound that the model made is not finite: its weights or its dtype are at fault",
                remedy="set WW_DTYPE=float32; if it stays, fetch the checkpoint again",
            )

    def prompt(self, sound: Sound, text: str) -> Prompt:
        """Encode a reference: its codes and its speaker embedding."""
        items = self._model.create_voice_clone_prompt(ref_audio=(sound.samples, sound.rate), ref_text=self._plain(text))
        return items[0]

    def run(self, batch: Sequence[Piece], seed: int | None) -> list[Samples]:
        """Speak the pieces as one batch; see `serve.engines.engine.Engine.run`."""
        ceiling = int(self._model.generate_defaults.get("max_new_tokens", batch[0].max_frames))
        # The state is put back afterwards: a seed of one request must not make the next one repeatable, too.
        with torch.random.fork_rng(devices=self._gpus) if seed is not None else nullcontext():
            if seed is not None:
                torch.manual_seed(seed)
            waves, rate = self._model.generate_voice_clone(
                text=[self._plain(piece.text) for piece in batch],
                language=[piece.language for piece in batch],
                voice_clone_prompt=[piece.prompt for piece in batch],
                # The package's default feeds the text word by word, and speech rushes (DESIGN.md fact 23).
                non_streaming_mode=True,
                max_new_tokens=min(ceiling, max(piece.max_frames for piece in batch)),
            )
        if rate != OUTPUT_RATE:
            raise ValueError(f"the codec makes {rate} Hz, not {OUTPUT_RATE}")
        return [np.asarray(wave, dtype=np.float32) for wave in waves]

    @property
    def _model(self) -> Any:
        if self._loaded is None:
            raise RuntimeError("the engine is used before it is loaded")
        return self._loaded.model

    def _plain(self, text: str) -> str:
        """Break the names of special tokens, so that a text that holds ``<|im_end|>`` is read and not obeyed."""
        for special in self._specials:
            text = text.replace(special, f"{special[0]} {special[1:]}")
        return text
