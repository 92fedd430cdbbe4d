"""What an image weighs, and whether that is within its target's budget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from docker.models.images import Image

from images.engine import Engine
from matrix import Budget

_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Weight:
    """What an image costs.

    Attributes:
        packed: bytes of its layers as the engine keeps them and a registry would; None in a store that unpacks them.
        unpacked: bytes of its layers on a disk.
        layers: how many, the base's too.
        extra: packed bytes that it adds to an image of the same stack; None without one.
    """

    packed: int | None
    unpacked: int
    layers: int
    extra: int | None

    def over(self, budget: Budget | None) -> list[str]:
        """What exceeds a budget: ``compressed 371 MB, budget 350 MB``. What was not measured exceeds nothing."""
        if budget is None:
            return []
        rows = (
            ("compressed", self.packed, budget.compressed_mb),
            ("unpacked", self.unpacked, budget.unpacked_mb),
            ("extra", self.extra, budget.extra_mb),
        )
        faults = [
            f"{name} {found / _MB:,.0f} MB, budget {most:,} MB"
            for name, found, most in rows
            if found is not None and most is not None and found > most * _MB
        ]
        return faults + ([f"{self.layers} layers, budget {budget.layers}"] if self.layers > budget.layers else [])


def weigh(engine: Engine, image: Image, siblings: Iterable[Image]) -> Weight:
    """Weigh an image of the engine.

    Args:
        engine: that has it.
        image: the image.
        siblings: other images of its stack in the same engine; may be empty.
    """
    sizes, packed = _unpacked(image), _packed(engine, image)
    others = [other for other in siblings if other.id != image.id]
    extra = [_extra(sizes, packed, _unpacked(other), _packed(engine, other)) for other in others]
    known = [size for size in extra if size is not None]
    layers = image.attrs["RootFS"]["Layers"]
    return Weight(packed, sum(sizes.values()), len(layers), min(known, default=None))


def _packed(engine: Engine, image: Image) -> int | None:
    # containerd's store says what it holds; the classic one what it unpacked that to.
    return int(image.attrs["Size"]) if engine.containerd_store else None


def _unpacked(image: Image) -> dict[str, int]:
    """Bytes of each layer by its digest, the lowest first; an empty one, ours end with it, is left out."""
    layers: list[str] = image.attrs["RootFS"]["Layers"]
    sizes = [int(row["Size"]) for row in reversed(image.history()) if row["Size"]]
    return dict(zip(layers, sizes, strict=False))


def _extra(own: dict[str, int], packed: int | None, sibling: dict[str, int], beside: int | None) -> int | None:
    """The bytes that one image adds to another, at most.

    No engine tells a layer's packed bytes, but two bounds are near: what is not shared, unpacked (all there is of a
    small layer); and the difference of both images, with the unpacked bytes of what only the sibling has.
    """
    if packed is None or beside is None:
        return None
    mine = sum(size for layer, size in own.items() if layer not in sibling)
    theirs = sum(size for layer, size in sibling.items() if layer not in own)
    return min(mine, packed - beside + theirs)
