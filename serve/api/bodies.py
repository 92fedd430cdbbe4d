"""Bodies: JSON, or for requests with a reference a form with the file, too, read alike.

FastAPI's own reading is passed by. A JSON value can cost three hundred times its bytes until it is refused, and all
of it is one call that holds up the event loop, so what can be no request is refused before it is parsed.
"""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from codecs import BOM_UTF8
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import numpy as np
import soundfile
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser

from serve.api.schemas import AUDIO
from serve.errors import ServiceError, invalid
from serve.pool import hold, unhold
from serve.speech.uploads import read_upload

JSON, FORM = "application/json", "multipart/form-data"
Model = TypeVar("Model", bound=BaseModel)
TEXT_FIELD = "ref_audio_base64"
# Beyond ASCII: four bytes a character, and while it is widened the narrower text, too; measured 5 and 6.
WIDENED = 6
WIDE = re.compile(rb"[\x80-\xff]|\\u")
MOST_QUOTES = 100_000
# Of a value in a list or an object with its name; measured 90 to 230.
VALUE_BYTES = 256


def _buzz() -> str:
    """The least audio that is accepted as a reference: a second of a square wave, as base64 of a flac."""
    wave = np.resize(np.repeat(np.array([4096, -4096], np.int16), 40), 8000)
    file = io.BytesIO()
    soundfile.write(file, wave, wave.size, format="FLAC")
    return base64.b64encode(file.getvalue()).decode("ascii")


# In the OpenAPI document, whose examples can be sent as they stand.
EXAMPLE_AUDIO = _buzz()


async def read_json(request: Request, model: type[Model], *, most_chars: int) -> Model:
    """The body of a request that is JSON.

    Args:
        request: of any content type.
        model: what the body is.
        most_chars: that its texts may have, all together.

    Raises:
        ServiceError: 415 not JSON by its content type; 422 by its content.
        RequestValidationError: the fields are wrong, as FastAPI says it.
    """
    if _kind(request) != JSON:
        raise _unsupported(f"the body is not {JSON}", f"send a JSON object, with the header Content-Type: {JSON}")
    return validated(model, await _read_json(request, most_chars))


async def _read_json(request: Request, most_chars: int) -> Any:
    """The body as Python's values; of it and of them together there is never more than the pool has room for."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
    hold(cost_of_json(content))
    parsed = parse_json(content, most_chars)
    unhold(len(content))  # the values are there, and it goes
    return parsed


def cost_of_json(content: bytes | bytearray) -> int:
    """Most bytes that its values take while they are made: a text is as wide as its widest character."""
    escaped = len(content) if b"\\" in content else 0  # undone in a copy
    return len(content) + escaped + (WIDENED - 1) * _wide_bytes(content) + _marks(content) * VALUE_BYTES


def _wide_bytes(content: bytes | bytearray) -> int:
    """How much of it are texts with characters beyond ASCII; all of it if that takes long to find out."""
    if content.count(b'"') > MOST_QUOTES:
        return len(content)
    total = end = 0
    while (wide := WIDE.search(content, end)) is not None:
        start, end = content.rfind(b'"', end, wide.start()), content.find(b'"', wide.end())
        # A quote that is escaped is within the text.
        while start > 0 and content[start - 1 : start] == b"\\":
            start = content.rfind(b'"', 0, start)
        while end > 0 and content[end - 1 : end] == b"\\":
            end = content.find(b'"', end + 1)
        end = len(content) if end < 0 else end
        total += end - max(start, 0)
    return min(total, len(content))


def _marks(content: bytes | bytearray) -> int:
    return content.count(b",") + content.count(b"[") + content.count(b"{")


def parse_json(content: bytes | bytearray, most_chars: int) -> Any:
    """JSON as Python's values.

    Each value but the first follows a bracket or a comma. They are counted, within texts too: a body with more of them
    than its texts may have characters is no request.

    Raises:
        ServiceError: 422 not JSON, or of too many values.
    """
    marks = _marks(content)
    if marks > most_chars:
        message = f"the body has {marks} commas and opening brackets, more than its texts may have characters"
        raise ServiceError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "too_many_values",
            message,
            remedy="send the fields of /openapi.json, and shorter texts",
        )
    try:
        return from_json(content.removeprefix(BOM_UTF8) if content.startswith(BOM_UTF8) else content)
    except ValueError:  # its message would quote the body
        message = "the body is not JSON, in UTF-8"
        raise ServiceError(HTTPStatus.UNPROCESSABLE_ENTITY, "not_json", message, remedy="send a JSON object") from None


async def read_body(
    request: Request,
    as_json: type[Model],
    as_form: type[Model],
    *,
    file_field: str,
    max_audio_bytes: int,
    max_field_bytes: int,
) -> tuple[Model, bytes | str]:
    """The fields, and the audio: bytes of a file, or base64 text.

    Args:
        request: its content type decides.
        as_json: the body as JSON, with a field ``ref_audio_base64``.
        as_form: the fields of a form beside the file.
        file_field: the name of the form's file.
        max_audio_bytes: of the file.
        max_field_bytes: of each other field.

    Raises:
        ServiceError: 400 no form; 413 too large; 415 neither form nor JSON; 422 the file is missing or a path.
        RequestValidationError: the fields are wrong, as FastAPI says it.
    """
    kind, most = _kind(request), len(as_form.model_fields)
    if kind == JSON:
        asked = await read_json(request, as_json, most_chars=most * max_field_bytes)
        return asked, getattr(asked, TEXT_FIELD)
    if kind != FORM:
        remedy = f"send a form ({FORM}) with the file in {file_field}, or JSON with {TEXT_FIELD}"
        raise _unsupported(f"the body is neither {FORM} nor {JSON}", remedy)
    try:
        parser = _InMemory(
            request.headers, request.stream(), max_files=1, max_fields=most, max_part_size=max_field_bytes
        )
        form = await parser.parse()
        try:
            return await _read_form(form, as_form, file_field, max_audio_bytes)
        finally:
            await form.close()
    except MultiPartException as error:
        remedy = f"send a form of at most {most} fields, each of at most {max_field_bytes} bytes, and one file"
        raise ServiceError(HTTPStatus.BAD_REQUEST, "bad_form", str(error.message), remedy=remedy) from error
    except UnicodeError:  # some of Python's codecs, which a form may name, raise more than the form's reader expects
        message, remedy = "the form's texts are not in its charset", "send them in UTF-8"
        raise ServiceError(HTTPStatus.BAD_REQUEST, "bad_form", message, remedy=remedy) from None


class _InMemory(MultiPartParser):
    """A form's files stay in memory, which is counted: a full temporary folder breaks no upload."""

    spool_max_size = sys.maxsize


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _unsupported(message: str, remedy: str) -> ServiceError:
    return ServiceError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message, remedy=remedy)


