"""What is a state, not an event: read from the service at the moment when `GET /metrics` or `GET /info` asks."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from serve.errors import ServiceError
from serve.state import STATUSES
from serve.supervisor import stray_lines

if TYPE_CHECKING:
    from serve.service import Service
    from serve.voices.store import VoiceStore

PACKAGES = ("torch", "transformers", "qwen-tts", "faster-qwen3-tts", "flash-attn", "fastapi", "uvicorn")


class Scrape:
    """All of a service's metrics, as a collector."""

    def __init__(self, service: Service, tasks: int, voices: VoiceStore | None = None) -> None:
        self._service = service
        self._tasks = tasks
        self._voices = voices

    def collect(self) -> Iterator[Metric]:
        """What was counted, then what is read now."""
        for metric in self._service.metrics.registry.collect():
            # The library adds to each counter when it was made: series that nobody asks about.
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        yield from readings(self._service)
        yield GaugeMetricFamily("wheelwright_event_loop_tasks", "Tasks of the event loop.", self._tasks)
        if self._voices is not None:
            yield from quarantine(self._voices)


def readings(service: Service) -> Iterator[Metric]:
    """What is a state, not an event: read at the moment of asking."""
    snapshot = service.state.snapshot()
    state = GaugeMetricFamily("wheelwright_state", "1 for the state that the service is in.", labels=["state"])
    for status in STATUSES:
        state.add_metric([status], float(snapshot["status"] == status))
    yield state
    phases = GaugeMetricFamily(
        "wheelwright_start_phase_seconds", "Seconds that each phase of the start took, or has taken.", labels=["phase"]
    )
    for phase in snapshot["phases"]:
        phases.add_metric([phase["name"]], phase["seconds"])
    yield phases
    yield GaugeMetricFamily(
        "wheelwright_start_seconds", "Seconds from the start until ready, or until now.", snapshot["seconds"]
    )
    yield GaugeMetricFamily("wheelwright_requests_running", "Requests that run or wait.", service.pending)
    yield GaugeMetricFamily(
        "wheelwright_requests_running_limit", "Requests that may run or wait.", service.settings.max_waiting
    )
    stray = CounterMetricFamily(
        "wheelwright_stray_lines", "Lines that libraries wrote to stdout or stderr by themselves.", labels=["result"]
    )
    for result, count in zip(("logged", "dropped"), stray_lines(), strict=True):
        stray.add_metric([result], count)
    yield stray
    yield InfoMetricFamily("wheelwright_build", "What runs: image and versions.", build_labels(service))
    if service.running is not None:
        plan, facts = service.running.plan, service.running.facts
        chosen = {"attention": plan.attention.running, "device": plan.device.name, "weights": facts.weights}
        parts = {f"{part}_attention": found.implementation for part, found in facts.attention.items()}
        yield InfoMetricFamily("wheelwright_attention", "The attention that runs.", chosen | parts)
        yield from gpu_memory(plan.device.torch)


def quarantine(voices: VoiceStore) -> Iterator[Metric]:
    """Audio that the store's database does not know; nothing when the disk does not answer."""
    try:
        count, size = voices.quarantined()
    except ServiceError:  # the log has it
        return
    text = "Files of audio that the database does not know, kept for WW_QUARANTINE_DAYS."
    yield GaugeMetricFamily("wheelwright_voices_quarantined", text, count)
    yield GaugeMetricFamily("wheelwright_voices_quarantined_bytes", "Bytes of those files.", size)


def build_labels(service: Service) -> dict[str, str]:
    """The image (``none`` outside of one) and the versions of what computes, as labels."""
    image = service.image
    what = {"target": image.target, "lock_hash": image.lock_hash} if image else {"target": "none", "lock_hash": "none"}
    return what | {name.replace("-", "_"): value for name, value in versions().items() if value is not None}


def versions() -> dict[str, str | None]:
    """The version of Python and of each of `PACKAGES`; None for one that is not installed. Imports none of them."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def gpu_memory(device: str) -> Iterator[Metric]:
    """Memory of the GPU that the model is on; nothing on a CPU, or when CUDA does not answer.

    Args:
        device: torch's name for it. Only that one: asking about another GPU would make a context on it.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return
    try:
        free, total = torch.cuda.mem_get_info(device)
        own = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    except RuntimeError:  # after a fault on the GPU every call fails, and that is when metrics are looked at
        return
    memory = GaugeMetricFamily(
        "wheelwright_gpu_memory_bytes",
        "free and total are the GPU's; allocated and reserved are this process's.",
        labels=["gpu", "kind"],
    )
    for kind, value in zip(("free", "total", "allocated", "reserved"), (free, total, *own), strict=True):
        memory.add_metric([device, kind], value)
    yield memory
