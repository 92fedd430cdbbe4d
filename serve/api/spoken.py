"""Speech as an answer that leaves while it is made: as a file, or as server-sent events.

The first samples are waited for before the answer begins, so that an error until then has its status. Afterwards a
file is cut off, which the caller's HTTP library reports, and events end with one that says what happened.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serve.api.leaving import until_gone
from serve.errors import ServiceError
from serve.logs import log_defect
from serve.speech.audio import OUTPUT_RATE, Samples
from serve.speech.encoders import Encoder
from serve.speech.text import FRAMES_PER_S

log = logging.getLogger(__name__)

# A proxy that collects an answer before it passes it on would undo the streaming.
STREAM_HEADERS: Final[Mapping[str, str]] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Counting:
    """An encoder that counts the samples on their way into another."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.samples = 0

    @property
    def seconds(self) -> float:
        """Of sound."""
        return self.samples / OUTPUT_RATE

    def write(self, samples: Samples) -> bytes:
        """See ``Encoder.write``."""
        self.samples += samples.size
        return self._encoder.write(samples)

    def close(self) -> bytes:
        """See ``Encoder.close``."""
        return self._encoder.close()


class SpokenAnswer(StreamingResponse):
    """The answer around ``spoken``, which is closed, and so cancelled, when the caller goes away."""

    def __init__(
        self,
        parts: AsyncGenerator[bytes, None],
        spoken: AsyncGenerator[Samples, None],
        media_type: str,
        headers: Mapping[str, str],
        *,
        counted: Counting,
        deadline_s: float,
    ) -> None:
        """Take the answer.

        Args:
            parts: of the body.
            spoken: the samples behind them.
            media_type: of the body.
            headers: beside it.
            counted: how much sound the parts hold so far.
            deadline_s: how many seconds longer than it is played the caller may take to take it.
        """
        super().__init__(parts, media_type=media_type, headers={**headers, **STREAM_HEADERS})
        self._parts = parts
        self._spoken = spoken
        self._counted = counted
        self._deadline = time.monotonic() + deadline_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._parts.aclose()
            await self._spoken.aclose()

    async def stream_response(self, send: Send) -> None:
        """Send the parts; if one fails, return without an end: the server then closes the connection."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for part in self._parts:
                # What is made has its own deadline; this is for who stops to take it, and holds a place for ever.
                async with asyncio.timeout(self._deadline + self._counted.seconds - time.monotonic()):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        except TimeoutError:
            log.warning("an answer that had begun is cut off: the caller did not take it in its time and WW_DEADLINE_S")
        except ServiceError as error:
            log.warning("an answer that had begun is cut off: %s: %s", error.code, error.message)
        except Exception as error:  # noqa: BLE001 - whatever it was, the caller must not take this for the end
            log_defect(log, "an answer that had begun is cut off", error)
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def first_samples(request: Request, spoken: AsyncGenerator[Samples, None]) -> Samples:
    """Wait for the first samples; ``spoken`` is closed if they do not come, or the caller goes away.

    Args:
        request: with its body read.
        spoken: as ``Service.speak`` gives it.

    Raises:
        ServiceError: of ``spoken``; 499 the caller is gone.
    """
    try:
        return await until_gone(request, anext(spoken))
    except BaseException:
        await spoken.aclose()
        raise


async def as_file(
    first: Samples, spoken: AsyncGenerator[Samples, None], encoder: Encoder
) -> AsyncGenerator[bytes, None]:
    """The parts of the encoded file; encoding is kept out of the event loop."""
    if begun := await asyncio.to_thread(encoder.write, first):
        yield begun
    async for samples in spoken:
        if part := await asyncio.to_thread(encoder.write, samples):
            yield part
    if end := await asyncio.to_thread(encoder.close):
        yield end


async def as_events(
    first: Samples, spoken: AsyncGenerator[Samples, None], counted: Counting, characters: int
) -> AsyncGenerator[bytes, None]:
    """OpenAI's events: ``speech.audio.delta`` with each part of the file, then ``speech.audio.done``, or an error.

    ``usage`` counts what is known here: characters in, and frames of 80 ms out.
    """
    try:
        async with aclosing(as_file(first, spoken, counted)) as parts:
            async for part in parts:
                yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(part).decode("ascii")})
    except ServiceError as error:
        log.warning("events that had begun end with an error: %s: %s", error.code, error.message)
        yield _error_event(error)
    except Exception as error:  # noqa: BLE001 - as in SpokenAnswer
        log_defect(log, "events that had begun end with an error", error)
        message, remedy = "the service has a defect", "see the log"
        yield _error_event(ServiceError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", message, remedy=remedy))
    else:
        frames = round(counted.seconds * FRAMES_PER_S)
        usage = {"input_tokens": characters, "output_tokens": frames, "total_tokens": characters + frames}
        yield _event({"type": "speech.audio.done", "usage": usage})


def _event(content: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(content, separators=(',', ':'))}\n\n".encode()


def _error_event(error: ServiceError) -> bytes:
    # Named, so that OpenAI's clients raise it; its body is that of every other error.
    return b"event: error\n" + _event({"type": "error", **error.body()})
