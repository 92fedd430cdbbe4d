"""The running service: the model, the one thread that may touch it, and what is known about both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from serve.api.metrics import Metrics
from serve.checkpoint import download, model_name
from serve.errors import ServiceError, StartError
from serve.image import Image
from serve.settings import Settings
from serve.state import State

if TYPE_CHECKING:  # these import torch, which takes seconds: it happens in the loading thread
    from serve.engines.engine import Engine, LoadPlan, ModelFacts
    from serve.speech.audio import Samples
    from serve.speech.cloning import Utterance

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Running:
    """A loaded model, and how it was loaded."""

    engine: Engine
    plan: LoadPlan
    facts: ModelFacts


class Service:
    """Loads in the background, then generates, all in one thread: torch's random state and the GPU are shared."""

    def __init__(self, settings: Settings, image: Image | None) -> None:
        self.settings = settings
        self.image = image
        self.state = State()
        self.metrics = Metrics()
        self.running: Running | None = None
        self.pending = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._cut: asyncio.Event | None = None

    def start(self) -> Future[None]:
        """Begin to load; returns at once. Called in the event loop."""
        self._cut = asyncio.Event()
        return self._thread.submit(self._load)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request in, from its first work to its answer: the drain waits for those, and takes no others.

        Raises:
            ServiceError: 503 not ready; 429 too many are running or waiting.
        """
        self.state.refuse_unless_ready()
        if self.pending >= self.settings.max_waiting:
            raise ServiceError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "busy",
                f"{self.pending} requests are running or waiting, which is the most",
                remedy="try again later",
            )
        self.pending += 1
        try:
            yield
        finally:
            self.pending -= 1

    async def run(self, job: Callable[[Engine], T]) -> T:
        """Run ``job`` in the engine's thread, after those that came before. Only for an admitted request.

        Raises:
            ServiceError: 503; the drain ended first.
        """
        if self.running is None or self._cut is None:
            raise RuntimeError("a job before the model is loaded")
        work = asyncio.get_running_loop().run_in_executor(self._thread, job, self.running.engine)
        cut = asyncio.ensure_future(self._cut.wait())
        both: set[asyncio.Future[Any]] = {work, cut}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        if work.done():
            return work.result()
        work.cancel()
        message = f"the service shut down before the audio was made (WW_DRAIN_S={self.settings.drain_s:g})"
        raise ServiceError(
            HTTPStatus.SERVICE_UNAVAILABLE, "draining", message, remedy="ask another instance, or try again"
        )

    async def speak(
        self,
        utterance: Utterance,
        *,
        client: str,
        seed: int | None = None,
        stream: bool = False,  # noqa: ARG002
    ) -> AsyncGenerator[Samples, None]:
        """Speak; closing the generator early cancels what is not made yet.

        Args:
            utterance: read and checked.
            client: whom shares of the engine are fair between.
            seed: the same request with the same seed gives the same samples.
            stream: give samples while they are made, else all at once.

        Yields:
            float32 samples at 24 kHz, shape (n,), finite; never none at all, never only zeros.

        Raises:
            ServiceError: before the first samples, or later; nothing is retried after samples were given.
        """
        from serve.speech.cloning import speak  # noqa: PLC0415

        with self.admit():
            (made,) = await self.run(lambda engine: speak(engine, [utterance], seed, self.settings.max_batch))
        if isinstance(made, ServiceError):
            raise made
        yield np.frombuffer(made[44:], "<i2").astype(np.float32) / np.float32(32768)

    def cut_off(self) -> None:
        """End the wait of every request whose audio is not made yet. Called in the event loop."""
        if self._cut is not None:
            self._cut.set()

    def close(self) -> None:
        """Take no more jobs; a running one is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def health(self) -> dict[str, Any]:
        """What `/health` answers: how far, and once it is loaded what runs, why, and what else could or could not."""
        answer = self.state.snapshot() | {
            "model": model_name(self.settings, self.image),
            "engine": self.settings.engine,
            "image": None if self.image is None else self.image.model_dump(mode="json", by_alias=True),
        }
        if self.running is None:
            return answer
        plan, facts = self.running.plan, self.running.facts
        return answer | {
            "weights": facts.weights,
            "device": asdict(plan.device),
            "attention": asdict(plan.attention) | {"parts": dict(facts.attention)},
            "dtype": asdict(plan.dtypes),
            "versions": dict(facts.versions),
        }

    def _load(self) -> None:
        """Every phase of the start; whatever fails is kept in the state, and `serve.server` ends the process."""
        try:
            self._load_phases()
        except StartError as error:
            self.state.fail(error)
        except Exception as error:
            log.exception("a defect while loading")
            self.state.fail(StartError(f"a defect while loading: {type(error).__name__}: {error}"))

    def _load_phases(self) -> None:
        state, settings = self.state, self.settings
        folder = settings.model_dir
        if folder is None:
            state.begin("download")
            folder = download(model_name(settings, self.image))
        state.begin("import")
        from serve.engines import attention, dtypes, engine, probe  # noqa: PLC0415 - see above: torch comes with them

        chosen = engine.make_engine(settings.engine)
        state.begin("probe")
        device = probe.find_device(self.image)
        parts = dtypes.decide_dtypes(settings.dtype, device.gpus)
        rungs = probe.probe_attentions(device, parts, self.image)
        default = (self.image.attention.default, self.image.attention.because) if self.image else None
        decision = attention.decide(settings.attention, default, rungs)
        log.info("attention: %s (%s); device: %s (%s)", decision.running, decision.because, device.name, device.because)
        state.begin("load")
        plan = engine.LoadPlan(folder, device, decision, parts)
        facts = chosen.load(plan)
        state.begin("warm")
        chosen.warm()
        self.running = Running(chosen, plan, facts)
        log.info("ready after %.1f s (%s), with %s weights", state.ready(), state.phases(), facts.weights)
