"""The shapes of requests and answers. They check types; what the values may be is checked where it is known."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

AUDIO = "wav, flac, ogg or mp3, 1 to 30 s, mono or stereo, as base64 or as a data: URL; paths and URLs are refused"


class _Request(BaseModel):
    # strict: 1 is no text and "7" no seed; forbid: a misspelt field is an error, not silence.
    model_config = ConfigDict(extra="forbid", strict=True)


class CloneRequest(_Request):
    """Say ``text`` in the voice of the reference."""

    text: str = Field(description="what to say")
    language: str = Field("auto", description="name or ISO 639-1 code, see GET /languages")
    ref_audio_base64: str = Field(description=AUDIO)
    ref_text: str = Field(description="what is said in the reference audio")
    seed: int | None = Field(None, ge=0, lt=2**63, description="same request, same seed, same machine: the same audio")


class BatchItem(_Request):
    """One text of a batch, with a reference of its own or the shared one."""

    text: str
    language: str = "auto"
    ref_audio_base64: str | None = Field(None, description="of its own; needs a ref_text of its own, too")
    ref_text: str | None = None


class BatchRequest(_Request):
    """Several texts at once; the reference here is that of every item without one."""

    items: list[BatchItem] = Field(min_length=1)
    ref_audio_base64: str | None = Field(None, description=AUDIO)
    ref_text: str | None = None
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
