"""What goes over the wire between ``serve.client`` and the service: requests built, answers read. No I/O but files."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from serve.errors import ServiceError

Format = Literal["wav", "mp3", "opus", "flac", "pcm"]
Reference = Path | bytes
"""Reference audio: a wav, flac, ogg or mp3 file, or the bytes of one. Files are read here; paths are never sent."""

AGAIN = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
# A service that wants more patience than this is told to the caller, who may have other plans.
LONGEST_WAIT_S = 30.0
FIRST_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Call:
    """A request."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One text of a batch, with a voice of its own (as in ``Client.clone``) or the batch's."""

    text: str
    language: str = "auto"
    reference: Reference | None = None
    ref_text: str | None = None
    x_vector_only: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Whose voice it is; which of the fields must be there, and which may not, is the service's to say."""

    reference: Reference | None
    ref_text: str | None
    x_vector_only: bool

    def fields(self) -> dict[str, Any]:
        """Those of a request."""
        likeness = self.x_vector_only or None
        return _given(
            {"ref_audio_base64": _audio(self.reference), "ref_text": self.ref_text, "x_vector_only": likeness}
        )


@dataclass(frozen=True, slots=True)
class Language:
    """A language that the service speaks."""

    name: str
    code: str | None


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that the service keeps; without ``ref_text`` it is the likeness alone (``x_vector_only``)."""

    id: str
    name: str
    language: str
    ref_text: str | None
    consent: str


def clone(text: str, source: Source, language: str, seed: int | None, kind: Format, *, stream: bool = False) -> Call:
    """``POST /clone``."""
    body = {"text": text, "language": language} | source.fields()
    options = {"seed": seed, "response_format": None if kind == "wav" else kind, "stream": stream or None}
    return Call("POST", "/clone", body | _given(options))


def clone_batch(items: Sequence[Item], source: Source, seed: int | None) -> Call:
    """``POST /clone-batch``."""
    listed = [
        {"text": item.text, "language": item.language}
        | Source(item.reference, item.ref_text, item.x_vector_only).fields()
        for item in items
    ]
    shared = source.fields() | _given({"seed": seed})
    return Call("POST", "/clone-batch", {"items": listed} | shared)


def speech(text: str, voice: str, model: str, kind: Format, *, language: str | None, seed: int | None) -> Call:
    """``POST /v1/audio/speech``."""
    body = {"model": model, "input": text, "voice": voice, "response_format": kind}
    return Call("POST", "/v1/audio/speech", body | _given({"language": language, "seed": seed}))


def make_voice(name: str, source: Source, consent: str, language: str) -> Call:
    """``POST /v1/audio/voices``."""
    body = {"name": name, "consent": consent, "language": language}
    return Call("POST", "/v1/audio/voices", body | source.fields())


def voice(method: Literal["GET", "DELETE"], name: str) -> Call:
    """``GET`` or ``DELETE /v1/audio/voices/{name}``."""
    return Call(method, f"/v1/audio/voices/{quote(name, safe='')}")


VOICES = Call("GET", "/v1/audio/voices")
LANGUAGES = Call("GET", "/languages")
MODELS = Call("GET", "/v1/models")
READY = Call("GET", "/ready")


def read_languages(answer: Mapping[str, Any]) -> list[Language]:
    """The answer of ``LANGUAGES``."""
    return [Language(entry["name"], entry["code"]) for entry in answer["languages"]]


def read_voice(answer: Mapping[str, Any]) -> Voice:
    """One voice, as each of its routes shows it."""
    return Voice(answer["id"], answer["name"], answer["language"], answer["ref_text"], answer["consent"])


def read_batch(answer: Mapping[str, Any]) -> list[bytes | ServiceError]:
    """For each item its WAV file or its error."""
    return [
        read_error(item["status"], item) if item.get("error") else base64.b64decode(item["audio_base64"])
        for item in answer["items"]
    ]


def read_json(content: bytes) -> dict[str, Any] | None:
    """A JSON object, or None: a proxy in between answers with pages."""
    try:
        answer = json.loads(content)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def read_error(status: int, answer: Mapping[str, Any] | None) -> ServiceError:
    """The error of an answer that is none of the service's successes, whoever gave it."""
    error = answer.get("error") if answer else None
    if not isinstance(error, dict):
        message = f"the answer is HTTP {status} and none of the service's own"
        return ServiceError(status, "http_error", message, remedy="see what stands between here and the service")
    code, message = str(error.get("code") or "http_error"), str(error.get("message") or f"HTTP {status}")
    return ServiceError(status, code, message, field=error.get("field"), remedy=error.get("remedy"))


def wait_before_retry(status: int, retry_after: str | None, attempt: int, retries: int) -> float | None:
    """Seconds to wait before the next attempt, or None to give up.

    Args:
        status: of the answer.
        retry_after: the header's value; seconds are understood, a date is as good as nothing.
        attempt: how many retries there were.
        retries: most retries.
    """
    if status not in AGAIN or attempt >= retries:
        return None
    seconds = FIRST_WAIT_S * 2**attempt
    if retry_after is not None and retry_after.strip().isdecimal():
        seconds = float(retry_after)
    return seconds if seconds <= LONGEST_WAIT_S else None


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are set: a service of another version may not know the others."""
    return {name: value for name, value in options.items() if value is not None}


def _audio(reference: Reference | None) -> str | None:
    if isinstance(reference, Path):
        reference = reference.read_bytes()
    # A str would be a path to some and base64 to others.
    if not isinstance(reference, bytes | None):
        raise TypeError(f"the reference must be a Path or bytes, not {type(reference).__name__}")
    return None if reference is None else base64.b64encode(reference).decode("ascii")
