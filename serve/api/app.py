"""The routes."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from serve.api import operations
from serve.api.http import Guard, add_error_handlers, as_json
from serve.api.requests import Requests
from serve.api.schemas import BatchAnswer, BatchItem, BatchRequest, CloneRequest, ErrorAnswer, LanguagesAnswer
from serve.errors import ServiceError, invalid
from serve.service import Service
from serve.speech.audio import AudioLimits, Sound, decode_audio, decode_base64
from serve.speech.cloning import Reference, Utterance, speak
from serve.speech.languages import CODES, resolve_language
from serve.speech.text import clean_text

# A transcript of 30 s of speech has about 500 characters.
MAX_REF_TEXT_CHARS = 2000
ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": ErrorAnswer} for status in (400, 413, 422, 429, 500, 503)}


def create_app(service: Service) -> FastAPI:
    """The application around a service; its lifespan starts the loading."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    # No /docs page: it would load scripts from someone else's host. /openapi.json is there.
    app = FastAPI(title="Wheelwright speech service", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(Guard, max_body_bytes=service.settings.max_body_bytes)
    app.add_middleware(Requests, metrics=service.metrics)  # the last added is the outermost
    add_error_handlers(app)
    _add_probes(app, service)
    _add_speech(app, service)
    operations.add_routes(app, service)
    return app


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/live")
    async def live() -> JSONResponse:
        """200 while the process is worth keeping, from the first moment on, loading included."""
        failed = service.state.status == "failed"
        status = HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK
        return _until_ready(service, {"status": "failed" if failed else "live"}, status)

    @app.get("/ready")
    async def ready() -> JSONResponse:
        """200 when requests are taken; 503 before and after, with how far the start is."""
        return _until_ready(service, service.state.snapshot())

    @app.get("/health")
    async def health() -> JSONResponse:
        """What runs and why: attention, dtypes, device, weights, image. 503 until ready."""
        return _until_ready(service, service.health())

    @app.get("/languages")
    async def languages() -> LanguagesAnswer:
        """The languages that ``language`` accepts, besides ``auto``."""
        known = sorted(service.running.facts.languages if service.running else CODES)
        listed = [{"name": name, "code": CODES.get(name)} for name in known]
        return LanguagesAnswer.model_validate({"source": "model" if service.running else "known", "languages": listed})


def _add_speech(app: FastAPI, service: Service) -> None:
    settings = service.settings

    @app.post(
        "/clone",
        response_class=Response,
        responses={**ERRORS, 200: {"content": {"audio/wav": {}}, "description": "WAV, 24 kHz mono 16-bit"}},
    )
    async def clone(request: CloneRequest) -> Response:
        """Say one text in the voice of a reference."""
        item = BatchItem(**request.model_dump(exclude={"seed"}))
        with service.admit():
            utterance = await asyncio.to_thread(_Reader(service).utterance, item, None)
            spoken = await service.run(lambda engine: speak(engine, [utterance], request.seed, settings.max_batch))
        if isinstance(spoken[0], ServiceError):
            raise spoken[0]
        return Response(spoken[0], media_type="audio/wav", headers=_weights(service))

    @app.post("/clone-batch", response_model_exclude_unset=True, responses=ERRORS)
    async def clone_batch(request: BatchRequest, response: Response) -> BatchAnswer:
        """Say several texts; each has its own status, and one that fails does not hold up the others."""
        if len(request.items) > settings.max_items:
            message = f"items has {len(request.items)} entries; at most {settings.max_items} are accepted"
            raise invalid("too_many_items", message, "items", "send them in several requests")
        made: list[bytes | ServiceError] = []
        with service.admit():
            read = await asyncio.to_thread(_read_batch, service, request)
            good = [utterance for utterance in read if isinstance(utterance, Utterance)]
            if good:
                made = await service.run(lambda engine: speak(engine, good, request.seed, settings.max_batch))
        spoken = iter(made)
        results = [
            (outcome.within(f"items.{index}") if isinstance(outcome, ServiceError) else outcome)
            for index, entry in enumerate(read)
            for outcome in [entry if isinstance(entry, ServiceError) else next(spoken)]
        ]
        response.headers.update(_weights(service))
        answer: dict[str, Any] = {"items": [_result(result) for result in results]}
        errors = [result for result in results if isinstance(result, ServiceError)]
        if len(errors) == len(results):
            response.status_code = max(error.status for error in errors)
            message, remedy = f"none of the {len(errors)} items could be spoken", "see the error of each item"
            answer["error"] = as_json(ServiceError(response.status_code, "all_failed", message, remedy=remedy))
        return BatchAnswer.model_validate(answer)


class _Reader:
    """Checks and decodes what a request holds; equal audio is decoded once."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self._limits = AudioLimits(settings.max_audio_bytes, settings.min_ref_s, settings.max_ref_s)
        self._most = settings.max_text_chars
        self._languages = service.running.facts.languages if service.running else ()
        self._sounds: dict[str, Sound] = {}

    def utterance(self, item: BatchItem, shared: Reference | None) -> Utterance:
        """The item, checked: ``shared`` is the voice of an item that brings none."""
        text = clean_text(item.text, self._most, "text")
        language = resolve_language(item.language, self._languages, "language")
        own = self.reference(item.ref_audio_base64, item.ref_text)
        reference = own or shared
        if reference is None:
            remedy = "give the item ref_audio_base64 and ref_text, or give them to the whole batch"
            raise invalid("no_reference", "there is no reference to clone", "ref_audio_base64", remedy)
        return Utterance(text, language, reference)

    def reference(self, audio: str | None, text: str | None) -> Reference | None:
        """A voice, or None where neither part of one is given."""
        if audio is None and text is None:
            return None
        if audio is None or text is None:
            missing, other = ("ref_text", "ref_audio_base64") if text is None else ("ref_audio_base64", "ref_text")
            raise invalid("half_a_reference", f"{missing} is missing beside {other}", missing, f"give {missing}, too")
        transcript = clean_text(text, MAX_REF_TEXT_CHARS, "ref_text")
        if audio not in self._sounds:
            content = decode_base64(audio, self._limits.max_bytes, "ref_audio_base64")
            self._sounds[audio] = decode_audio(content, self._limits, "ref_audio_base64")
        return Reference(self._sounds[audio], transcript)


def _read_batch(service: Service, request: BatchRequest) -> list[Utterance | ServiceError]:
    """Each item checked and decoded, or its error; a broken shared reference fails the whole request."""
    reader = _Reader(service)
    shared = reader.reference(request.ref_audio_base64, request.ref_text)
    read: list[Utterance | ServiceError] = []
    for item in request.items:
        try:
            read.append(reader.utterance(item, shared))
        except ServiceError as error:
            read.append(error)
    return read


def _result(spoken: bytes | ServiceError) -> dict[str, Any]:
    if isinstance(spoken, ServiceError):
        return {"status": spoken.status, "error": as_json(spoken)}
    return {"status": int(HTTPStatus.OK), "audio_base64": base64.b64encode(spoken).decode("ascii")}


def _weights(service: Service) -> dict[str, str]:
    """Said with every audio, so that nobody takes the noise of random weights for the model's speech."""
    return {"X-Weights": service.running.facts.weights} if service.running else {}


def _until_ready(service: Service, content: dict[str, Any], status: HTTPStatus | None = None) -> JSONResponse:
    """``content``, with 503 and the error beside it until the service is ready; ``status`` overrides."""
    refusal = service.state.refusal()
    decided = status or (HTTPStatus.OK if refusal is None else HTTPStatus.SERVICE_UNAVAILABLE)
    if refusal is not None and decided != HTTPStatus.OK:
        content |= refusal.body()
    return JSONResponse(content, decided)
