"""All wheels known: releases to wheels, same-named assets merged, what does not parse counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from wheel_resolver.core.names import MAX_NAME, WheelName
from wheel_resolver.core.wheel import Asset, Release, Wheel, download_url
from wheel_resolver.upstream.same_name import Superseded, merged, newest


@dataclass(frozen=True, slots=True)
class Listed:
    """One provider's share of a catalogue; its ``source`` is ``none`` where it could not be had, and was left out."""

    name: str
    source: str
    as_of: str
    stale: bool
    wheels: int


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Wheels, and where they were learnt.

    ``source``: network, cache or snapshot. ``as_of``: when the provider was asked (ISO 8601, UTC). ``stale``: more
    than 24 hours ago. With several providers these are the official one's, and ``providers`` has each. ``listed``:
    assets that are wheels, before same-named ones were merged. ``unparsed``: names of assets that end in ``.whl`` and
    that the grammar does not read. ``superseded``: files whose name has a newer one; ``disputed``: what is wrong with
    names that are not used, in words.
    """

    wheels: tuple[Wheel, ...]
    source: str
    as_of: str
    stale: bool
    listed: int
    unparsed: tuple[str, ...]
    providers: tuple[Listed, ...] = ()
    superseded: tuple[Superseded, ...] = ()
    disputed: tuple[str, ...] = ()


def joined(main: Catalogue, each: Iterable[Catalogue]) -> Catalogue:
    """One catalogue of several providers' wheels; ``main`` is the official one's.

    Two providers may have wheels of one name: these are different builds, between which trust decides.
    """
    each = list(each)
    return replace(
        main,
        wheels=tuple(wheel for one in each for wheel in one.wheels),
        listed=sum(one.listed for one in each),
        unparsed=tuple(name for one in each for name in one.unparsed),
        providers=tuple(listed for one in each for listed in one.providers),
        superseded=tuple(old for one in each for old in one.superseded),
        disputed=tuple(what for one in each for what in one.disputed),
    )


def build_catalogue(
    releases: Iterable[Release],
    *,
    repository: str,
    origin: str,
    source: str,
    as_of: str,
    stale: bool,
    provider: str | None = None,
    rebuilds: bool = False,
) -> Catalogue:
    """Make the catalogue of one repository's releases; the wheels' provider is the repository unless another is given.

    Args:
        rebuilds: whether the provider builds wheels anew under their old names, on another tag: the newest upload of a
            name is then its wheel. Without that two digests contradict each other.

    Raises:
        DataError: two assets of one name have different digests: one of them is not what it seems. With ``rebuilds``
            that costs the name alone, and only where both stand on one tag.
    """
    provider = provider or repository
    found: dict[str, list[Wheel]] = {}
    listed, unparsed = 0, []
    for release in releases:
        for asset in release.assets:
            name = WheelName.parse(asset.name)
            if name is None:
                if asset.name.endswith(".whl"):
                    unparsed.append(_shortened(asset.name))
                continue
            listed += 1
            usual = asset.url or download_url(origin, repository, release.tag, asset.name)
            found.setdefault(asset.name, []).append(_wheel(name, asset, release.tag, provider, usual))
    share = Listed(provider, source, as_of, stale, listed)
    known = Catalogue((), source, as_of, stale, listed, tuple(unparsed), (share,))
    if not rebuilds:
        return replace(known, wheels=tuple(map(merged, found.values())))
    settled = [newest(wheels) for wheels in found.values()]
    return replace(
        known,
        wheels=tuple(each.wheel for each in settled if each.wheel is not None),
        superseded=tuple(old for each in settled for old in each.superseded),
        disputed=tuple(each.disputed for each in settled if each.disputed is not None),
    )


def _wheel(name: WheelName, asset: Asset, tag: str, provider: str, url: str) -> Wheel:
    return Wheel(
        name=name,
        filename=asset.name,
        url=url,
        sha256=asset.sha256,
        size=asset.size,
        tag=tag,
        provider=provider,
        updated_at=asset.updated_at,
    )


def without_usual_urls(releases: Iterable[Release], repository: str, origin: str) -> tuple[Release, ...]:
    """Drop each URL that ``download_url`` gives anyway: a listing is then a third of the size."""
    return tuple(
        Release(
            release.tag,
            tuple(
                replace(asset, url=None)
                if asset.url == download_url(origin, repository, release.tag, asset.name)
                else asset
                for asset in release.assets
            ),
        )
        for release in releases
    )


def at_allowed_places(
    releases: Iterable[Release], allows: Callable[[str], bool], *, usual: bool
) -> tuple[Release, ...]:
    """Let no listing say that a wheel lies at a place that neither the code nor the operator names.

    Args:
        allows: whether a wheel may be taken from a URL.
        usual: whether such a wheel has a usual place, where it is looked for instead; else it is left out.
    """

    def kept(asset: Asset) -> Asset | None:
        if asset.url is None or allows(asset.url):
            return asset
        return replace(asset, url=None) if usual else None

    return tuple(
        Release(release.tag, tuple(asset for each in release.assets if (asset := kept(each)) is not None))
        for release in releases
    )


def _shortened(name: str) -> str:
    """A name that is longer than any file's, as a list may show it."""
    return name if len(name) <= MAX_NAME else f"{name[:80]}... ({len(name):,} characters)"
