"""Answers that are sound: whole, or while it is made."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import numpy as np
from fastapi import Response
from starlette.requests import Request

from serve.api.leaving import until_gone
from serve.api.spoken import SpokenAnswer, as_file, first_samples
from serve.service import Service
from serve.speech.audio import Samples
from serve.speech.encoders import MEDIA_TYPES, Format, encode, make_encoder


async def collect(parts: AsyncGenerator[Samples, None]) -> Samples:
    """All samples as one."""
    async with aclosing(parts):
        return np.concatenate([samples async for samples in parts])


async def answer_sound(
    request: Request, parts: AsyncGenerator[Samples, None], kind: Format, *, stream: bool, headers: Mapping[str, str]
) -> Response:
    """The answer with the samples, encoded; it begins when the first are there, so an error before has its status.

    Args:
        request: whose caller may go away.
        parts: from ``Service.speak``.
        kind: of the file.
        stream: send each part when it is made. A wav then says the greatest length, and the connection ends it.
        headers: to add.
    """
    media_type = MEDIA_TYPES[kind]
    if not stream:
        samples = await until_gone(request, collect(parts))
        return Response(encode(kind, samples), media_type=media_type, headers=dict(headers))
    first = await first_samples(request, parts)
    return SpokenAnswer(as_file(first, parts, make_encoder(kind)), parts, media_type, headers)


def weights_header(service: Service) -> dict[str, str]:
    """Said with every audio, so that nobody takes the noise of random weights for the model's speech."""
    return {"X-Weights": service.running.facts.weights} if service.running else {}
