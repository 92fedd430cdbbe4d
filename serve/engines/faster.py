"""The engine ``faster``: the package faster-qwen3-tts 0.3.2, which replays CUDA graphs; one piece at a time.

Its loader takes one dtype for all parts and fails offline, as qwen-tts's does; so the checkpoint is loaded as for the
engine ``qwen``, and the package gets the loaded model. Its loop gives frames of codes; their sound is made as there.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from serve.engines.engine import LoadPlan, ModelFacts, TooLongError
from serve.engines.loaded import read_attentions
from serve.engines.qwen import QwenEngine
from serve.engines.qwen_run import Run
from serve.errors import HostError, one_line
from serve.image import Attention
from serve.speech.audio import OUTPUT_RATE

PACKAGE, VERSION = "faster-qwen3-tts", "0.3.2"
# Of the talker's cache, which has one fixed shape: a reference of 30 s (375), its transcript and the text (some 500
# tokens each), and 200 s of speech (2,500). 115 kB each in 16 bits.
POSITIONS = 4096
LEAST_FRAMES = 25  # 2 s, the least that a text gets
# cuDNN's attention of one query behind a mask takes 6 ms a frame where these take 11 (4,096 positions, one H200), but
# gives other bits each time: seeded pieces get a graph without it.
REPEATABLE = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
FIXED = "faster-qwen3-tts keeps a cache of one fixed shape behind a mask, which flash_attention_2 does not take"


class FasterEngine(QwenEngine):
    """As ``QwenEngine``, but for how frames are made."""

    unfit: Mapping[Attention, str] = {"flash_attention_2": FIXED}

    def __init__(self) -> None:
        super().__init__()
        self._faster: Any = None
        self._graphs: Mapping[bool, Any] = {}  # of the talker, by whether the piece has a seed
        self._sampling: dict[str, Any] = {}

    def load(self, plan: LoadPlan) -> ModelFacts:
        """Load the checkpoint and capture the graphs; see `serve.engines.engine.Engine.load`.

        Raises:
            HostError: no GPU, no such package, or not enough memory.
        """
        if not plan.device.gpus:
            raise HostError(
                f"WW_ENGINE=faster needs an NVIDIA GPU, and the model would run on the CPU: {plan.device.because}",
                remedy="set WW_ENGINE=qwen",
            )
        _find_package()
        facts = super().load(plan)
        try:
            with _quiet():
                self._faster = self._capture(plan)
        except torch.OutOfMemoryError as error:
            what = f"the graphs do not fit: {one_line(error)}"
            raise HostError(what, remedy="free memory, or set WW_ENGINE=qwen") from error
        # What captures the graphs gets the loaded layers, and could have set them to something else.
        attention = read_attentions(self._model.model, plan.attention)
        return replace(facts, attention=attention, versions={**facts.versions, PACKAGE: VERSION}, max_batch=1)

    def _capture(self, plan: LoadPlan) -> Any:
        """The package's own object around our model, its graphs captured."""
        from faster_qwen3_tts import FasterQwen3TTS  # noqa: PLC0415 - installed only where it can run
        from faster_qwen3_tts.predictor_graph import PredictorGraph  # noqa: PLC0415
        from faster_qwen3_tts.talker_graph import TalkerGraph  # noqa: PLC0415

        talker, device = self._model.model.talker, plan.device.torch
        config, predictor = talker.config, talker.code_predictor
        asked = self._model._merge_generate_kwargs()  # noqa: SLF001 - the checkpoint's, over the package's defaults
        self._sampling = {
            name: asked[name] for name in ("do_sample", "top_k", "top_p", "temperature", "repetition_penalty")
        }
        codebooks = PredictorGraph(
            predictor,
            predictor.model.config,
            config.hidden_size,
            device=device,
            dtype=predictor.dtype,
            do_sample=asked["subtalker_dosample"],
            top_k=asked["subtalker_top_k"],
            top_p=asked["subtalker_top_p"],
            temperature=asked["subtalker_temperature"],
        )
        frame = TalkerGraph(talker.model, config, device=device, dtype=talker.dtype, max_seq_len=POSITIONS)
        self._model.sample_rate = OUTPUT_RATE  # where the package looks for it, and warns if it is not there
        faster = FasterQwen3TTS(self._model, codebooks, frame, device=device, dtype=talker.dtype, max_seq_len=POSITIONS)
        with sdpa_kernel(REPEATABLE):
            faster.warmup()
        repeatable = frame.graph
        # One piece is never padded: the masks that are there serve the next capture and all runs (3 and 8 s saved).
        frame._build_attention_masks = lambda *_: None  # noqa: SLF001
        frame._mask_key = (0,)  # noqa: SLF001
        frame.capture()
        self._graphs = {True: repeatable, False: frame.graph}
        return faster

    def _generate(self, run: Run, *, seeded: bool) -> None:
        """Make the frames of the only piece; raises StopRunError when ``run`` has enough of them."""
        from faster_qwen3_tts.streaming import fast_generate_streaming  # noqa: PLC0415 - see _capture

        (piece,) = run.batch
        _, talker, config, embeddings, mask, rest, pad, _ = self._faster._prepare_generation(  # noqa: SLF001 - pinned
            text=self._plain(piece.text),
            language=piece.language,
            non_streaming_mode=True,  # as in the engine qwen
            voice_clone_prompt=[piece.prompt.value],
        )
        room = POSITIONS - int(embeddings.shape[1])
        if room < LEAST_FRAMES:
            raise TooLongError(f"{embeddings.shape[1]} of {POSITIONS} positions are taken before the first frame")
        # Over its end the package stops without a word.
        run.limit(room)
        self._faster.talker_graph.graph = self._graphs[seeded]
        for codes, _timing in fast_generate_streaming(
            talker,
            embeddings,
            mask,
            rest,
            pad,
            config,
            self._faster.predictor_graph,
            self._faster.talker_graph,
            max_new_tokens=run.most_frames + 1,
            chunk_size=1,
            **self._sampling,
        ):
            self.frames += 1
            run.frame(codes)


def _find_package() -> None:
    """Raise HostError unless the very version is there whose parts are used here."""
    try:
        found = importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if found != VERSION:
        raise HostError(
            f"WW_ENGINE=faster needs {PACKAGE} {VERSION}, and here is {found}",
            remedy=f"`pip install --no-deps {PACKAGE}=={VERSION}` beside the service's packages, or set WW_ENGINE=qwen",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """stdout is for results, and the package prints what it does there."""
    with redirect_stdout(StringIO()):
        yield
