"""Where the model's files are, and what they say of themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.errors import SettingsError
from serve.fetching import ELSEWHERE, GO_ON, fetch, unfinished
from serve.image import Image
from serve.settings import Settings

if TYPE_CHECKING:  # it imports torch, and a wrong setting is said before that
    from serve.engines.engine import Weights

DEFAULT_MODEL = "Qwen/Qwen3-TTS-12Hz-1.7B-Base"
# serve.tiny writes this into config.json; whatever does not carry it counts as released weights.
WEIGHTS_KEY = "wheelwright_weights"


def model_name(settings: Settings, image: Image | None) -> str:
    """The model as people know it: the folder's path if one is set, else the hub id."""
    return str(settings.model_dir or settings.model_id or (image.model if image else DEFAULT_MODEL))


def check_model_dir(folder: Path) -> None:
    """See at once, before anything is imported, that ``WW_MODEL_DIR`` can be a checkpoint.

    Raises:
        SettingsError: it is no folder, one without ``config.json``, or one that a download did not finish.
    """
    if not folder.is_dir():
        raise SettingsError(f"WW_MODEL_DIR={str(folder)!r} cannot be: there is no such folder", remedy=ELSEWHERE)
    if (why := unfinished(folder)) is not None:
        what = f"WW_MODEL_DIR={str(folder)!r} cannot be: {why}"
        raise SettingsError(what, remedy=f"`python -m serve download --to {folder}`: {GO_ON}")
    if not (folder / "config.json").is_file():
        raise SettingsError(f"WW_MODEL_DIR={str(folder)!r} cannot be: it holds no config.json", remedy=ELSEWHERE)


def download(model_id: str) -> Path:
    """The local folder of a hub model, fetched if it is not in the cache; the cache answers when the hub does not.

    Raises:
        SettingsError: the hub has no such model.
        NetworkError: it is not in the cache and cannot be fetched.
    """
    return fetch(model_id).folder


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file of the checkpoint.

    Raises:
        SettingsError: the file is missing or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file}: cannot be read: {error}", remedy=ELSEWHERE) from error
    if not isinstance(content, dict):
        raise SettingsError(f"{file}: holds no JSON object", remedy=ELSEWHERE)
    return content


def weights_of(config: dict[str, Any]) -> Weights:
    """``random`` for a checkpoint that is marked so, else ``released``."""
    return "random" if config.get(WEIGHTS_KEY) == "random" else "released"
