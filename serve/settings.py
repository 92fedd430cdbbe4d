"""The settings: ``WW_*`` environment variables, checked before anything is loaded."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from serve.errors import SettingsError
from serve.image import parse_capability

PREFIX = "WW_"
# CONTRACTS.md, "The service": these bare names are aliases, because other servers and platforms use them.
BARE_NAMES = ("HOST", "PORT", "MODEL_ID", "MODEL_DIR", "ATTENTION", "DTYPE", "ENGINE")
MIB = 1024 * 1024
# Read by `serve.client`, which may run in the service's own environment.
CLIENTS_OWN = frozenset({"WW_API_KEY"})


def _setting(name: str, default: object, description: str, **limits: Any) -> Any:
    """A field that is read from ``WW_<name>``, or from ``<name>`` where that is an alias."""
    names = [PREFIX + name, name] if name in BARE_NAMES else [PREFIX + name]
    return Field(default, validation_alias=AliasChoices(*names), description=description, **limits)


class Settings(BaseSettings):
    """Everything that can be set. Of two names for one setting, the ``WW_`` one wins; empty means unset."""

    model_config = SettingsConfigDict(case_sensitive=True, env_ignore_empty=True, extra="ignore", frozen=True)

    # All interfaces by default: an image is where this runs, and a container's loopback cannot be reached.
    host: str = _setting("HOST", "0.0.0.0", "address to listen on")  # noqa: S104
    port: int = _setting("PORT", 8000, "port to listen on", ge=1, le=65535)
    model_id: str | None = _setting("MODEL_ID", None, "Hugging Face id; unset: the one of image.json")
    model_dir: Path | None = _setting("MODEL_DIR", None, "folder of a checkpoint; needs no network")
    verify_weights: bool = _setting(
        "VERIFY_WEIGHTS", False, "at the start, compare all bytes of the checkpoint with its SHA256SUMS"
    )
    attention: Literal["auto", "flash_attention_2", "sdpa", "eager"] = _setting(
        "ATTENTION", "auto", "attention; a forced one that cannot run stops the start"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = _setting(
        "DTYPE", "auto", "precision; auto decides by compute capability"
    )
    arch_override: str | None = _setting(
        "ARCH_OVERRIDE", None, "compute capability to take the GPU for, 7.5 for a T4's dtypes elsewhere"
    )
    engine: Literal["qwen", "faster"] = _setting(
        "ENGINE", "qwen", "what generates: qwen = unmodified qwen-tts; faster = faster-qwen3-tts, NVIDIA only, batch 1"
    )
    drain_s: float = _setting("DRAIN_S", 8.0, "seconds that running requests get after SIGTERM", ge=0, le=3600)
    image_json: Path | None = _setting("IMAGE_JSON", None, "what this image is; unset: /app/image.json, if there")
    log_level: Literal["debug", "info", "warning", "error"] = _setting("LOG_LEVEL", "info", "least level logged")
    log_format: Literal["auto", "json", "text"] = _setting(
        "LOG_FORMAT", "auto", "form of a log line; auto: json in an image, else text"
    )
    max_body_mib: float = _setting("MAX_BODY_MIB", 32.0, "largest request body, MiB", gt=0, le=1024)
    max_audio_mib: float = _setting("MAX_AUDIO_MIB", 10.0, "largest reference audio, MiB", gt=0, le=1024)
    min_ref_s: float = _setting("MIN_REF_S", 1.0, "shortest reference audio, seconds", gt=0, le=60)
    max_ref_s: float = _setting("MAX_REF_S", 30.0, "longest reference audio, seconds", gt=0, le=300)
    # What callers may take of the host: time for a head, pace of a body, memory.
    head_timeout_s: float = _setting(
        "HEAD_TIMEOUT_S", 10.0, "seconds in which a request's head must come", gt=0, le=3600
    )
    body_grace_s: float = _setting("BODY_GRACE_S", 10.0, "seconds in which a body must keep its pace", gt=0, le=3600)
    min_body_kib_s: float = _setting("MIN_BODY_KIB_S", 4.0, "least pace of a body, KiB a second", ge=0, le=2**20)
    memory_spare_mib: float = _setting("MEMORY_SPARE_MIB", 16.0, "memory that requests leave free, MiB", ge=0, le=2**20)
    max_text_chars: int = _setting("MAX_TEXT_CHARS", 5000, "longest text, characters", ge=1, le=100_000)
    max_items: int = _setting("MAX_ITEMS", 32, "most items in /clone-batch", ge=1, le=1024)
    max_batch: int | None = _setting("MAX_BATCH", None, "most pieces in one batch; unset: what the memory allows", ge=1)
    batch_window_ms: float = _setting(
        "BATCH_WINDOW_MS", 20.0, "how long an idle engine waits for more", ge=0, le=10_000
    )
    deadline_s: float = _setting("DEADLINE_S", 600.0, "seconds that a request gets; then 504", gt=0, le=86_400)
    hang_s: float = _setting(
        "HANG_S", 120.0, "seconds without a frame until the engine is taken for hung", gt=0, le=86_400
    )
    prompt_cache_mib: float = _setting("PROMPT_CACHE_MIB", 64.0, "encoded voices that are kept, MiB", ge=0, le=2**20)
    max_waiting: int = _setting("MAX_WAITING", 32, "most requests that run or wait", ge=1, le=10_000)
    data_dir: Path | None = _setting("DATA_DIR", None, "folder of the voices; unset: /data, if it can be written")
    max_voices: int = _setting("MAX_VOICES", 100, "most voices of one key", ge=1, le=100_000)
    max_voices_mib: float = _setting("MAX_VOICES_MIB", 1024.0, "most audio of one key's voices, MiB", gt=0, le=2**20)
    max_data_mib: float | None = _setting(
        "MAX_DATA_MIB",
        None,
        "most audio of all keys and in quarantine, MiB; unset: what the disk holds",
        gt=0,
        le=2**30,
    )
    quarantine_days: int = _setting(
        "QUARANTINE_DAYS", 30, "days that audio of voices unknown to the database is kept", ge=1, le=36_500
    )
    api_keys: SecretStr | None = _setting("API_KEYS", None, "keys, by commas: key or name:key; unset: no key is asked")
    api_keys_file: Path | None = _setting(
        "API_KEYS_FILE", None, "file with a key or name:key a line; read again when it changes"
    )
    key_requests_per_min: int | None = _setting(
        "KEY_REQUESTS_PER_MIN", None, "most requests a minute with one key", ge=1, le=1_000_000
    )
    key_concurrent: int | None = _setting("KEY_CONCURRENT", None, "most running requests of one key", ge=1, le=10_000)

    @field_validator("arch_override")
    @classmethod
    def _is_capability(cls, value: str | None) -> str | None:
        if value is not None:
            parse_capability(value)
        return value

    @property
    def max_body_bytes(self) -> int:
        """Largest request body, bytes."""
        return int(self.max_body_mib * MIB)

    @property
    def memory_spare_bytes(self) -> int:
        """Memory that requests leave free, bytes."""
        return int(self.memory_spare_mib * MIB)

    @property
    def max_audio_bytes(self) -> int:
        """Largest reference audio after base64, bytes."""
        return int(self.max_audio_mib * MIB)

    @property
    def prompt_cache_bytes(self) -> int:
        """Encoded voices that are kept, bytes."""
        return int(self.prompt_cache_mib * MIB)

    @property
    def max_voices_bytes(self) -> int:
        """Most audio of one owner's voices, bytes."""
        return int(self.max_voices_mib * MIB)

    @property
    def max_data_bytes(self) -> int | None:
        """Most audio of all owners and of the quarantine, bytes."""
        return None if self.max_data_mib is None else int(self.max_data_mib * MIB)


