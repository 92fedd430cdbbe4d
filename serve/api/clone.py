"""``/clone`` and ``/clone-batch``: a reference comes with the request."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response

from serve.api.bodies import (
    EXAMPLE_AUDIO,
    TEXT_FIELD,
    describe_bodies,
    describe_json,
    read_body,
    read_json,
    refuse_useless_transcript,
)
from serve.api.callers import caller_of
from serve.api.http import as_json, retry_header
from serve.api.leaving import until_gone
from serve.api.requests import note_error
from serve.api.schemas import BatchAnswer, BatchItem, BatchRequest, CloneFields, CloneRequest, ErrorAnswer
from serve.api.sounding import answer_sound, as_whole_file, weights_header
from serve.errors import ServiceError, invalid
from serve.pool import hold
from serve.service import Service
from serve.speech.audio import AudioLimits, Sound
from serve.speech.cloning import MOST_SEED, Reference, Utterance
from serve.speech.encoders import MEDIA_TYPES
from serve.speech.languages import resolve_language
from serve.speech.text import clean_text
from serve.speech.uploads import decode_reference

FILE_FIELD = "ref_audio"
EXAMPLE = {"text": "Hello.", "language": "en", "ref_text": "What is said in it."}
BATCH_EXAMPLE = {
    "items": [{"text": "Good morning.", "language": "en"}, {"text": "Guten Morgen.", "language": "de"}],
    TEXT_FIELD: EXAMPLE_AUDIO,
    "ref_text": "What is said in it.",
}
# A transcript of 30 s of speech has about 500 characters.
MAX_REF_TEXT_CHARS = 2000
# The seeds of a batch's items: more apart than one text has pieces.
SEED_STEP = 4096
STATUSES = (400, 401, 408, 413, 415, 422, 429, 500, 503, 504)
ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": ErrorAnswer} for status in STATUSES}


def add_routes(app: FastAPI, service: Service) -> None:
    """Add both."""

    @app.post(
        "/clone",
        response_class=Response,
        responses={
            **ERRORS,
            200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}, "description": "speech, 24 kHz mono"},
        },
        openapi_extra={"requestBody": describe_bodies(CloneRequest, CloneFields, FILE_FIELD, EXAMPLE)},
    )
    async def clone(request: Request) -> Response:
        """Say one text in the voice of a reference: a form with the file, or JSON with the audio as base64."""
        body, audio = await read_body(
            request,
            CloneRequest,
            CloneFields,
            file_field=FILE_FIELD,
            max_audio_bytes=service.settings.max_audio_bytes,
            max_field_bytes=4 * service.settings.max_text_chars,  # UTF-8 has up to four bytes a character
        )

        def read() -> Utterance:
            return Reader(service).utterance(body, audio)

        return await answer_sound(request, service, read, body.response_format, seed=body.seed, stream=body.stream)

    @app.post(
        "/clone-batch",
        response_model_exclude_unset=True,
        responses=ERRORS,
        openapi_extra={"requestBody": describe_json(BatchRequest, BATCH_EXAMPLE)},
    )
    async def clone_batch(request: Request, response: Response) -> BatchAnswer:
        """Say several texts; each has its own status, and one that fails does not hold up the others."""
        most = service.settings.max_text_chars + MAX_REF_TEXT_CHARS
        body = await read_json(request, BatchRequest, most_chars=(service.settings.max_items + 1) * most)
        if len(body.items) > service.settings.max_items:
            message = f"items has {len(body.items)} entries; at most {service.settings.max_items} are accepted"
            raise invalid("too_many_items", message, "items", "send them in several requests")
        client = caller_of(request).client
        with service.admit(client):
            read = await asyncio.to_thread(_read_batch, service, body)
            results = await until_gone(request, _speak_all(service, read, client, body.seed))
        # As base64, and that once more as the answer's text.
        hold(sum(len(result) * 8 // 3 for result in results if isinstance(result, bytes)))
        response.headers.update(weights_header(service))
        answer: dict[str, Any] = {"items": [_result(result) for result in results]}
        errors = [result for result in results if isinstance(result, ServiceError)]
        if len(errors) == len(results):
            worst = max(errors, key=lambda error: error.status)
            response.status_code = worst.status
            response.headers.update(retry_header(worst.status))
            note_error("all_failed", worst.code)
            message, remedy = f"none of the {len(errors)} items could be spoken", "see the error of each item"
            answer["error"] = as_json(ServiceError(response.status_code, "all_failed", message, remedy=remedy))
        return BatchAnswer.model_validate(answer)


class Reader:
    """Checks and decodes what a request holds; equal base64 is decoded once."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self._limits = AudioLimits(settings.max_audio_bytes, settings.min_ref_s, settings.max_ref_s)
        self._most = settings.max_text_chars
        self._languages = service.running.facts.languages if service.running else ()
        self._sounds: dict[str, Sound] = {}

    def utterance(
        self, asked: CloneFields | BatchItem, audio: bytes | str | None, shared: Reference | None = None
    ) -> Utterance:
        """What is asked for, checked: ``shared`` is the voice of an item that brings none."""
        text = clean_text(asked.text, self._most, "text")
        language = resolve_language(asked.language, self._languages, "language")
        reference = self.reference(audio, asked.ref_text, likeness=asked.x_vector_only) or shared
        if reference is None:
            remedy = "give the item ref_audio_base64 and ref_text, or give them to the whole batch"
            raise invalid("no_reference", "there is no reference to clone", TEXT_FIELD, remedy)
        return Utterance(text, language, reference)

    def reference(self, audio: bytes | str | None, text: str | None, *, likeness: bool) -> Reference | None:
        """A voice, or None where neither part of one is given; ``likeness``: of the speaker alone, no transcript."""
        if audio is None and text is None and not likeness:
            return None
        refuse_useless_transcript(text, likeness=likeness)
        if audio is None or (text is None and not likeness):
            beside = "x_vector_only" if likeness else "ref_text"
            missing, other = (TEXT_FIELD, beside) if audio is None else ("ref_text", TEXT_FIELD)
            instead = "" if audio is None else "; or x_vector_only, which sounds less like the voice"
            remedy = f"give {missing}, too{instead}"
            raise invalid("half_a_reference", f"{missing} is missing beside {other}", missing, remedy)
        transcript = None if text is None else clean_text(text, MAX_REF_TEXT_CHARS, "ref_text", paragraphs=False)
        if isinstance(audio, bytes):
            return Reference(decode_reference(audio, self._limits, FILE_FIELD), transcript)
        if audio not in self._sounds:
            self._sounds[audio] = decode_reference(audio, self._limits, TEXT_FIELD)
        return Reference(self._sounds[audio], transcript)


