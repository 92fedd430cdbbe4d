"""Whose wheels a question takes (``--provider``), and whose are known that it does not take."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from matrix import Project, Provider
from matrix.errors import DataError, UsageError
from matrix.masking import mask
from matrix.providers import official
from matrix.spec import perhaps
from wheel_resolver.asking.suggestions import Suggestions
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.fetching.fetch import cache_folder
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.github import api_from
from wheel_resolver.upstream.source import Mode, cache_path, load_catalogue

_REPOSITORY = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}", re.ASCII)


#: A short name of flash-attn's own releases.
_OFFICIAL = "official"


def providers_asked(given: Sequence[str], project: Project) -> tuple[Provider, ...]:
    """The providers that a question trusts, the most trusted first: those of ``--provider``, else the matrix's.

    Each is named as in the matrix, is ``official`` (flash-attn's own releases), or is a GitHub repository
    (``owner/name``), which need not stand there.

    Raises:
        UsageError: one is neither.
    """
    matrix = project.matrix.providers or (official(project.compat),)
    return tuple(dict.fromkeys(_provider(text, (*matrix, official(project.compat))) for text in given)) or matrix


def _provider(text: str, known: Sequence[Provider]) -> Provider:
    for each in known:
        if text == each.name or (each.kind == "github" and text.casefold() == each.place.casefold()):
            return each
    if text.casefold() == _OFFICIAL:
        return next(each for each in known if each.name == known[-1].name)
    if _REPOSITORY.fullmatch(text) is None:
        names = list(dict.fromkeys(each.name for each in known))
        raise UsageError(
            f"--provider {mask(text)}: neither a provider of the matrix nor a repository{perhaps(text, names)}",
            remedy=f"known: {', '.join(names)}, {_OFFICIAL}; or write owner/name of a GitHub repository whose releases "
            "carry wheels",
        )
    return Provider(text, "github", text, "it was asked for", "--provider")


def suggestions_asked(options: argparse.Namespace, project: Project, index: WheelIndex) -> Suggestions:
    """What finds the alternatives of a question; other providers are looked at when a cell has no wheel."""
    repeated = {f"--{name}": str(given) for name in ("root", "matrix") if (given := getattr(options, name)) is not None}
    if options.provider:
        repeated["--provider"] = ",".join(index.policy.trust)
    if options.reuse == "none":
        repeated["--reuse"] = "none"
    return Suggestions(index, lambda: wheels_beyond(project, index), repeated)


def wheels_beyond(project: Project, index: WheelIndex) -> list[Wheel]:
    """The wheels that are known and that the question does not trust; opens no socket.

    They are those of the matrix's providers that ``--provider`` left out, those of repositories whose list is in the
    cache because a question or another matrix once asked for them, and those whose list comes with the project.
    """
    trust, own, matrix = index.policy.trust, official(project.compat), project.matrix.providers
    known: dict[str, Provider] = {}
    for each in (*matrix, *_cached(project), *_shipped()):
        known.setdefault(each.place.casefold(), each)
    trusted = {name.casefold() for name in (*trust, own.name)}
    others = [each for each in known.values() if each.name.casefold() not in trusted]
    beyond = [wheel for wheel in index.wheels if wheel.provider not in trust]
    if others:
        loaded = load_catalogue(
            project.compat, Mode.OFFLINE, environment=os.environ, now=datetime.now(UTC), providers=(own, *others)
        )
        beyond += [wheel for wheel in loaded.catalogue.wheels if wheel.provider != own.name]
    return beyond


def _shipped() -> Iterator[Provider]:
    """The repositories whose list comes with the project."""
    for repository in snapshot.shipped_others():
        if _REPOSITORY.fullmatch(repository):
            yield Provider(repository, "github", repository, "its list comes with the project", "the shipped lists")


def _cached(project: Project) -> Iterator[Provider]:
    """Other repositories that this identity has listed, by the files of the cache."""
    api = api_from(os.environ, project.compat.origins["github_api"])
    folder = cache_folder()
    seen = cache_path(api, official(project.compat).place, folder)
    for path in sorted(folder.glob("catalogue/*.json")):
        try:
            repository = "" if path == seen else snapshot.read(path).repository
        except (DataError, OSError, UnicodeDecodeError):
            continue  # damaged: the question whose list it is says so
        if _REPOSITORY.fullmatch(repository) and cache_path(api, repository, folder) == path:
            yield Provider(repository, "github", repository, "it was asked for once", "the cache")
