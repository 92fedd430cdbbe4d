"""Where the model's files are, and what they say of themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from serve.engines.engine import Weights
from serve.errors import NetworkError, SettingsError
from serve.image import Image
from serve.settings import Settings

DEFAULT_MODEL = "Qwen/Qwen3-TTS-12Hz-1.7B-Base"
# serve.tiny writes this into config.json; whatever does not carry it counts as released weights.
WEIGHTS_KEY = "wheelwright_weights"
REMEDY = (
    "set WW_MODEL_DIR to a folder that holds a Qwen3-TTS Base checkpoint (`python -m serve.tiny DIR` writes a test one)"
)


def model_name(settings: Settings, image: Image | None) -> str:
    """The model as people know it: the folder's path if one is set, else the hub id."""
    return str(settings.model_dir or settings.model_id or (image.model if image else DEFAULT_MODEL))


def check_model_dir(folder: Path) -> None:
    """See at once, before anything is imported, that ``WW_MODEL_DIR`` can be a checkpoint.

    Raises:
        SettingsError: it is no folder, or one without ``config.json``.
    """
    if not folder.is_dir():
        raise SettingsError(f"WW_MODEL_DIR={str(folder)!r} cannot be: there is no such folder", remedy=REMEDY)
    if not (folder / "config.json").is_file():
        raise SettingsError(f"WW_MODEL_DIR={str(folder)!r} cannot be: it holds no config.json", remedy=REMEDY)


def download(model_id: str) -> Path:
    """The local folder of a hub model, fetched if it is not in the cache; the cache answers when the hub does not.

    Raises:
        NetworkError: it is not in the cache and cannot be fetched.
    """
    import huggingface_hub  # noqa: PLC0415 - takes half a second, and a set WW_MODEL_DIR needs none of it
    from huggingface_hub import errors  # noqa: PLC0415

    try:
        return Path(huggingface_hub.snapshot_download(model_id))
    except (OSError, ValueError, errors.HfHubHTTPError, errors.LocalEntryNotFoundError) as error:
        reason = " ".join(str(error).split())
        raise NetworkError(f"{model_id} cannot be fetched: {type(error).__name__}: {reason}", remedy=REMEDY) from error


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file of the checkpoint.

    Raises:
        SettingsError: the file is missing or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file}: cannot be read: {error}", remedy=REMEDY) from error
    if not isinstance(content, dict):
        raise SettingsError(f"{file}: holds no JSON object", remedy=REMEDY)
    return content


def weights_of(config: dict[str, Any]) -> Weights:
    """``random`` for a checkpoint that is marked so, else ``released``."""
    return "random" if config.get(WEIGHTS_KEY) == "random" else "released"
