"""Requests with a reference: a form with the file, or JSON with the audio as base64, read alike."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from serve.api.schemas import AUDIO
from serve.errors import ServiceError, invalid
from serve.speech.uploads import read_upload

Model = TypeVar("Model", bound=BaseModel)
TEXT_FIELD = "ref_audio_base64"


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
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        asked = validated(as_json, await request.body())
        return asked, getattr(asked, TEXT_FIELD)
    if kind != "multipart/form-data":
        remedy = f"send a form (multipart/form-data) with the file in {file_field}, or JSON with {TEXT_FIELD}"
        message = "the body is neither multipart/form-data nor application/json"
        raise ServiceError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message, remedy=remedy)
    most = len(as_form.model_fields)
    try:
        async with request.form(max_files=1, max_fields=most, max_part_size=max_field_bytes) as form:
            return await _read_form(form, as_form, file_field, max_audio_bytes)
    except HTTPException as error:
        if error.status_code != HTTPStatus.BAD_REQUEST:
            raise
        remedy = f"send a form of at most {most} fields and one file"
        raise ServiceError(HTTPStatus.BAD_REQUEST, "bad_form", str(error.detail), remedy=remedy) from error


async def _read_form(
    form: FormData, model: type[Model], file_field: str, max_audio_bytes: int
) -> tuple[Model, bytes | str]:
    fields: dict[str, Any] = dict(form)
    if len(fields) < len(form.multi_items()):
        raise invalid("invalid_request", "a field of the form is there twice", "form", "send each field once")
    file = fields.pop(file_field, None)
    # A form has no types: its texts "true" and "1" are as true as JSON's.
    asked = validated(model, fields)
    return asked, await read_upload(file, max_audio_bytes, file_field)


def validated(model: type[Model], content: bytes | Mapping[str, Any]) -> Model:
    """The content as the model: JSON, or the fields of a form. Errors are answered as FastAPI's own are."""
    try:
        if isinstance(content, bytes):
            return model.model_validate_json(content)
        return model.model_validate(content, strict=False)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([detail | {"loc": ("body", *detail["loc"])} for detail in details]) from None


def refuse_useless_transcript(text: str | None, *, likeness: bool) -> None:
    """Raise the 422 for a transcript beside ``x_vector_only``."""
    if likeness and text is not None:
        message = "x_vector_only takes the likeness of the voice alone, and ref_text would not be used"
        raise invalid("useless_ref_text", message, "ref_text", "leave out one of them")


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
            "multipart/form-data": {"schema": form, "example": {file_field: "(the file)", **example}},
            "application/json": {
                "schema": as_json.model_json_schema(),
                "example": {TEXT_FIELD: "UklGRi...", **example},
            },
        },
    }
