"""The client for asyncio; see ``serve.client``, where it is imported from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self

import httpx

from serve import transport, wire
from serve.errors import ServiceError
from serve.transport import READ_S, RETRIES, URL
from serve.wire import Call, Format, Item, Language, Reference, Source, Voice


class AsyncClient:
    """``Client`` for asyncio: the same methods and arguments, awaited; streams are asynchronous generators.

    ``contextlib.aclosing`` closes a stream, and so cancels the rest, when a loop over it ends early.
    """

    def __init__(
        self, url: str = URL, *, api_key: str | None = None, timeout_s: float = READ_S, retries: int = RETRIES
    ) -> None:
        self._http = httpx.AsyncClient(**transport.options(url, api_key, timeout_s))
        self._retries = retries
        self._model: str | None = None
        self.weights: str | None = None
        self.voices = AsyncVoices(self._send)

    async def clone(
        self,
        text: str,
        reference: Reference,
        ref_text: str | None = None,
        *,
        x_vector_only: bool = False,
        language: str = "auto",
        seed: int | None = None,
        format: Format = "wav",  # noqa: A002
    ) -> bytes:
        """See ``Client.clone``."""
        source = Source(reference, ref_text, x_vector_only)
        call = await asyncio.to_thread(wire.clone, text, source, language, seed, format)
        return transport.checked(await self._send(call)).content

    def clone_stream(
        self,
        text: str,
        reference: Reference,
        ref_text: str | None = None,
        *,
        x_vector_only: bool = False,
        language: str = "auto",
        seed: int | None = None,
        format: Format = "wav",  # noqa: A002
    ) -> AsyncGenerator[bytes, None]:
        """See ``Client.clone_stream``."""
        source = Source(reference, ref_text, x_vector_only)
        make = partial(wire.clone, text, source, language, seed, format, stream=True)
        return self._stream(partial(asyncio.to_thread, make))

    async def clone_batch(
        self,
        items: Sequence[Item],
        *,
        reference: Reference | None = None,
        ref_text: str | None = None,
        x_vector_only: bool = False,
        seed: int | None = None,
    ) -> list[bytes | ServiceError]:
        """See ``Client.clone_batch``."""
        source = Source(reference, ref_text, x_vector_only)
        call = await asyncio.to_thread(wire.clone_batch, items, source, seed)
        return transport.batch_of(await self._send(call))

    async def speech(
        self,
        text: str,
        voice: str,
        *,
        format: Format = "mp3",  # noqa: A002
        language: str | None = None,
        seed: int | None = None,
    ) -> bytes:
        """See ``Client.speech``."""
        call = wire.speech(text, voice, await self._find_model(), format, language=language, seed=seed)
        return transport.checked(await self._send(call)).content

    def speech_stream(
        self,
        text: str,
        voice: str,
        *,
        format: Format = "mp3",  # noqa: A002
        language: str | None = None,
        seed: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """See ``Client.speech_stream``."""

        async def make() -> Call:
            return wire.speech(text, voice, await self._find_model(), format, language=language, seed=seed)

        return self._stream(make)

    async def languages(self) -> list[Language]:
        """See ``Client.languages``."""
        return wire.read_languages(transport.json_of(await self._send(wire.LANGUAGES)))

    async def ready(self, wait_s: float = 0) -> bool:
        """See ``Client.ready``."""
        deadline = time.monotonic() + wait_s
        while True:
            # A service that is not there yet is not ready yet.
            with suppress(httpx.TransportError):
                if transport.is_ready(await self._http.get(wire.READY.path)):
                    return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            await asyncio.sleep(min(transport.POLL_S, left))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _send(self, call: Call) -> httpx.Response:
        """The complete answer, whatever it is, after the retries that it asks for."""
        response = await self._open(call)
        try:
            await response.aread()
        except httpx.TransportError as error:
            raise transport.unreachable(self._http.base_url, error) from error
        finally:
            await response.aclose()
        return response

    async def _stream(self, make: Callable[[], Awaitable[Call]]) -> AsyncGenerator[bytes, None]:
        response = await self._open(await make())
        try:
            if not response.is_success:
                await response.aread()
                transport.checked(response)
            async for part in response.aiter_bytes():
                yield part
        except httpx.TransportError as error:
            raise transport.unreachable(self._http.base_url, error) from error
        finally:
            await response.aclose()

    async def _open(self, call: Call) -> httpx.Response:
        attempt = 0
        while True:
            request = self._http.build_request(call.method, call.path, json=call.body)
            try:
                response = await self._http.send(request, stream=True)
            except httpx.TransportError as error:
                raise transport.unreachable(self._http.base_url, error) from error
            wait = transport.wait_before_retry(response, attempt, self._retries)
            if wait is None:
                self.weights = transport.weights_of(response) or self.weights
                return response
            await response.aclose()
            await asyncio.sleep(wait)
            attempt += 1

    async def _find_model(self) -> str:
        if self._model is None:
            self._model = str(transport.json_of(await self._send(wire.MODELS))["data"][0]["id"])
        return self._model


class AsyncVoices:
    """The voices that the service keeps for this key: ``client.voices``."""

    def __init__(self, send: Callable[[Call], Awaitable[httpx.Response]]) -> None:
        self._send = send

    async def create(
        self,
        name: str,
        reference: Reference,
        ref_text: str | None = None,
        *,
        x_vector_only: bool = False,
        consent: str,
        language: str = "auto",
    ) -> Voice:
        """See ``Voices.create``."""
        source = Source(reference, ref_text, x_vector_only)
        call = await asyncio.to_thread(wire.make_voice, name, source, consent, language)
        return wire.read_voice(transport.json_of(await self._send(call)))

    async def list(self) -> list[Voice]:
        """See ``Voices.list``."""
        return [wire.read_voice(entry) for entry in transport.json_of(await self._send(wire.VOICES))["data"]]

    async def get(self, name: str) -> Voice:
        """See ``Voices.get``."""
        return wire.read_voice(transport.json_of(await self._send(wire.voice("GET", name))))

    async def delete(self, name: str) -> None:
        """See ``Voices.delete``."""
        transport.checked(await self._send(wire.voice("DELETE", name)))
