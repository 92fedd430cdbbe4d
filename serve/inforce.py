"""Which settings are in force, and where each came from. Secrets stay out."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import SecretStr

from serve.checkpoint import DEFAULT_MODEL
from serve.image import DEFAULT_PATH, Image
from serve.logs import line_format
from serve.settings import Settings, variables

Source = Literal["default", "environment", "alias", "image.json"]
MASK = "********"
# By their names, so that a setting that someone adds as plain text is masked, too.
SECRET = re.compile(r"(^|_)(keys?|tokens?|secrets?|passwords?)$")


@dataclass(frozen=True, slots=True)
class InForce:
    """One setting.

    Args:
        variable: its own environment variable.
        value: what is in force; None when it is unset and stays so.
        source: ``environment`` for its own variable, ``alias`` for a bare name, ``image.json`` where that decides.
        set_by: the environment variable that set it; None for the other sources.
        secret: whether the value must not be shown.
        meaning: one line.
    """

    variable: str
    value: Any
    source: Source
    set_by: str | None
    secret: bool
    meaning: str

    @property
    def shown(self) -> str | int | float | bool | None:
        """The value for people and JSON; a secret one is only said to be there."""
        if self.value is None or (self.secret and not self.value):
            return None
        if self.secret:
            return MASK
        return self.value if isinstance(self.value, str | int | float | bool) else str(self.value)


def in_force(settings: Settings, image: Image | None, environ: Mapping[str, str] | None = None) -> tuple[InForce, ...]:
    """Every setting, in the order of the table."""
    environ = os.environ if environ is None else environ
    return tuple(_entry(name, settings, image, environ) for name in Settings.model_fields)


def _entry(name: str, settings: Settings, image: Image | None, environ: Mapping[str, str]) -> InForce:
    own, *aliases = variables(name)
    value, field = getattr(settings, name), Settings.model_fields[name]
    secret = isinstance(value, SecretStr) or SECRET.search(name) is not None
    # An empty variable counts as unset.
    set_by = next((variable for variable in (own, *aliases) if environ.get(variable)), None)
    source: Source = "default" if set_by is None else "environment" if set_by == own else "alias"
    decided = _by_image(name, settings, image)
    if decided is not None:
        value, source, set_by = decided[0], decided[1], None
    return InForce(own, value, source, set_by, secret, field.description or "")


def _by_image(name: str, settings: Settings, image: Image | None) -> tuple[str, Source] | None:
    """The value and the source of what is decided elsewhere when the setting leaves it open."""
    if name == "model_id" and settings.model_id is None and settings.model_dir is None:
        return (image.model, "image.json") if image else (DEFAULT_MODEL, "default")
    if name == "log_format" and settings.log_format == "auto":
        return line_format(settings.log_format, image), "image.json" if image else "default"
    if name == "image_json" and settings.image_json is None and image is not None:
        return str(DEFAULT_PATH), "default"
    return None
