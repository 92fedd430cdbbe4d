"""The voices' routes: a voice is kept once, and spoken with by its name or id afterwards."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from serve.api.bodies import TEXT_FIELD, describe_bodies, read_body, refuse_useless_transcript
from serve.api.callers import caller_of
from serve.api.schemas import AUDIO, ErrorAnswer, StrictRequest
from serve.errors import ServiceError, invalid
from serve.service import Service
from serve.settings import Settings
from serve.speech.audio import AudioLimits, Sound
from serve.speech.languages import CODES, resolve_language
from serve.speech.text import clean_text
from serve.speech.uploads import decode_reference
from serve.voices.records import MAX_NOTE_CHARS, NewVoice, VoiceInfo, check_name
from serve.voices.store import VoiceStore, open_store, why_no_folder

PATH = "/v1/audio/voices"
# UTF-8 has up to four bytes a character.
MAX_FIELD_BYTES = 4 * MAX_NOTE_CHARS
STATUSES = (400, 401, 404, 409, 413, 415, 422, 429, 500, 503, 507)
ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": ErrorAnswer} for status in STATUSES}
FILE_FIELD = "audio_sample"
EXAMPLE = {"name": "anna", "language": "en", "ref_text": "What is said in it.", "consent": "Anna, by mail, 2025-03-01"}


class VoiceFields(StrictRequest):
    """A voice to keep, without its audio."""

    name: str = Field(description="1 to 64 letters, digits and `-_.` of any script; unique among your voices")
    consent: str = Field(description="who agreed to this use of the voice, how and when; kept with the voice")
    ref_text: str | None = Field(None, description="what is said in the audio; needed, but for x_vector_only")
    language: str = Field("auto", description="what is spoken with the voice by default, see GET /languages")
    x_vector_only: bool = Field(False, description="keep the likeness of the voice alone: no transcript is needed")
    # OpenAI's client may send it; its other kind, `prompt`, is not made here.
    type: Literal["audio_sample"] = "audio_sample"


class VoiceRequest(VoiceFields):
    """A voice to keep, as JSON."""

    ref_audio_base64: str = Field(description=AUDIO)


class VoiceAnswer(BaseModel):
    """A voice, as OpenAI's API shows one, and what else is known of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "voice_" + "0" * 24, **EXAMPLE}]})

    id: str
    object: Literal["audio.voice"] = "audio.voice"
    type: Literal["audio_sample"] = "audio_sample"
    name: str
    created_at: int = Field(description="seconds since 1970, UTC")
    language: str
    ref_text: str | None
    x_vector_only: bool
    consent: str
    duration_s: float
    audio_sha256: str = Field(description="of the file that was sent")


class VoicesAnswer(BaseModel):
    """All voices of the key, the oldest first."""

    object: Literal["list"] = "list"
    data: list[VoiceAnswer]
    has_more: Literal[False] = False


class DeletedAnswer(BaseModel):
    """A voice that is no more."""

    id: str
    object: Literal["audio.voice.deleted"] = "audio.voice.deleted"
    deleted: Literal[True] = True


BODIES = describe_bodies(VoiceRequest, VoiceFields, FILE_FIELD, EXAMPLE)


def add_routes(app: FastAPI, service: Service) -> None:
    """Open the store, and add the routes.

    Raises:
        StartError: the store cannot be used.
    """
    app.state.voices = open_store(service.settings)

    @app.post(PATH, status_code=HTTPStatus.CREATED, responses=ERRORS, openapi_extra={"requestBody": BODIES})
    async def make_voice(request: Request, response: Response) -> VoiceAnswer:
        """Keep a voice: a form with the file, or JSON with the audio as base64. It belongs to the key that made it.

        The answer comes when the voice is safe on disk. `voice` in `POST /v1/audio/speech` takes its name or id.
        """
        store = store_of(request)
        asked, audio = await read_body(
            request,
            VoiceRequest,
            VoiceFields,
            file_field=FILE_FIELD,
            max_audio_bytes=service.settings.max_audio_bytes,
            max_field_bytes=MAX_FIELD_BYTES,
        )
        languages = service.running.facts.languages if service.running else tuple(CODES)
        voice = await asyncio.to_thread(_check, asked, audio, service.settings, languages)
        info = await asyncio.to_thread(store.add, voice, caller_of(request).id)
        response.headers["Location"] = f"{PATH}/{info.id}"
        return _shown(info)

    @app.get(PATH, responses=ERRORS)
    async def list_voices(request: Request) -> VoicesAnswer:
        """The voices of this key."""
        found = await asyncio.to_thread(store_of(request).owned_by, caller_of(request).id)
        return VoicesAnswer(data=[_shown(info) for info in found])

    @app.get(PATH + "/{voice}", responses=ERRORS)
    async def show_voice(request: Request, voice: str) -> VoiceAnswer:
        """One voice, by id or name; 404 if it is another key's."""
        return _shown(await asyncio.to_thread(store_of(request).find, voice, caller_of(request).id))

    @app.delete(PATH + "/{voice}", responses=ERRORS)
    async def delete_voice(request: Request, voice: str) -> DeletedAnswer:
        """Forget one voice, by id or name: its audio, too. What is being said with it is said to its end."""
        info = await asyncio.to_thread(store_of(request).delete, voice, caller_of(request).id)
        return DeletedAnswer(id=info.id)


def store_of(request: Request) -> VoiceStore:
    """The store of the app.

    Raises:
        ServiceError: 409; the service has no folder to keep voices in.
    """
    store: VoiceStore | None = request.app.state.voices
    if store is None:
        message = f"this service keeps no voices: {why_no_folder()}"
        remedy = "set WW_DATA_DIR to a folder on a disk that outlives the service, or send the reference to /clone"
        raise ServiceError(HTTPStatus.CONFLICT, "no_data_dir", message, remedy=remedy)
    return store


def _check(asked: VoiceFields, audio: bytes | str, settings: Settings, languages: tuple[str, ...]) -> NewVoice:
    """All that can be wrong with a voice, the cheap first."""
    name = check_name(asked.name, "name")
    consent = clean_text(asked.consent, MAX_NOTE_CHARS, "consent", paragraphs=False)
    language = resolve_language(asked.language, languages, "language")
    refuse_useless_transcript(asked.ref_text, likeness=asked.x_vector_only)
    if not asked.x_vector_only and asked.ref_text is None:
        remedy = "give ref_text, or x_vector_only=true, which sounds less like the voice"
        raise invalid("half_a_reference", "ref_text is missing beside the audio", "ref_text", remedy)
    transcript = (
        None if asked.ref_text is None else clean_text(asked.ref_text, MAX_NOTE_CHARS, "ref_text", paragraphs=False)
    )
    return NewVoice(name, language, transcript, consent, _decode(audio, settings))


def _decode(audio: bytes | str, settings: Settings) -> Sound:
    limits = AudioLimits(settings.max_audio_bytes, settings.min_ref_s, settings.max_ref_s)
    return decode_reference(audio, limits, TEXT_FIELD if isinstance(audio, str) else FILE_FIELD)


def _shown(info: VoiceInfo) -> VoiceAnswer:
    return VoiceAnswer(
        id=info.id,
        name=info.name,
        created_at=info.created,
        language=info.language,
        ref_text=info.transcript,
        x_vector_only=info.transcript is None,
        consent=info.consent,
        duration_s=round(info.duration_s, 3),
        audio_sha256=info.digest,
    )
