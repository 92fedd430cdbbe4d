"""What has changed between two lists of releases, in lines that a person reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wheel_resolver.core.wheel import Asset, Release


@dataclass(frozen=True, slots=True)
class Difference:
    """One line a change, and how many there are of each kind."""

    lines: tuple[str, ...]
    counts: Mapping[str, int]


def compare(old: Sequence[Release], new: Sequence[Release]) -> Difference:
    """List what was added (``+``), removed (``-``) and changed (``~``), release by release, in the new order.

    Sizes and dates that were only learnt are one line a release: a snapshot of names alone has none.
    """
    lines: list[str] = []
    counts: Counter[str] = Counter()
    before, after = ({release.tag: release for release in releases} for releases in (old, new))
    for tag in [*after, *(tag for tag in before if tag not in after)]:
        if tag not in before or tag not in after:
            sign, what = ("+", "added") if tag not in before else ("-", "removed")
            counts[f"releases {what}"] += 1
            lines.append(f"{sign} {tag}")
        lines += _assets(tag, _by_name(before.get(tag)), _by_name(after.get(tag)), counts)
    return Difference(tuple(lines), counts)


def _by_name(release: Release | None) -> dict[str, Asset]:
    return {asset.name: asset for asset in release.assets} if release else {}


def _assets(tag: str, old: Mapping[str, Asset], new: Mapping[str, Asset], counts: Counter[str]) -> list[str]:
    lines, learnt = [], 0
    for name, asset in new.items():
        known = old.get(name)
        if known is None:
            counts["wheels added"] += 1
            lines.append(f"+ {tag} {name} {_digest(asset)}")
        elif known.sha256 != asset.sha256:
            counts["digests changed" if known.sha256 else "digests published"] += 1
            lines.append(f"~ {tag} {name} {_digest(known)} -> {_digest(asset)}")
        elif known != asset:
            learnt += 1
    for name, asset in old.items():
        if name not in new:
            counts["wheels removed"] += 1
            lines.append(f"- {tag} {name} {_digest(asset)}")
    if learnt:
        counts["sizes or dates changed"] += learnt
        lines.append(f"~ {tag} size or date of {learnt} wheels")
    return lines


def _digest(asset: Asset) -> str:
    return f"sha256 {asset.sha256}" if asset.sha256 else "unpinned"