def variables(field: str) -> tuple[str, ...]:
    """The environment variables of a field, the first of them its own name."""
    alias = Settings.model_fields[field].validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else []
    return tuple(str(choice) for choice in choices)


def table() -> list[tuple[str, str, str]]:
    """``(variable, default, meaning)`` of each setting, as ``python -m serve --help`` prints it."""
    return [
        (variables(name)[0], "" if field.default is None else str(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check the settings.

    Args:
        environment: where to look for unknown and faulty variables (the values themselves are always read from
            the process's environment).

    Raises:
        SettingsError: an unknown ``WW_*`` variable, or a value that cannot be; all of them at once.
    """
    settings, problems = check_settings(os.environ if environment is None else environment)
    if problems or settings is None:
        raise SettingsError("; ".join(problems), remedy="`python -m serve --help` lists every setting with its default")
    return settings


def check_settings(environ: Mapping[str, str]) -> tuple[Settings | None, list[str]]:
    """The settings, if they can be read at all, and everything that is wrong with them; see `read_settings`."""
    known = {variable for name in Settings.model_fields for variable in variables(name)} | CLIENTS_OWN
    problems = [_unknown(name, known) for name in sorted(environ) if name.startswith(PREFIX) and name not in known]
    settings = None
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [_faulty(detail, environ) for detail in error.errors(include_url=False)]
    if settings is not None and settings.min_ref_s > settings.max_ref_s:
        problems.append(
            f"WW_MIN_REF_S={settings.min_ref_s:g} is more than WW_MAX_REF_S={settings.max_ref_s:g}:"
            " no reference audio would be accepted; lower the first"
        )
    return settings, problems


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    hint = f", perhaps you meant {near[0]}" if near else ""
    return f"{name} is not a setting of this service{hint}"


def _faulty(detail: Any, environ: Mapping[str, str]) -> str:
    names = next((v for f in Settings.model_fields if detail["loc"][0] in (v := variables(f))), ())
    name = next((n for n in names if environ.get(n)), str(detail["loc"][0]))
    return f"{name}={environ.get(name, '')!r} cannot be: {detail['msg'][:1].lower()}{detail['msg'][1:]}"
