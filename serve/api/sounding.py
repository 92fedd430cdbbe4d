"""Answers that are sound: whole, or while it is made."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

import numpy as np
from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.requests import Request

from serve.api.http import CutOffError
from serve.api.leaving import until_gone
from serve.errors import ServiceError
from serve.speech.audio import Samples, encode_wav
from serve.speech.encoders import MEDIA_TYPES, Encoder, Format, make_encoder


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
    if not stream:
        samples = await until_gone(request, collect(parts))
        return Response(encode(kind, samples), media_type=MEDIA_TYPES[kind], headers=dict(headers))
    first = await until_gone(request, anext(parts))
    body = _encoded(first, parts, make_encoder(kind))
    return StreamingResponse(body, media_type=MEDIA_TYPES[kind], headers=dict(headers))


def encode(kind: Format, samples: Samples) -> bytes:
    """A whole file."""
    if kind == "wav":
        return encode_wav(samples)
    encoder = make_encoder(kind)
    return encoder.write(samples) + encoder.close()


async def _encoded(first: Samples, parts: AsyncGenerator[Samples, None], encoder: Encoder) -> AsyncIterator[bytes]:
    async with aclosing(parts):
        if begun := encoder.write(first):
            yield begun
        try:
            async for samples in parts:
                if more := encoder.write(samples):
                    yield more
        except ServiceError as error:
            raise CutOffError(error) from error
        if last := encoder.close():
            yield last
