"""The running service: the model, the one thread that may touch it, and what is known about both."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from serve.api.metrics import Metrics
from serve.checkpoint import download, model_name
from serve.connections import Connections, most_connections
from serve.digests import check_digests, check_sizes
from serve.errors import ServiceError, StartError
from serve.image import Image
from serve.memory import (
    CONNECTION_COST,
    EIGHTH,
    MEASURED_BELOW,
    Budget,
    Unexplained,
    give_back,
    plan_budget,
    read_memory,
)
from serve.pool import BODIES_AT_ONCE, Pool
from serve.settings import Settings
from serve.shortage import descriptor_limit, open_descriptors
from serve.speech.audio import OUTPUT_RATE, Samples
from serve.speech.cloning import Utterance, Wish, speak
from serve.speech.observer import Observer
from serve.speech.prompts import Prompts
from serve.speech.scheduler import Limits, Scheduler, engine_lost
from serve.state import State

if TYPE_CHECKING:  # these import torch, which takes seconds: it happens in the loading thread
    from serve.engines.engine import Engine, LoadPlan, ModelFacts

log = logging.getLogger(__name__)
WATCH_S = 1.0
# Of WW_MAX_WAITING places one in so many is kept for clients who have none.
KEPT_SHARE = 8


@dataclass(frozen=True, slots=True)
class Running:
    """A loaded model, how it was loaded, and what stands before it."""

    engine: Engine
    plan: LoadPlan
    facts: ModelFacts
    scheduler: Scheduler
    prompts: Prompts

    def describe(self) -> dict[str, Any]:
        """What runs, and why."""
        return {
            "weights": self.facts.weights,
            "device": asdict(self.plan.device),
            "attention": asdict(self.plan.attention)
            | {
                "parts": {part: found.implementation for part, found in self.facts.attention.items()},
                "loaded": {part: asdict(found) for part, found in self.facts.attention.items()},
                "kept_out": [asdict(package) for package in self.facts.kept_out],
            },
            "dtype": asdict(self.plan.dtypes),
        }


class Service:
    """Loads in the background, then generates, all in one thread: torch's random state and the GPU are shared."""

    def __init__(self, settings: Settings, image: Image | None, observer: Observer | None = None) -> None:
        self.settings = settings
        self.image = image
        self.metrics = Metrics()
        self.observer = observer or self.metrics
        self.state = State()
        self.running: Running | None = None
        # Provisional, until the model is loaded and what is left is known.
        memory = read_memory()
        self.budget: Budget | None = None
        self.pool = Pool(memory.left // EIGHTH, BODIES_AT_ONCE * settings.max_body_bytes)
        self.descriptors = descriptor_limit()
        self.connections = Connections(self._most_connections(memory.left // EIGHTH))
        self._admitted: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> Future[None]:
        """Begin to load; returns at once. Called in the event loop."""
        self._watch = asyncio.get_running_loop().create_task(self._watch_engine(), name="watch the engine")
        return self._thread.submit(self._load)

    @property
    def pending(self) -> int:
        """How many requests run or wait."""
        return self._admitted.total()

    @contextmanager
    def admit(self, client: str) -> Iterator[None]:
        """Count a request in, from its first work to its answer: the drain waits for those, and takes no others.

        Args:
            client: whose it is. The last places are for clients who have none: nobody fills all of them alone.

        Raises:
            ServiceError: 503 not ready; 429 too many are running or waiting.
        """
        self.state.refuse_unless_ready()
        most, pending, own = self.settings.max_waiting, self.pending, self._admitted[client]
        if pending >= most or (own and pending >= most - most // KEPT_SHARE):
            why = "which is the most" if pending >= most else f"{own} of them yours, and the last places are for others"
            message = f"{pending} requests are running or waiting, {why}"
            raise ServiceError(HTTPStatus.TOO_MANY_REQUESTS, "busy", message, remedy="try again later")
        self._admitted[client] += 1
        try:
            yield
        finally:
            self._admitted[client] -= 1
            if not self._admitted[client]:
                del self._admitted[client]

    async def stream(
        self, read: Callable[[], Utterance], *, client: str, seed: int | None = None
    ) -> AsyncGenerator[Samples, None]:
        """Admit a request, read what it wants, and speak while it is made; see ``speak``.

        Args:
            read: gives the utterance, checked; called in a thread.
            client: as for ``speak``.
            seed: as for ``speak``.

        Raises:
            ServiceError: of ``admit``, ``read`` and ``speak``.
        """
        with self.admit(client):
            utterance = await asyncio.to_thread(read)
            async with aclosing(self.speak(utterance, client=client, seed=seed, stream=True)) as parts:
                async for samples in parts:
                    yield samples

    async def speak(
        self, utterance: Utterance, *, client: str, seed: int | None = None, stream: bool = False
    ) -> AsyncGenerator[Samples, None]:
        """Speak for a request that is admitted; closing the generator early cancels what is not made yet.

        Args:
            utterance: read and checked.
            client: whom shares of the engine are fair between.
            seed: the same request with the same seed gives the same samples.
            stream: give samples while they are made, else each piece of the text when it is whole.

        Yields:
            float32 samples at 24 kHz, shape (n,), finite; never none at all, the first not all zeros.

        Raises:
            ServiceError: before the first samples, or later; nothing is retried after samples of a piece were given.
        """
        running = self.running
        if running is None:
            raise RuntimeError("admitted before the model is loaded")
        began, made = time.monotonic(), 0
        random = running.facts.weights == "random"
        # Where there are keys, a client is one; without them all callers are one owner.
        keyed = self.settings.api_keys is not None or self.settings.api_keys_file is not None
        owner = client if keyed else ""
        wish = Wish(client, seed, stream, began + self.settings.deadline_s, may_run_away=random, owner=owner)
        async with aclosing(speak(running.scheduler, running.prompts, utterance, wish)) as parts:
            async for samples in parts:
                if not made:
                    self.observer.first_audio(time.monotonic() - began)
                made += samples.size
                yield samples
        self.observer.spoken(made / OUTPUT_RATE, time.monotonic() - began)

    def cut_off(self) -> None:
        """End every request whose audio is not made yet. Called in the event loop."""
        if self.running is not None:
            message = f"the service shut down before the audio was made (WW_DRAIN_S={self.settings.drain_s:g})"
            remedy = "ask another instance, or try again"
            self.running.scheduler.close(
                ServiceError(HTTPStatus.SERVICE_UNAVAILABLE, "draining", message, remedy=remedy)
            )

    def close(self) -> None:
        """Take no more jobs; a running one is not waited for."""
        if self._watch is not None:
            self._watch.cancel()
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
        return answer | self.running.describe() | {"versions": dict(self.running.facts.versions)}

    async def _watch_engine(self) -> None:
        """Notice an engine that has work and makes no frames: nothing but a new process helps."""
        seen, since = -1, time.monotonic()
        while True:
            await asyncio.sleep(WATCH_S)
            running = self.running
            if running is None or not running.scheduler.busy or running.engine.frames != seen:
                seen, since = running.engine.frames if running else -1, time.monotonic()
            elif time.monotonic() - since > self.settings.hang_s:
                what = f"the engine has made no frame for {self.settings.hang_s:g} s (WW_HANG_S)"
                self._lose(RuntimeError(what))
                return

    def _lose(self, error: Exception) -> None:
        """The engine will not work again: not live any more, and the process ends."""
        log.critical("the engine is lost: %s", error)
        self.state.fail(StartError(f"the engine is lost: {error}", remedy="restart the service"))
        if self.running is not None:
            self.running.scheduler.close(engine_lost())

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
        check_sizes(folder)
        if settings.verify_weights:
            state.begin("verify")
            check_digests(folder)
        state.begin("import")
        from serve.engines import attention, dtypes, engine, probe  # noqa: PLC0415 - see above: torch comes with them

        chosen = engine.make_engine(settings.engine)
        state.begin("probe")
        device = probe.taken_for(probe.find_device(self.image), settings.arch_override)
        parts = dtypes.decide_dtypes(settings.dtype, device.gpus)
        rungs = attention.withhold(probe.probe_attentions(device, parts, self.image), chosen.unfit)
        default = (self.image.attention.default, self.image.attention.because) if self.image else None
        decision = attention.decide(settings.attention, default, rungs)
        log.info("attention: %s (%s); device: %s (%s)", decision.running, decision.because, device.name, device.because)
        state.begin("load")
        plan = engine.LoadPlan(folder, device, decision, parts)
        facts = chosen.load(plan)
        for found in facts.kept_out:
            log.info("%s %s is installed here, and kept out: %s", found.package, found.version, found.because)
        state.begin("warm")
        chosen.warm()
        limits = Limits(min(facts.max_batch, settings.max_batch or facts.max_batch), settings.batch_window_ms / 1000)
        scheduler = Scheduler(chosen, self._thread, limits, self.observer, self._lose)
        self.budget = budget = self._share_out(chosen, on_cpu=not device.gpus)
        prompts = Prompts(scheduler.prompt, budget.cache, self.observer)
        self.running = Running(chosen, plan, facts, scheduler, prompts)
        self.pool.total = budget.pool
        self.connections.most = self._most_connections(budget.connections)
        self.pool.unexplained = Unexplained(budget, self.pool)
        log.info("memory: %s", budget.explain())
        log.info("ready after %.1f s (%s), with %s weights", state.ready(), state.phases(), facts.weights)

    def _most_connections(self, memory: int) -> int:
        others = open_descriptors() - len(self.connections) if hasattr(self, "connections") else open_descriptors()
        return most_connections(self.descriptors, others, memory, CONNECTION_COST)

    def _share_out(self, engine: Engine, *, on_cpu: bool) -> Budget:
        """What the memory that is left now is for."""
        settings = self.settings
        give_back()
        memory, work = read_memory(), None
        if on_cpu and memory.left < MEASURED_BELOW:
            # Half of little may be too little: let the engine do the most that one request needs of it.
            from serve.engines.need import measure_need  # noqa: PLC0415 - as in _load_phases

            work = measure_need(engine, settings.max_ref_s)
            give_back()
        return plan_budget(memory, spare=settings.memory_spare_bytes, cache=settings.prompt_cache_bytes, work=work)
