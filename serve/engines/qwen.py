"""The engine ``qwen``: the unmodified package qwen-tts 0.1.1."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any
from weakref import WeakSet

import numpy as np
import torch

from serve.engines.engine import (
    Deliver,
    EngineLostError,
    LoadPlan,
    ModelFacts,
    Outcome,
    OutOfMemoryError,
    Piece,
    Prompt,
)
from serve.engines.kept_out import find_kept_out
from serve.engines.qwen_load import Loaded, load_checkpoint
from serve.engines.qwen_run import Codec, Run, StopRunError
from serve.errors import SettingsError, one_line
from serve.image import Attention
from serve.speech.audio import Samples, Sound
from serve.speech.languages import AUTO

WARM_FRAMES = 4
WARM_RATE = 16_000  # not the model's, so that the resampling is warm, too
CPU_BATCH = 8
MOST_BATCH = 64
# Of the memory that is free after the load; the rest is for prompts, the codec and fragmentation.
FOR_SEQUENCES = 0.6
# A reference of 30 s, 500 characters and a minute of speech, in positions of the talker.
POSITIONS = 375 + 500 + 750
# What torch says when logits are not finite.
NO_PROBABILITY = "probability tensor contains either"
NOT_LOADED = "the engine is used before it is loaded"


class QwenEngine:
    """Loads a Qwen3-TTS Base checkpoint and clones voices with it."""

    unfit: Mapping[Attention, str] = {}

    def __init__(self) -> None:
        self.frames = 0
        self._loaded: Loaded | None = None
        self._codec: Codec | None = None
        self._specials: tuple[str, ...] = ()
        self._gpus: list[str] = []
        self._unwanted: WeakSet[Piece] = WeakSet()

    def load(self, plan: LoadPlan) -> ModelFacts:
        """Load the checkpoint; see `serve.engines.engine.Engine.load`."""
        self._loaded = loaded = load_checkpoint(plan)
        self._specials = tuple(loaded.model.processor.tokenizer.all_special_tokens)
        self._gpus = [plan.device.torch] if plan.device.gpus else []
        if loaded.weights == "random" and plan.device.torch == "cpu" and "OMP_NUM_THREADS" not in os.environ:
            # The tiny checkpoint's matrices are so small that a second thread makes it ten times slower.
            torch.set_num_threads(1)
        self._codec = Codec(loaded.model.model.speech_tokenizer)
        languages = loaded.model.get_supported_languages() or []
        return ModelFacts(
            weights=loaded.weights,
            languages=tuple(name for name in languages if name != AUTO),
            attention=loaded.attention,
            kept_out=find_kept_out(),
            versions=loaded.versions,
            max_batch=self._most_sequences(),
        )

    def warm(self) -> None:
        """Clone a second of noise; see `serve.engines.engine.Engine.warm`.

        Raises:
            SettingsError: the result is not finite, or a value on the way was not.
        """
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, WARM_RATE).astype(np.float32)
        prompt = self.prompt(Sound(noise, WARM_RATE, ""), "noise")
        for stream in (False, True):
            made: list[Samples] = []
            try:
                self.run([Piece("Warm.", AUTO, prompt, WARM_FRAMES, stream)], 0, _keep(made))
            except RuntimeError as error:
                if NO_PROBABILITY not in str(error):
                    raise
                raise _not_finite() from error
            if not all(np.isfinite(samples).all() for samples in made):
                raise _not_finite()

    def prompt(self, sound: Sound, text: str | None) -> Prompt:
        """Encode a reference: its codes and its speaker embedding; see `serve.engines.engine.Engine.prompt`."""
        with self._lost_when_the_gpu_is():
            (item,) = self._model.create_voice_clone_prompt(
                ref_audio=(sound.samples, sound.rate),
                ref_text=None if text is None else self._plain(text),
                x_vector_only_mode=text is None,
            )
        self.frames += 1
        tensors = [part for part in (item.ref_code, item.ref_spk_embedding) if part is not None]
        return Prompt(item, sum(part.numel() * part.element_size() for part in tensors))

    def run(self, batch: Sequence[Piece], seed: int | None, deliver: Deliver) -> None:
        """Speak the pieces as one batch; see `serve.engines.engine.Engine.run`."""
        if self._codec is None:
            raise RuntimeError(NOT_LOADED)
        main = self._model.model
        ceiling = int(self._model.generate_defaults.get("max_new_tokens", batch[0].max_frames + 1))
        end = main.config.talker_config.codec_eos_token_id
        run = Run(self._codec, end, batch, ceiling - 1, deliver, self._unwanted)
        # The state is put back afterwards: a seed of one request must not make the next one repeatable, too.
        with (
            self._lost_when_the_gpu_is(),
            torch.random.fork_rng(devices=self._gpus) if seed is not None else nullcontext(),
            torch.inference_mode(),
        ):
            if seed is not None:
                torch.manual_seed(seed)
            with suppress(StopRunError):
                self._generate(run, seeded=seed is not None)
                run.finish()

    def cancel(self, piece: Piece) -> None:
        """See `serve.engines.engine.Engine.cancel`."""
        self._unwanted.add(piece)

    def _generate(self, run: Run, *, seeded: bool) -> None:  # noqa: ARG002 - for engines that can be faster without
        """What ``generate_voice_clone`` does before the codec; ``run`` sees every frame and has it made to sound.

        Raises:
            StopRunError: by ``run``.
        """
        model = self._model
        items = [piece.prompt.value for piece in run.batch]
        texts = [model._build_assistant_text(self._plain(piece.text)) for piece in run.batch]  # noqa: SLF001 - pinned
        references = [
            None if item.icl_mode is False else model._tokenize_texts([model._build_ref_text(item.ref_text)])[0]  # noqa: SLF001
            for item in items
        ]
        hook = model.model.talker.register_forward_hook(lambda _module, _inputs, output: self._frame(run, output))
        try:
            model.model.generate(
                input_ids=model._tokenize_texts(texts),  # noqa: SLF001
                ref_ids=references,
                voice_clone_prompt=model._prompt_items_to_voice_clone_prompt(items),  # noqa: SLF001
                languages=[piece.language for piece in run.batch],
                # The package's default feeds the text word by word, and speech rushes (DESIGN.md fact 23).
                non_streaming_mode=True,
                **model._merge_generate_kwargs(max_new_tokens=run.most_frames + 1),  # noqa: SLF001
            )
        finally:
            hook.remove()

    def _frame(self, run: Run, output: Any) -> None:
        """Called after each pass of the talker: the first is over the prompt and has no codes."""
        self.frames += 1
        codes = output.hidden_states[1]
        if codes is not None:
            run.frame(codes)

    def _most_sequences(self) -> int:
        if not self._gpus:
            return CPU_BATCH
        config = self._model.model.config.talker_config
        size = torch.empty((), dtype=self._model.model.talker.dtype).element_size()
        cache = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * size * POSITIONS
        free, _total = torch.cuda.mem_get_info(self._gpus[0])
        return max(1, min(MOST_BATCH, int(free * FOR_SEQUENCES / cache)))

    @contextmanager
    def _lost_when_the_gpu_is(self) -> Iterator[None]:
        """Tell what the GPU cannot recover from (a device assert, an illegal address) from all other failures."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise OutOfMemoryError(one_line(error)) from error
        except Exception as error:
            try:
                if self._gpus:
                    torch.cuda.synchronize(self._gpus[0])
            except RuntimeError as lost:  # torch.AcceleratorError is one
                raise EngineLostError(one_line(lost)[:300]) from error
            raise

    @property
    def _model(self) -> Any:
        if self._loaded is None:
            raise RuntimeError(NOT_LOADED)
        return self._loaded.model

    def _plain(self, text: str) -> str:
        """Break the names of special tokens, so that a text that holds ``<|im_end|>`` is read and not obeyed."""
        for special in self._specials:
            text = text.replace(special, f"{special[0]} {special[1:]}")
        return text


def _not_finite() -> SettingsError:
    return SettingsError(
        "the first sound that the model made is not finite: its weights or its dtype are at fault",
        remedy="set WW_DTYPE=float32; if it stays, fetch the checkpoint again (`python -m serve verify` compares it)",
    )


def _keep(made: list[Samples]) -> Deliver:
    def deliver(piece: Piece, samples: Samples | None, outcome: Outcome | None) -> None:  # noqa: ARG001
        if samples is not None:
            made.append(samples)

    return deliver
