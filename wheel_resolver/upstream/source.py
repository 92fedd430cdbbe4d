"""Where the catalogue comes from: each provider's list by the ladder, said plainly where one could not be had."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from matrix import Compat, Provider
from matrix.errors import DataError, NetworkError
from matrix.masking import mask
from matrix.origins import TRUST_VARIABLE, Operator, operator
from matrix.providers import official
from wheel_resolver.core.wheel import Release
from wheel_resolver.fetching.fetch import cache_folder
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.access import Access
from wheel_resolver.upstream.catalogue import (
    Catalogue,
    Listed,
    at_allowed_places,
    build_catalogue,
    joined,
    without_usual_urls,
)
from wheel_resolver.upstream.github import Api, api_from, list_releases
from wheel_resolver.upstream.ladder import REFRESH_S, TIME, Listing, Mode, Rungs, climb
from wheel_resolver.upstream.logins import Logins
from wheel_resolver.upstream.pages import Background
from wheel_resolver.upstream.snapshot import Snapshot

#: A listing may contradict itself a thousand times.
_MOST_DISPUTED = 3

__all__ = ["Loaded", "Mode", "cache_path", "list_anew", "list_official", "load_catalogue"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A catalogue, and what to tell about how it was had."""

    catalogue: Catalogue
    notes: tuple[str, ...]


def cache_path(api: Api, repository: str, folder: Path) -> Path:
    """The cache file of an API, a repository and an identity; the token itself cannot be read from the name."""
    identity = hashlib.sha256(f"{api.url}\n{repository}\n{api.identity}".encode()).hexdigest()[:24]
    return folder / "catalogue" / f"{identity}.json"


def list_official(compat: Compat, environment: Mapping[str, str]) -> tuple[Release, ...]:
    """List the official releases: see ``list_anew``."""
    return list_anew(compat, compat.flash_attn.repository, environment)


def list_anew(compat: Compat, repository: str, environment: Mapping[str, str]) -> tuple[Release, ...]:
    """List a repository's releases, from the network and within ``REFRESH_S``, whatever is cached of them.

    Raises:
        NetworkError: no full answer in time.
        DataError: it is no list of releases.
    """
    folder = cache_folder()
    api = api_from(environment, compat.origins["github_api"])
    pages = folder / "pages" / cache_path(api, repository, folder).stem
    until = time.monotonic() + REFRESH_S
    listing = Background(lambda: list_releases(api, repository, timeout_s=REFRESH_S, folder=pages))
    releases = listing.result(until, f"{api.url}: no full answer in time")
    return at_allowed_places(releases, operator(environment).allows_download, usual=True)


def load_catalogue(
    compat: Compat,
    mode: Mode,
    *,
    environment: Mapping[str, str],
    now: datetime,
    folder: Path | None = None,
    providers: Sequence[Provider] = (),
) -> Loaded:
    """Get the catalogue of the providers, or of the official releases where none are given.

    Another provider than the official one that cannot be reached and has no cache is said and left out; where the
    network is demanded its cache does not count.

    Raises:
        NetworkError: ``mode`` demands the network and the official releases could not be listed.
        UsageError: GITHUB_API_URL or a token cannot be used.
        DataError: the official wheels contradict each other.
    """
    own = official(compat)
    api = api_from(environment, compat.origins["github_api"])
    logins = Logins(environment, providers)
    loader = _Loader(compat, api, folder or cache_folder(), mode, now, operator(environment), logins)
    if len(providers) <= 1:
        return loader.load(own)
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - few matrices have a second provider

    with ThreadPoolExecutor(len(providers)) as pool:
        loads = list(pool.map(loader.load, providers))  # in the order of trust, whoever answers first
    main = next(each for provider, each in zip(providers, loads, strict=True) if provider.name == own.name)
    return Loaded(
        joined(main.catalogue, [each.catalogue for each in loads]),
        tuple(dict.fromkeys(note for each in loads for note in each.notes)),
    )