async def _speak_all(
    service: Service, read: Sequence[Utterance | ServiceError], client: str, seed: int | None
) -> list[bytes | ServiceError]:
    """Each utterance as a WAV file, or its error; all of them are in the queue at once."""

    async def one(index: int, utterance: Utterance | ServiceError) -> bytes | ServiceError:
        if isinstance(utterance, ServiceError):
            return utterance.within(f"items.{index}")
        own = None if seed is None else (seed + index * SEED_STEP) % MOST_SEED
        try:
            return await as_whole_file(service.speak(utterance, client=client, seed=own), "wav")
        except ServiceError as error:
            return error.within(f"items.{index}")

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(index, utterance)) for index, utterance in enumerate(read)]
    return [task.result() for task in tasks]


def _read_batch(service: Service, request: BatchRequest) -> list[Utterance | ServiceError]:
    """Each item checked and decoded, or its error; a broken shared reference fails the whole request."""
    reader = Reader(service)
    shared = reader.reference(request.ref_audio_base64, request.ref_text, likeness=request.x_vector_only)
    read: list[Utterance | ServiceError] = []
    for item in request.items:
        try:
            read.append(reader.utterance(item, item.ref_audio_base64, shared))
        except ServiceError as error:
            read.append(error)
    return read


def _result(spoken: bytes | ServiceError) -> dict[str, Any]:
    if isinstance(spoken, ServiceError):
        return {"status": spoken.status, "error": as_json(spoken)}
    return {"status": int(HTTPStatus.OK), "audio_base64": base64.b64encode(spoken).decode("ascii")}
