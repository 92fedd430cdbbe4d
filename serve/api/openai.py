"""OpenAI's routes: what is written for its speech API works with this service, with voices of one's own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from serve.api.bodies import describe_json, read_json
from serve.api.callers import caller_of
from serve.api.schemas import WITH_KEYS, ErrorAnswer, StrictRequest
from serve.api.sounding import answer_sound, weights_header
from serve.api.spoken import Counting, SpokenAnswer, as_events, first_samples
from serve.api.voices import store_of
from serve.checkpoint import DEFAULT_MODEL
from serve.errors import ServiceError
from serve.service import Service
from serve.speech.cloning import Reference, Utterance
from serve.speech.encoders import MEDIA_TYPES, Format, make_encoder
from serve.speech.languages import resolve_language
from serve.speech.text import clean_text

STATUSES = (400, 401, 404, 408, 409, 413, 415, 422, 429, 500, 503, 504)
ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": ErrorAnswer} for status in STATUSES}
AUDIO_ANSWER: dict[str, Any] = {
    "description": "speech, 24 kHz mono, which leaves while it is made",
    "content": {kind.partition(";")[0]: {} for kind in MEDIA_TYPES.values()} | {"text/event-stream": {}},
}
EVENTS = "text/event-stream"


def _voice_name(value: object) -> object:
    """OpenAI's newer clients send a voice that was made as an object."""
    return value["id"] if isinstance(value, dict) and set(value) == {"id"} else value


VoiceName = Annotated[
    str,
    BeforeValidator(_voice_name),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"id": {"type": "string"}},
                    "required": ["id"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class SpeechRequest(StrictRequest):
    """OpenAI's request for speech; ``language`` and ``seed`` are this service's own."""

    model: str = Field(description="see GET /v1/models")
    input: str = Field(description="what to say")
    voice: VoiceName = Field(description="name or id of a voice, see POST /v1/audio/voices; or {id: ...}")
    response_format: Format = Field("mp3", description="wav and pcm are 16 bit, 24 kHz, mono")
    stream_format: Literal["audio", "sse"] = Field(
        "audio", description="the file itself, or events that hold its parts"
    )
    speed: float = Field(1.0, description="only 1: the model has no other")
    instructions: str | None = Field(None, description="only empty: the model takes none")
    language: str | None = Field(None, description="name or code, see GET /languages; unset: the voice's")
    seed: int | None = Field(None, ge=0, lt=2**63, description="same request, same seed, same machine: the same audio")


class ModelAnswer(BaseModel):
    """A model, as OpenAI's API shows one."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="when this service started, seconds since 1970, UTC")
    owned_by: str


class ModelsAnswer(BaseModel):
    """The models: one."""

    object: Literal["list"] = "list"
    data: list[ModelAnswer]


def add_routes(app: FastAPI, service: Service) -> None:
    """Add the routes; ``serve.api.voices`` must have added its own, whose store is used."""
    names = model_names(service)
    model = ModelAnswer(id=names[0], created=int(time.time()), owned_by="wheelwright")

    example = {"model": names[0], "input": "Hello.", "voice": "anna", "response_format": "wav"}

    @app.post(
        "/v1/audio/speech",
        response_class=Response,
        responses={**ERRORS, 200: AUDIO_ANSWER},
        openapi_extra={"requestBody": describe_json(SpeechRequest, example)},
    )
    async def speech(request: Request) -> Response:
        """Say a text with a voice that is kept here. The audio leaves while it is made."""
        body = await read_json(request, SpeechRequest, most_chars=2 * service.settings.max_text_chars)
        _check_supported(body)
        _check_model(body.model, names, "model")
        text = clean_text(body.input, service.settings.max_text_chars, "input")
        caller = caller_of(request)

        def read() -> Utterance:
            voice = store_of(request).reference(body.voice, caller.id, "voice")
            known = service.running.facts.languages if service.running else ()
            language = resolve_language(body.language or voice.info.language, known, "language")
            return Utterance(text, language, Reference(voice.sound, voice.info.transcript))

        if body.stream_format == "audio":
            return await answer_sound(request, service, read, body.response_format, seed=body.seed, stream=True)
        spoken = service.stream(read, client=caller.client, seed=body.seed)
        first = await first_samples(request, spoken)
        counted = Counting(make_encoder(body.response_format))
        deadline_s = service.settings.deadline_s
        events = as_events(first, spoken, counted, len(text))
        return SpokenAnswer(events, spoken, EVENTS, weights_header(service), counted=counted, deadline_s=deadline_s)

    @app.get("/v1/models", responses=WITH_KEYS)
    async def list_models() -> ModelsAnswer:
        """The model that speaks here; listed while it is loading, too."""
        return ModelsAnswer(data=[model])

    @app.get("/v1/models/{name:path}", responses={**WITH_KEYS, 404: {"model": ErrorAnswer}})
    async def show_model(name: str) -> ModelAnswer:
        """One model."""
        _check_model(name, names, None)
        return model


def model_names(service: Service) -> tuple[str, ...]:
    """What ``model`` may be: the model's id, and its last part. A folder's path is nobody's business: its name is."""
    settings, image = service.settings, service.image
    if settings.model_id is not None:
        name = settings.model_id
    elif settings.model_dir is not None:
        name = settings.model_dir.resolve().name or "model"
    else:
        name = image.model if image else DEFAULT_MODEL
    return tuple(dict.fromkeys((name, name.rpartition("/")[2])))


def _check_model(name: str, names: Sequence[str], field: str | None) -> None:
    if name not in names:
        message = "there is no such model here"
        raise ServiceError(
            HTTPStatus.NOT_FOUND, "model_not_found", message, field=field, remedy=f"the model here is {names[0]}"
        )


def _check_supported(body: SpeechRequest) -> None:
    """Refuse what OpenAI's API has and this model has not, rather than do something else in silence."""
    if body.speed != 1:
        message, remedy = "speed is not 1, and the model speaks at its own speed", "leave out speed"
        raise ServiceError(HTTPStatus.BAD_REQUEST, "unsupported_speed", message, field="speed", remedy=remedy)
    if body.instructions is not None and body.instructions.strip():
        message = "the model takes no instructions; it speaks as the voice's audio does"
        remedy = "leave out instructions, or make a voice from audio in the manner that you want"
        raise ServiceError(
            HTTPStatus.BAD_REQUEST, "unsupported_instructions", message, field="instructions", remedy=remedy
        )
