"""The shapes of requests and answers. They check types; what the values may be is checked where it is known."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, FailFast, Field, model_validator
from pydantic_core import PydanticCustomError

from serve.speech.encoders import Format

AUDIO = "wav, flac, ogg or mp3, 1 to 30 s, mono or stereo, as base64 or as a data: URL; paths and URLs are refused"

LIKENESS = "the likeness of the voice alone, without its manner: needs no ref_text, and sounds less like the reference"


MOST_UNKNOWN = 16


class StrictRequest(BaseModel):
    """Fields of a request: 1 is no text and "7" no seed, and a misspelt field is an error, not silence."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, content: Any) -> Any:
        # Each unknown one would be an error of its own, a hundred times as large as its name.
        if isinstance(content, dict) and len(content) > len(cls.model_fields) + MOST_UNKNOWN:
            raise PydanticCustomError("too_many_fields", "Input has too many fields")
        return content


class CloneFields(StrictRequest):
    """Say ``text`` in the voice of the reference; its audio comes beside these fields."""

    text: str = Field(description="what to say")
    language: str = Field("auto", description="name or ISO 639-1 code, see GET /languages")
    ref_text: str | None = Field(None, description="what is said in the reference audio; needed, but for x_vector_only")
    x_vector_only: bool = Field(False, description=LIKENESS)
    stream: bool = Field(False, description="send the sound while it is made")
    response_format: Format = Field("wav", description="of the answer; pcm is 16-bit little-endian, 24 kHz mono")
    seed: int | None = Field(None, ge=0, lt=2**63, description="same request, same seed, same machine: the same audio")


class CloneRequest(CloneFields):
    """The same as JSON."""

    ref_audio_base64: str = Field(description=AUDIO)


class BatchItem(StrictRequest):
    """One text of a batch, with a reference of its own or the shared one."""

    text: str
    language: str = "auto"
    ref_audio_base64: str | None = Field(None, description="of its own; needs a ref_text of its own, too")
    ref_text: str | None = None
    x_vector_only: bool = Field(False, description=LIKENESS)


class BatchRequest(StrictRequest):
    """Several texts at once; the reference here is that of every item without one."""

    items: Annotated[list[BatchItem], FailFast()] = Field(min_length=1)
    ref_audio_base64: str | None = Field(None, description=AUDIO)
    ref_text: str | None = None
    x_vector_only: bool = Field(False, description=LIKENESS)
    seed: int | None = Field(None, ge=0, lt=2**63, description="for the batch as a whole")


class ErrorDetail(BaseModel):
    """What went wrong, with which field, and what to do."""

    code: str
    message: str
    field: str | None
    remedy: str | None


class ErrorAnswer(BaseModel):
    """Every error of this service."""

    error: ErrorDetail


# What a route answers where keys are asked for, beside what it answers itself.
WITH_KEYS: Final[dict[int | str, dict[str, Any]]] = {status: {"model": ErrorAnswer} for status in (401, 429)}


class Rung(BaseModel):
    """One attention: whether it can run here, and why or why not."""

    name: str
    available: bool
    because: str


class LoadedPart(BaseModel):
    """The attention that a part of the loaded model has, read from its layers."""

    implementation: str
    module: str = Field(description="where the function that the layers call is defined")
    version: str | None = Field(description="of the installed package that the module is of")


class KeptOutPackage(BaseModel):
    """A package that is installed here, and that the model's packages do not get to see; none in our images."""

    package: str
    version: str | None
    because: str


class AttentionAnswer(BaseModel):
    """The attention that was decided and why, all that were looked at, and what was really loaded."""

    running: str
    because: str
    rungs: list[Rung]
    parts: dict[str, str] = Field(description="``implementation`` of each of ``loaded``")
    loaded: dict[str, LoadedPart] = Field(description="by the part's name")
    kept_out: list[KeptOutPackage]


class HealthAnswer(BaseModel):
    """What runs and why: these and more fields."""

    model_config = ConfigDict(extra="allow")

    status: str
    attention: AttentionAnswer


class InfoAnswer(BaseModel):
    """What this is: these and more fields."""

    model_config = ConfigDict(extra="allow")

    status: str
    attention: AttentionAnswer | None = Field(description="null until the model is loaded")


class BatchResult(BaseModel):
    """One item's result: its HTTP status, and audio (a WAV file, base64) or the error."""

    status: int
    audio_base64: str | None = None
    error: ErrorDetail | None = None


class BatchAnswer(BaseModel):
    """The results, in the order of the items; ``error`` only when none of them succeeded."""

    items: list[BatchResult]
    error: ErrorDetail | None = None


class Language(BaseModel):
    """A language, as ``language`` accepts it."""

    name: str
    code: str | None


class LanguagesAnswer(BaseModel):
    """The languages; ``source`` is ``model`` once it is loaded, before that ``known``: those of the released models."""

    source: str
    languages: list[Language]
