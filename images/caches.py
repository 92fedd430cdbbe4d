"""Remote build caches, one a recipe and one a stack: a runner that has neither takes the layers that others built."""

from __future__ import annotations

from collections.abc import Sequence

from matrix.errors import UsageError

# What names a cache of this kind, for reading and for writing; {} is the stack or the recipe.
_SCOPED = {
    "registry": ("ref={value}:{scope}", "ref={value}:{scope},mode=max"),
    "gha": ("scope={scope}", "scope={scope},mode=max"),
    "local": ("src={value}/{scope}", "dest={value}/{scope},mode=max"),
}
_NAMED_BY = {"registry": "ref", "local": "path"}


def parse_cache(text: str) -> str:
    """Check what ``--cache-from`` and ``--cache-to`` take: ``type=registry,ref=HOST/REPOSITORY``, ``type=gha``...

    Raises:
        UsageError: another kind, or no place.
    """
    kind, fields = _fields(text)
    if kind not in _SCOPED:
        raise UsageError(
            f"{text!r} is no build cache",
            remedy="type=registry,ref=HOST/REPOSITORY or type=gha or type=local,path=FOLDER",
        )
    needed = _NAMED_BY.get(kind)
    if needed and not fields.get(needed):
        raise UsageError(f"{text!r}: a {kind} cache needs {needed}=", remedy=f"type={kind},{needed}=...")
    return text


def read_from(texts: Sequence[str], scopes: Sequence[str]) -> list[str]:
    """Bake's ``cache-from`` entries: of each cache, each scope (a stack's or a recipe's name)."""
    return [_entry(text, scope, 0) for text in texts for scope in scopes]


def write_to(texts: Sequence[str], scope: str) -> list[str]:
    """Bake's ``cache-to`` entries: of each cache, this scope, with the layers of all its stages."""
    return [_entry(text, scope, 1) for text in texts]


def local_folders(texts: Sequence[str]) -> list[str]:
    """The folders of those caches that are folders of this machine."""
    return [fields["path"] for kind, fields in map(_fields, texts) if kind == "local"]


def _fields(text: str) -> tuple[str, dict[str, str]]:
    fields = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    return fields.pop("type", ""), fields


def _entry(text: str, scope: str, way: int) -> str:
    kind, fields = _fields(text)
    value = fields.pop(_NAMED_BY.get(kind, ""), "")
    rest = [f"{name}={given}" for name, given in fields.items()]
    return ",".join([f"type={kind}", _SCOPED[kind][way].format(value=value, scope=scope), *rest])
