"""The service's client for Python: ``Client`` and ``AsyncClient``. It needs httpx, and neither torch nor numpy.

Both keep their connections open between calls: make one, and use it for all requests (``Client`` from any thread). Each
method raises ``ServiceError`` for an error that the service answers, with its status, code, message, field and remedy,
and ``Unreachable`` if there is no answer, or only a part of it. After a 429 or 503 the request is sent again, when the
service says so (``Retry-After``), a few times at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import httpx

from serve import transport, wire
from serve.async_client import AsyncClient
from serve.errors import ServiceError
from serve.transport import READ_S, RETRIES, URL, Unreachable
from serve.wire import Call, Format, Item, Language, Reference, Source, Voice

__all__ = ["AsyncClient", "Client", "Format", "Item", "Language", "Reference", "ServiceError", "Unreachable", "Voice"]


class Client:
    """A connection to a service, to be closed (or used with ``with``).

    Args:
        url: where it is: ``http://host:port``, with a path if it is behind a proxy.
        api_key: for a service with keys; unset: that of ``WW_API_KEY``, if any.
        timeout_s: longest silence of the service, seconds.
        retries: most retries of a 429 or 503.

    Attributes:
        voices: those that the service keeps.
        weights: what made the last audio: ``released``, or ``random``, whose sound is noise; None before the first.

    Raises:
        ValueError: the URL is not http or https.
    """

    def __init__(
        self, url: str = URL, *, api_key: str | None = None, timeout_s: float = READ_S, retries: int = RETRIES
    ) -> None:
        self._http = httpx.Client(**transport.options(url, api_key, timeout_s))
        self._retries = retries
        self._model: str | None = None
        self.weights: str | None = None
        self.voices = Voices(self._send)

    def clone(
        self,
        text: str,
        reference: Reference,
        ref_text: str | None = None,
        *,
        x_vector_only: bool = False,
        language: str = "auto",
        seed: int | None = None,
        format: Format = "wav",  # noqa: A002 - as in the routes
    ) -> bytes:
        """Say ``text`` in the voice of the reference, in which ``ref_text`` is said; returns the audio file.

        ``x_vector_only`` takes the likeness of the voice alone, without its manner, and no ``ref_text``.
        """
        source = Source(reference, ref_text, x_vector_only)
        call = wire.clone(text, source, language, seed, format)
        return transport.checked(self._send(call)).content

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
    ) -> Generator[bytes, None, None]:
        """Like ``clone``, but gives the file in parts, while it is made; closing the generator cancels the rest."""
        source = Source(reference, ref_text, x_vector_only)
        return self._stream(lambda: wire.clone(text, source, language, seed, format, stream=True))

    def clone_batch(
        self,
        items: Sequence[Item],
        *,
        reference: Reference | None = None,
        ref_text: str | None = None,
        x_vector_only: bool = False,
        seed: int | None = None,
    ) -> list[bytes | ServiceError]:
        """Say several texts; ``reference`` is that of the items without one. One's error is no other's."""
        source = Source(reference, ref_text, x_vector_only)
        call = wire.clone_batch(items, source, seed)
        return transport.batch_of(self._send(call))

    def speech(
        self,
        text: str,
        voice: str,
        *,
        format: Format = "mp3",  # noqa: A002
        language: str | None = None,
        seed: int | None = None,
    ) -> bytes:
        """Say ``text`` with a voice that the service keeps, by name or id; unset, the language is the voice's."""
        call = wire.speech(text, voice, self._find_model(), format, language=language, seed=seed)
        return transport.checked(self._send(call)).content

    def speech_stream(
        self,
        text: str,
        voice: str,
        *,
        format: Format = "mp3",  # noqa: A002
        language: str | None = None,
        seed: int | None = None,
    ) -> Generator[bytes, None, None]:
        """Like ``speech``, but gives the file in parts, while it is made; closing the generator cancels the rest."""
        return self._stream(lambda: wire.speech(text, voice, self._find_model(), format, language=language, seed=seed))

    def languages(self) -> list[Language]:
        """The languages that ``language`` accepts, besides ``auto``."""
        return wire.read_languages(transport.json_of(self._send(wire.LANGUAGES)))

    def ready(self, wait_s: float = 0) -> bool:
        """Whether the service takes requests, now or within ``wait_s`` seconds; it need not be there before.

        Raises:
            ServiceError: its start has failed; or it answers something else than a state.
        """
        deadline = time.monotonic() + wait_s
        while True:
            # A service that is not there yet is not ready yet.
            with suppress(httpx.TransportError):
                if transport.is_ready(self._http.get(wire.READY.path)):
                    return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(transport.POLL_S, left))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, call: Call) -> httpx.Response:
        """The complete answer, whatever it is, after the retries that it asks for."""
        response = self._open(call)
        try:
            response.read()
        except httpx.TransportError as error:
            raise transport.unreachable(self._http.base_url, error) from error
        finally:
            response.close()
        return response

    def _stream(self, make: Callable[[], Call]) -> Generator[bytes, None, None]:
        response = self._open(make())
        try:
            if not response.is_success:
                response.read()
                transport.checked(response)
            yield from response.iter_bytes()
        except httpx.TransportError as error:
            raise transport.unreachable(self._http.base_url, error) from error
        finally:
            response.close()

    def _open(self, call: Call) -> httpx.Response:
        attempt = 0
        while True:
            request = self._http.build_request(call.method, call.path, json=call.body)
            try:
                response = self._http.send(request, stream=True)
            except httpx.TransportError as error:
                raise transport.unreachable(self._http.base_url, error) from error
            wait = transport.wait_before_retry(response, attempt, self._retries)
            if wait is None:
                self.weights = transport.weights_of(response) or self.weights
                return response
            response.close()
            time.sleep(wait)
            attempt += 1

    def _find_model(self) -> str:
        if self._model is None:
            self._model = str(transport.json_of(self._send(wire.MODELS))["data"][0]["id"])
        return self._model


class Voices:
    """The voices that the service keeps for this key: ``client.voices``."""

    def __init__(self, send: Callable[[Call], httpx.Response]) -> None:
        self._send = send

    def create(
        self,
        name: str,
        reference: Reference,
        ref_text: str | None = None,
        *,
        x_vector_only: bool = False,
        consent: str,
        language: str = "auto",
    ) -> Voice:
        """Keep a voice; ``consent`` notes who agreed to its use, and how. The others: see ``Client.clone``."""
        source = Source(reference, ref_text, x_vector_only)
        call = wire.make_voice(name, source, consent, language)
        return wire.read_voice(transport.json_of(self._send(call)))

    def list(self) -> list[Voice]:
        """All of them, the oldest first."""
        return [wire.read_voice(entry) for entry in transport.json_of(self._send(wire.VOICES))["data"]]

    def get(self, name: str) -> Voice:
        """One, by name or id."""
        return wire.read_voice(transport.json_of(self._send(wire.voice("GET", name))))

    def delete(self, name: str) -> None:
        """Forget one, by name or id."""
        transport.checked(self._send(wire.voice("DELETE", name)))
