"""Answers that are sound: whole, or while it is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import numpy as np
from fastapi import Response
from starlette.requests import Request

from serve.api.callers import caller_of
from serve.api.leaving import until_gone
from serve.api.spoken import Counting, SpokenAnswer, as_file, first_samples
from serve.pool import hold, holding_for, unhold
from serve.service import Service
from serve.speech.audio import Samples
from serve.speech.cloning import Utterance
from serve.speech.encoders import MEDIA_TYPES, Format, encode, make_encoder


async def as_whole_file(parts: AsyncGenerator[Samples, None], kind: Format) -> bytes:
    """All samples as one file; encoding, which takes seconds for a long text, is kept out of the event loop."""
    samples, size = [], 0
    async with aclosing(parts):
        async for part in parts:
            hold(part.nbytes)
            samples.append(part)
            size += part.nbytes
    with holding_for(2 * size):  # joined, and on its way into the file
        content = await asyncio.to_thread(encode, kind, np.concatenate(samples))
    unhold(size)
    hold(len(content))
    return content


async def answer_sound(
    request: Request, service: Service, read: Callable[[], Utterance], kind: Format, *, seed: int | None, stream: bool
) -> Response:
    """The answer with the sound, encoded; it begins when the first is there, so an error before has its status.

    Args:
        request: whose caller may go away.
        service: that speaks.
        read: as for ``Service.stream``.
        kind: of the file.
        seed: as for ``Service.speak``.
        stream: send each part when it is made. A wav then says the greatest length. Over HTTP/1.0, where a connection
            that is cut looks like the end of the answer, the whole is sent nevertheless.
    """
    client, media_type = caller_of(request).client, MEDIA_TYPES[kind]
    if stream and request.scope["http_version"] != "1.0":
        parts = service.stream(read, client=client, seed=seed)
        first = await first_samples(request, parts)
        counted, deadline_s = Counting(make_encoder(kind)), service.settings.deadline_s
        file = as_file(first, parts, counted)
        return SpokenAnswer(file, parts, media_type, weights_header(service), counted=counted, deadline_s=deadline_s)

    async def whole() -> bytes:
        with service.admit(client):
            utterance = await asyncio.to_thread(read)
            return await as_whole_file(service.speak(utterance, client=client, seed=seed), kind)

    content = await until_gone(request, whole())
    return Response(content, media_type=media_type, headers=weights_header(service))


def weights_header(service: Service) -> dict[str, str]:
    """Said with every audio, so that nobody takes the noise of random weights for the model's speech."""
    return {"X-Weights": service.running.facts.weights} if service.running else {}
