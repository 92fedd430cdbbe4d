"""The only ways by which a value reaches a Dockerfile or a bake file.

A Dockerfile has no quoting that holds everywhere: a newline ends an instruction, ``$`` is expanded in some
instructions and not in others, ``<<`` opens a heredoc inside ``RUN``. So a value that stands in a Dockerfile must
fit a grammar in which none of these characters exists; everything else is refused, with the reason. Free text
(descriptions, reasons) goes into JSON files and labels only, through a serializer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from matrix.errors import DataError

# distribution/reference: [registry[:port]/]path[:tag][@sha256:digest]; lower case path, bounded.
_IMAGE = re.compile(
    r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?::[0-9]{1,5})?"
    r"(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_WHEEL = re.compile(r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_.+!]+){4,5}\.whl")
_SDIST = re.compile(r"[A-Za-z0-9_.]+-[A-Za-z0-9_.+!]+\.tar\.gz")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!]*")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_PATTERN = re.compile(r"[\w.*?+-]+(?:/[\w.*?+-]+)*", re.ASCII)
_ARCHS = re.compile(r"[0-9]+(?:;[0-9]+)*")


def _grammar(kind: str, pattern: re.Pattern[str], value: object, limit: int = 255) -> str:
    text = str(value)
    if len(text) > limit or not pattern.fullmatch(text):
        raise DataError(
            f"{kind}: {text[:80]!r} cannot stand in a Dockerfile: it does not fit {pattern.pattern}",
            remedy=f"correct the {kind} in matrix/*.yaml or the lock that it comes from",
        )
    return text


def image_reference(value: object) -> str:
    """A base image, ``python:3.12-slim-bookworm@sha256:...``."""
    return _grammar("image reference", _IMAGE, value)


def wheel_name(value: object) -> str:
    """A wheel's file name; ``+`` stays as it is (pip reads the name, and refuses ``%2B``)."""
    return _grammar("wheel name", _WHEEL, value)


def sdist_name(value: object) -> str:
    """A source archive's file name."""
    return _grammar("source archive's name", _SDIST, value)


def sha256(value: object) -> str:
    """64 lower-case hexadecimal digits."""
    return _grammar("sha256", _SHA256, value)


def version(value: object) -> str:
    """A version as PEP 440 writes it, without spaces."""
    return _grammar("version", _VERSION, value, limit=64)


def name(value: object) -> str:
    """A target, recipe or stack name, which is also a file name."""
    return _grammar("name", _NAME, value, limit=63)


def archs(value: object) -> str:
    """FLASH_ATTN_CUDA_ARCHS: ``80;90``."""
    return _grammar("arch list", _ARCHS, value)


def find_paths(patterns: Iterable[object]) -> str:
    """Patterns below the folder that ``find`` searches, as its tests: ``\\( -path '*/a/*.so' -o ... \\)``."""
    return r"\( " + " -o ".join(f"-path '*/{_grammar('trim', _PATTERN, text)}'" for text in patterns) + r" \)"


FILTERS = {
    function.__name__: function
    for function in (image_reference, wheel_name, sdist_name, sha256, version, name, archs, find_paths)
}


def bake_value(value: Any) -> Any:
    """Escape a JSON value for a bake file, whose strings are HCL templates: ``${`` and ``%{`` are expanded there.

    Mappings and lists are escaped recursively; keys are ours and stay.
    """
    if isinstance(value, str):
        return re.sub(r"([$%])(?=\{)", r"\1\1", value)
    if isinstance(value, dict):
        return {key: bake_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [bake_value(item) for item in value]
    return value
