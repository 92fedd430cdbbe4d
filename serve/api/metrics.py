"""What happened, counted for `GET /metrics`; what is a state and no event is read there by `serve.api.readings`.

One registry per service: several services can live in one process, and none counts for another.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

# From an error that costs nothing to a long text on a CPU.
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
PIECES = (1, 2, 4, 8, 16, 32, 64, 128)
# Around 1, below which audio is made faster than it is played.
FACTORS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1, 1.2, 1.5, 2, 3, 5, 10, 30)
# Codes of errors that are no fault of the request: too much is asked for, or the service cannot work now.
REFUSALS = (
    "busy", "too_many_requests", "too_many_at_once", "loading", "draining", "failed", "engine_lost", "out_of_memory",
    "deadline",
)  # fmt: skip
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """What happened, counted: the `Observer` of the speaking side, and more. Any thread may call any method."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"wheelwright_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"wheelwright_{name}", text, registry=registry)

        def histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
            return Histogram(f"wheelwright_{name}", text, labels, buckets=tuple(buckets), registry=registry)

        self._requests = counter("http_requests_total", "Requests answered.", "method", "route", "status")
        self._seconds = histogram(
            "http_request_duration_seconds", "From the request's head to the answer's last byte.", SECONDS, "route"
        )
        self._received = counter("http_received_bytes_total", "Bytes of request bodies.", "route")
        self._sent = counter("http_sent_bytes_total", "Bytes of answers' bodies.", "route")
        self._errors = counter("http_errors_total", "Errors answered, by their code.", "code")
        self._queue = gauge("queue_pieces", "Pieces of text that wait for the engine.")
        self._batch = histogram("batch_pieces", "Pieces in one call of the engine.", PIECES)
        self._first = histogram("first_audio_seconds", "From admission to the first audio.", SECONDS)
        self._audio = counter("audio_seconds_total", "Seconds of audio made.")
        self._engine = counter("generation_seconds_total", "Seconds that its requests took, their wait included.")
        self._factor = histogram(
            "real_time_factor_ratio",
            "A request's seconds per second of audio; under 1 is faster than it is played.",
            FACTORS,
        )
        self._lookups = counter("prompt_cache_lookups_total", "References looked up in the cache.", "result")
        self._cache_bytes = gauge("prompt_cache_bytes", "Bytes that the cached prompts take.")
        self._cache_entries = gauge("prompt_cache_entries", "Prompts in the cache.")
        self._cancelled = counter("pieces_cancelled_total", "Pieces of text that nobody wanted any more.")
        self._rejected = counter(
            "requests_rejected_total", "Requests refused because of load or the service's state.", "reason"
        )
        # So that a rate is 0, and not missing, before the first.
        for result in ("hit", "miss"):
            self._lookups.labels(result)
        for reason in REFUSALS:
            self._rejected.labels(reason)

    def request(self, method: str, route: str, status: int, seconds: float, *, received: int, sent: int) -> None:
        """A request was answered.

        Args:
            method: as sent; one that HTTP does not know counts as ``other``.
            route: the route's template (``/v1/audio/voices/{name}``), never a path.
            status: of the answer; 0 where none began.
            seconds: from its head to the answer's last byte.
            received: bytes of the body that were read.
            sent: bytes of the answer's body.
        """
        self._requests.labels(method if method in METHODS else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        self._received.labels(route).inc(received)
        self._sent.labels(route).inc(sent)

    def error(self, code: str, cause: str) -> None:
        """An error was answered.

        Args:
            code: that of its body.
            cause: that of the error which decided; for a batch of which nothing could be spoken, an item's.
        """
        self._errors.labels(code).inc()
        if cause in REFUSALS:
            self._rejected.labels(cause).inc()

    def enqueued(self, count: int) -> None:
        """``count`` pieces began to wait for the engine."""
        self._queue.inc(count)

    def dequeued(self, count: int) -> None:
        """``count`` pieces wait no longer: they run, or nobody wants them any more."""
        self._queue.dec(count)

    def batch(self, size: int) -> None:
        """The engine was called with ``size`` pieces."""
        self._batch.observe(size)

    def first_audio(self, seconds: float) -> None:
        """A request had its first audio ``seconds`` after it was admitted."""
        self._first.observe(seconds)

    def spoken(self, audio_s: float, wall_s: float) -> None:
        """A request's ``audio_s`` seconds of audio took ``wall_s``, its wait included; their quotient is observed."""
        self._audio.inc(audio_s)
        self._engine.inc(wall_s)
        if audio_s > 0:
            self._factor.observe(wall_s / audio_s)

    def cache(self, *, hit: bool) -> None:
        """A reference was looked up in the prompt cache."""
        self._lookups.labels("hit" if hit else "miss").inc()

    def cache_size(self, size: int, entries: int) -> None:
        """What the prompt cache holds now: bytes, and prompts."""
        self._cache_bytes.set(size)
        self._cache_entries.set(entries)

    def cancelled(self) -> None:
        """A piece is not wanted any more: its caller went away, or its request failed in another piece."""
        self._cancelled.inc()
