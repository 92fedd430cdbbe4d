"""One name, several files: which of them is meant.

The official releases carry each name once, or the same file on two tags: two digests contradict each other there.
Other providers build wheels anew under their old names, tag by tag: there the newest upload is meant, and the older
files are superseded. Two digests on one tag are a contradiction everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from matrix.errors import DataError
from wheel_resolver.core.wheel import Wheel

#: How a reason in ``--explain`` and the JSON calls it.
RULE = "superseded"


@dataclass(frozen=True, slots=True)
class Superseded:
    """A file, and the newer one of its name."""

    old: Wheel
    new: Wheel

    @property
    def detail(self) -> str:
        """Which file it is, and which one took its place."""
        return f"{_file(self.old)}; built anew on tag {_file(self.new)}"


@dataclass(frozen=True, slots=True)
class Settled:
    """What a name stands for: one wheel and older files, or none, and why."""

    wheel: Wheel | None
    superseded: tuple[Superseded, ...] = ()
    disputed: str | None = None


def merged(wheels: Sequence[Wheel]) -> Wheel:
    """The one wheel that all files of a name are.

    Raises:
        DataError: two of them have different digests.
    """
    return functools.reduce(_merge, wheels)


def newest(wheels: Sequence[Wheel]) -> Settled:
    """The newest upload of a name, and the files that it supersedes; of equal dates the one that was listed first.

    A file without a published digest counts only where none has one: what it is cannot be told.
    """
    for tag in dict.fromkeys(wheel.tag for wheel in wheels):
        digests = sorted({wheel.sha256 for wheel in wheels if wheel.tag == tag and wheel.sha256 is not None})
        if len(digests) > 1:
            first = wheels[0]
            what = f"{first.filename} has {len(digests)} digests on tag {tag}: {', '.join(digests)}"
            return Settled(None, disputed=f"{what}; the name is not used")
    files = [wheel for wheel in wheels if wheel.sha256 is not None] or list(wheels)
    best = max(files, key=lambda wheel: wheel.updated_at or "")
    older = {wheel.sha256: wheel for wheel in reversed(files) if wheel.sha256 != best.sha256}
    wheel = merged([each for each in wheels if each.sha256 in {best.sha256, None}]) if len(wheels) > 1 else best
    return Settled(wheel, tuple(Superseded(each, wheel) for each in reversed(older.values())))


def _file(wheel: Wheel) -> str:
    uploaded = f", uploaded {wheel.updated_at[:10]}" if wheel.updated_at else ""
    return f"{wheel.tag}{uploaded}, sha256 {wheel.sha256}"


def _merge(one: Wheel, other: Wheel) -> Wheel:
    """Keep the entry whose digest is published; the tag that was listed first wins between equals."""
    if one.sha256 and other.sha256 and one.sha256 != other.sha256:
        raise DataError(
            f"{one.provider}: {one.filename} has two digests: {one.sha256} on tag {one.tag}, "
            f"{other.sha256} on tag {other.tag}",
            remedy="do not use either before the maintainers explain it, then ask with --refresh",
        )
    best, rest = (other, one) if other.sha256 and not one.sha256 else (one, other)
    return replace(best, size=best.size or rest.size) if best.sha256 == rest.sha256 else best
