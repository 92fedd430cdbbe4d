"""``python -m serve config``: every setting in force and where it came from; checks what can be checked at once."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from serve.api.keys import read_keys
from serve.checkpoint import check_model_dir
from serve.errors import SettingsError
from serve.image import Image, read_image
from serve.inforce import InForce, in_force
from serve.memory import plan_budget, read_memory
from serve.settings import Settings, check_settings


def main(arguments: Sequence[str]) -> int:
    """Print the settings; 0, or 2 with everything that is wrong with them."""
    parser = argparse.ArgumentParser(prog="python -m serve config", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args(arguments).json
    settings, problems = check_settings(os.environ)
    image = None
    if settings is not None:
        image, more = _look(settings)
        problems += more
    entries = in_force(settings, image) if settings is not None else ()
    memory = None if settings is None else _memory(settings)
    if as_json:
        print(json.dumps(_document(entries, image, problems) | {"memory": memory}, indent=2))
    else:
        print(_table(entries), end="")
        if memory is not None:
            print(f"memory, as it is now, without a model: {memory}")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return SettingsError.exit_code if problems else 0


def _look(settings: Settings) -> tuple[Image | None, list[str]]:
    """The image, and what is wrong with the files that the settings name."""
    image, problems = None, []
    try:
        image = read_image(settings.image_json)
    except SettingsError as error:
        problems.append(error.what)
    if settings.model_dir is not None:
        try:
            check_model_dir(settings.model_dir)
        except SettingsError as error:
            problems.append(error.what)
    try:
        read_keys(settings)
    except SettingsError as error:
        problems.append(error.what)
    return image, problems


def _memory(settings: Settings) -> str:
    """How the memory would be shared out if the model took none; `/info` says how it is when the model is loaded."""
    spare, cache = settings.memory_spare_bytes, settings.prompt_cache_bytes
    return plan_budget(read_memory(), spare=spare, cache=cache).explain()


def _document(entries: Sequence[InForce], image: Image | None, problems: Sequence[str]) -> dict[str, Any]:
    return {
        "schema": 1,
        "image": None if image is None else image.target,
        "settings": [
            {
                "variable": entry.variable,
                "value": entry.shown,
                "source": entry.source,
                "set_by": entry.set_by,
                "secret": entry.secret,
                "meaning": entry.meaning,
            }
            for entry in entries
        ],
        "problems": [*problems],
    }


def _table(entries: Sequence[InForce]) -> str:
    rows = [(entry.variable, "" if entry.shown is None else str(entry.shown), _origin(entry)) for entry in entries]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    return "".join(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}\n" for name, value, origin in rows)


def _origin(entry: InForce) -> str:
    if entry.source == "alias":
        return f"alias {entry.set_by}"
    return "environment" if entry.source == "environment" else entry.source