async def _read_form(
    form: FormData, model: type[Model], file_field: str, max_audio_bytes: int
) -> tuple[Model, bytes | str]:
    fields: dict[str, Any] = dict(form)
    if len(fields) < len(form.multi_items()):
        raise invalid("invalid_request", "a field of the form is there twice", "form", "send each field once")
    file = fields.pop(file_field, None)
    # A form has no types: its texts "true" and "1" are as true as JSON's.
    asked = validated(model, fields, strict=False)
    return asked, await read_upload(file, max_audio_bytes, file_field)


def validated(model: type[Model], content: Any, *, strict: bool | None = None) -> Model:
    """The content as the model, as strict as that is unless told; errors are answered as FastAPI's own are."""
    try:
        return model.model_validate(content, strict=strict)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([detail | {"loc": ("body", *detail["loc"])} for detail in details]) from None


def refuse_useless_transcript(text: str | None, *, likeness: bool) -> None:
    """Raise the 422 for a transcript beside ``x_vector_only``."""
    if likeness and text is not None:
        message = "x_vector_only takes the likeness of the voice alone, and ref_text would not be used"
        raise invalid("useless_ref_text", message, "ref_text", "leave out one of them")


def describe_json(model: type[BaseModel], example: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON body for the OpenAPI document: ``read_json`` is not seen by FastAPI."""
    return {"required": True, "content": {JSON: {"schema": _schema(model), "example": dict(example)}}}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model's schema in one piece: what it refers to would have no place in the document."""
    schema = model.model_json_schema()
    text = json.dumps(schema)
    for name, inner in schema.get("$defs", {}).items():
        text = text.replace(json.dumps({"$ref": f"#/$defs/{name}"}), json.dumps(inner))
    whole: dict[str, Any] = json.loads(text)
    whole.pop("$defs", None)
    return whole


def describe_bodies(
    as_json: type[BaseModel], as_form: type[BaseModel], file_field: str, example: Mapping[str, Any]
) -> dict[str, Any]:
    """The two bodies for the OpenAPI document: ``read_body`` is not seen by FastAPI."""
    form = as_form.model_json_schema()
    file = {"type": "string", "format": "binary", "description": AUDIO.partition(", as base64")[0]}
    form["properties"] = {file_field: file} | form["properties"]
    form["required"] = [file_field, *form["required"]]
    return {
        "required": True,
        "content": {
            FORM: {"schema": form, "example": {file_field: "(the file)", **example}},
            **describe_json(as_json, {TEXT_FIELD: EXAMPLE_AUDIO, **example})["content"],
        },
    }
