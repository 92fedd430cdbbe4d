"""Languages by name and by ISO 639-1 code."""

from __future__ import annotations

from collections.abc import Collection

from serve.errors import invalid

AUTO = "auto"
# The ten languages of the released Qwen3-TTS checkpoints (config.json, codec_language_id), with their ISO 639-1 codes.
CODES = {
    "chinese": "zh",
    "english": "en",
    "french": "fr",
    "german": "de",
    "italian": "it",
    "japanese": "ja",
    "korean": "ko",
    "portuguese": "pt",
    "russian": "ru",
    "spanish": "es",
}
NAMES = {code: name for name, code in CODES.items()}


def resolve_language(wanted: str, known: Collection[str], field: str) -> str:
    """The model's name for a language.

    Args:
        wanted: a name (``English``), a code (``en``, ``en-US``) or ``auto``; case does not matter.
        known: the names that the model knows.
        field: the request's field, for errors.

    Raises:
        ServiceError: 422; the model does not know it.
    """
    name = wanted.strip().lower()
    if name == AUTO:
        return AUTO
    name = NAMES.get(name.replace("_", "-").split("-")[0], name)
    if name in known:
        return name
    choices = ", ".join(f"{name} ({CODES[name]})" if name in CODES else name for name in sorted(known))
    raise invalid("unknown_language", f"{field} names no language of this model", field, f"auto, or one of: {choices}")
