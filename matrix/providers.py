"""``matrix.yaml: providers``: who else may give wheels, the most trusted first. Nobody else does unless named there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from matrix.compat import Compat
from matrix.document import Document, KeyPath
from matrix.errors import DataError
from matrix.masking import mask
from matrix.model import Provider
from matrix.origins import operator, word_for
from matrix.shapes import NAME
from matrix.spec import Choice, Record, Text, exactly

#: The key that says where the wheels of each kind are.
_PLACE = {"github": "repository", "folder": "path", "index": "url"}

PROVIDER = Record(
    {
        "name": NAME,
        "kind": Choice(tuple(_PLACE)),
        "repository": Text("a GitHub repository: owner/name", exactly(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}")),
        "path": Text("a folder; a relative one starts at the matrix file's own folder"),
        "url": Text(
            "an https URL (http on the loopback only), without user or password",
            exactly(r"(?:https://[\w.-]+|http://(?:127\.0\.0\.1|localhost))(?::\d{1,5})?/[!#-;=?-Z_a-z~]*"),
            remedy="write https://HOST/PATH; its user and password go into WHEELWRIGHT_INDEX_<NAME>_USERNAME and "
            "WHEELWRIGHT_INDEX_<NAME>_PASSWORD (<NAME>: this provider's name in capitals, and _ for what is not A-Z or "
            "0-9), or into ~/.netrc",
        ),
        "because": Text(),
        "source": Text(),
    },
    optional=frozenset(_PLACE.values()),
)


def official(compat: Compat) -> Provider:
    """flash-attn's own releases: trusted most, unless the matrix names them further down."""
    repository = compat.flash_attn.repository
    return Provider(
        repository, "github", repository, "the project's own releases", "compat.yaml: flash_attn.repository"
    )


def read_providers(document: Document, rows: Sequence[Mapping[str, Any]], compat: Compat) -> tuple[Provider, ...]:
    """Judge the list and add the official releases, first where the list does not name them.

    Raises:
        DataError: a provider says no place, or two, or one that the operator's environment does not name; or it
            stands there twice.
    """
    found: list[Provider] = []
    for index, row in enumerate(rows):
        keys: KeyPath = ("providers", index)
        provider = _provider(row, _place(document, keys, row), compat)
        for known in found:
            if provider.name == known.name or (provider.kind, provider.place) == (known.kind, known.place):
                raise document.error(
                    (*keys, "name"), f"{row['name']!r} stands here twice", remedy="remove one, or give it another name"
                )
        found.append(provider)
    own = official(compat)
    return tuple(found) if any(each.name == own.name for each in found) else (own, *found)


def _place(document: Document, keys: KeyPath, row: Mapping[str, Any]) -> str:
    wanted = _PLACE[row["kind"]]
    for key in _PLACE.values():
        if key in row and key != wanted:
            raise _misplaced(document, (*keys, key), row["kind"], f"has no {key!r}", wanted)
    if wanted not in row:
        raise _misplaced(document, keys, row["kind"], f"needs the key {wanted!r}", wanted)
    if wanted == "url" and not operator().allows_download(row["url"]):
        raise document.error(
            (*keys, "url"),
            f"{mask(row['url'])} is a place that nobody but this file names",
            remedy=word_for(row["url"]),
        )
    return _absolute(document, (*keys, wanted), row["path"]) if wanted == "path" else str(row[wanted])


def _absolute(document: Document, keys: KeyPath, path: str) -> str:
    """The folder, wherever a command is started; it need not be there: a provider that is not reached is left out."""
    if not path.isprintable():
        raise document.error(keys, f"{path!r} holds a control character", remedy="write the folder's path")
    return os.path.normpath(document.path.resolve().parent / path)


def _misplaced(document: Document, keys: KeyPath, kind: str, what: str, wanted: str) -> DataError:
    return document.error(keys, f"a provider of kind {kind} {what}", remedy=f"say where its wheels are: {wanted}: ...")


def _provider(row: Mapping[str, Any], place: str, compat: Compat) -> Provider:
    is_official = row["kind"] == "github" and place.casefold() == compat.flash_attn.repository.casefold()
    name = compat.flash_attn.repository if is_official else row["name"]
    return Provider(name, row["kind"], name if is_official else place, row["because"], row["source"])