@dataclass(frozen=True, slots=True)
class _Loader:
    """Loads one provider after the other under the same conditions."""

    compat: Compat
    api: Api
    folder: Path
    mode: Mode
    now: datetime
    operator: Operator
    logins: Logins

    def load(self, provider: Provider) -> Loaded:
        notes: list[str] = []
        if provider.name == official(self.compat).name:
            return Loaded(self._catalogue(provider, notes), tuple(notes))
        try:
            catalogue = self._catalogue(provider, notes)
        except (NetworkError, DataError) as error:
            notes.append(f"left out: {error.what}" + (f" ({error.remedy})" if error.remedy else ""))
            share = Listed(provider.name, "none", "", stale=True, wheels=0)
            catalogue = Catalogue((), "none", "", stale=True, listed=0, unparsed=(), providers=(share,))
        return Loaded(catalogue, tuple(f"provider {provider.name}: {note}" for note in notes))

    def _catalogue(self, provider: Provider, notes: list[str]) -> Catalogue:
        listing = self._listing(provider, notes)
        if listing is None:
            raise NetworkError(f"{_shown(provider)}: not reached, and nothing of it is cached")
        if listing.stale:
            day = listing.known.as_of[:10]
            notes.append(f"using the {listing.source} of {day}: wheels uploaded since then are not known")
        releases = at_allowed_places(
            listing.known.releases, self.operator.allows_download, usual=provider.kind == "github"
        )
        if gone := _count(listing.known.releases) - _count(releases):
            notes.append(f"{gone} wheels lie on hosts that nobody named, and are left out: see {TRUST_VARIABLE}")
        catalogue = build_catalogue(
            releases,
            repository=listing.known.repository,
            origin=self.compat.origins["github_downloads"],
            source=listing.source,
            as_of=listing.known.as_of,
            stale=listing.stale,
            provider=provider.name,
            rebuilds=provider.name != official(self.compat).name,
        )
        notes += _in_short(catalogue.disputed)
        return catalogue

    def _listing(self, provider: Provider, notes: list[str]) -> Listing | None:
        place = provider.place
        if provider.kind == "folder":
            from wheel_resolver.upstream.wheel_folder import list_folder  # noqa: PLC0415 - few matrices name one

            known = Snapshot(place, self.now.strftime(TIME), list_folder(Path(place)))
            notes += _saved_as_urls(known)
            return Listing(known, "folder", stale=False)
        if provider.kind == "github":
            api, shown = self.api, place
            ask: Callable[[str, Path, float], tuple[Release, ...]] = self._ask_github
        else:
            api, shown, ask = Api(place, None, self.logins.of(place)), _shown(provider), self._ask_index
        path = cache_path(api, place, self.folder)
        rungs = Rungs(
            place, shown, path, partial(ask, place, self.folder / "pages" / path.stem), self._shipped(provider)
        )
        return climb(rungs, self.mode, self.now, notes)

    def _shipped(self, provider: Provider) -> Callable[[], Snapshot] | None:
        """The list of a repository that comes with the project, where one does."""
        if provider.name == official(self.compat).name:
            return snapshot.read
        if provider.kind != "github" or (path := snapshot.shipped_of(provider.place)) is None:
            return None
        return partial(snapshot.read, path, forgiving=True)

    def _ask_index(self, url: str, pages: Path, timeout_s: float) -> tuple[Release, ...]:
        from wheel_resolver.upstream.simple_index import list_index  # noqa: PLC0415 - few matrices name one

        login, how = self.logins.of(url), self.logins.how(url)
        access = Access(None, "", how) if login is None else Access(login.header, login.source, how)
        return list_index(url, timeout_s=timeout_s, folder=pages, access=access)

    def _ask_github(self, repository: str, pages: Path, timeout_s: float) -> tuple[Release, ...]:
        releases = list_releases(self.api, repository, timeout_s=timeout_s, folder=pages)
        return without_usual_urls(releases, repository, self.compat.origins["github_downloads"])


def _count(releases: Sequence[Release]) -> int:
    return sum(len(release.assets) for release in releases)


def _shown(provider: Provider) -> str:
    """How errors name a place: a URL's path may hold a token."""
    return mask(provider.place) if provider.kind == "index" else provider.place


def _saved_as_urls(known: Snapshot) -> list[str]:
    """A word on files whose names are spelt as in URLs: pip installs them, uv does not."""
    count = sum("%25" in (asset.url or "").rpartition("/")[2] for each in known.releases for asset in each.assets)
    return [f"{count} wheels have %2B for + in their file names: read as if renamed, which uv needs"] if count else []


def _in_short(disputed: Sequence[str]) -> list[str]:
    """The first of many; ``--explain`` has them all."""
    more = len(disputed) - _MOST_DISPUTED
    return [*disputed[:_MOST_DISPUTED], *([f"{more} more names have two digests on one tag, too"] if more > 0 else [])]
