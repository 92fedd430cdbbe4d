"""What `make bench-images` found, as a table, as a plot, and as the generated block of the documentation."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

_MB = 1_000_000


@dataclass(frozen=True)
class Figures:
    """What was measured of one way to build an image: bytes of all its layers (the base's too), and seconds.

    Attributes:
        own: the compression that it is built with.
        packed: bytes by compression.
        changed: packed bytes of the layers that a changed line of code makes anew; second: of those that a second
            image of the stack adds.
        cold, warm: seconds of a build without any cache, and of one after that change.
        export, unpack: seconds to write it as an OCI archive, and to unpack that.
    """

    name: str
    own: str
    packed: dict[str, int]
    unpacked: int
    layers: int
    changed: int
    second: int
    cold: float
    warm: float
    export: float
    unpack: float


@dataclass(frozen=True)
class Result:
    """One run: ours first."""

    stack: str
    machine: str
    sides: tuple[Figures, ...]

    def to_json(self) -> dict[str, Any]:
        """As ``from_json`` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """The result that ``to_json`` wrote."""
        return cls(data["stack"], data["machine"], tuple(Figures(**side) for side in data["sides"]))


@dataclass(frozen=True)
class _Measure:
    name: str
    value: Callable[[Figures], float]
    unit: str

    def show(self, value: float) -> str:
        if not self.unit:
            return f"{value:.0f}"
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


MEASURES = (
    _Measure("packed as built", lambda side: side.packed[side.own] / _MB, "MB"),
    _Measure("packed with gzip", lambda side: side.packed["gzip"] / _MB, "MB"),
    _Measure("packed with zstd", lambda side: side.packed["zstd"] / _MB, "MB"),
    _Measure("unpacked", lambda side: side.unpacked / _MB, "MB"),
    _Measure("layers", lambda side: side.layers, ""),
    _Measure("cold build", lambda side: side.cold, "s"),
    _Measure("warm rebuild, one line of code changed", lambda side: side.warm, "s"),
    _Measure("exported anew after that change", lambda side: side.changed / _MB, "MB"),
    _Measure("a second image of the stack adds", lambda side: side.second / _MB, "MB"),
    _Measure("export as an OCI archive", lambda side: side.export, "s"),
    _Measure("unpack that archive", lambda side: side.unpack, "s"),
)


def table(result: Result) -> str:
    """A row a measure, a column a side."""
    sides = result.sides
    lines = [
        f"| `{result.stack}` | {' | '.join(f'{side.name} ({side.own})' for side in sides)} |",
        "|---" + "|---:" * len(sides) + "|",
    ]
    for measure in MEASURES:
        shown = [measure.show(measure.value(side)) for side in sides]
        name = f"{measure.name}, {measure.unit}" if measure.unit else measure.name
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600}.bar0{fill:#0969da}.bar1{fill:#8c959f}"
    ".bar2{fill:#afb8c1}.bar3{fill:#57606a}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bar0{fill:#4493f8}.bar1{fill:#7d8590}.bar2{fill:#545d68}"
    ".bar3{fill:#adbac7}}"
)
_WIDTH, _ROW, _LEFT, _BAR = 760, 20, 210, 440


def plot(result: Result) -> str:
    """The same as an SVG: a group of bars a measure, each group on a scale of its own that begins at zero."""
    parts: list[str] = []
    y = 0
    for measure in MEASURES:
        values = [measure.value(side) for side in result.sides]
        parts.append(f'<text class="t" x="10" y="{y + 18}">{escape(measure.name)}</text>')
        y += 26
        for number, (side, value) in enumerate(zip(result.sides, values, strict=True)):
            width = max(1, round(_BAR * value / (max(values) or 1)))
            label = f"{measure.show(value)} {measure.unit}".strip()
            parts += [
                f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(side.name)}</text>',
                f'<rect class="bar{number}" x="{_LEFT}" y="{y + 2}" width="{width}" height="{_ROW - 6}"/>',
                f'<text x="{_LEFT + width + 6}" y="{y + 13}">{escape(label)}</text>',
            ]
            y += _ROW
        y += 8
    title = f"{result.stack}: ours against the straightforward image"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" role="img"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def block(result: Result, image: str) -> str:
    """What stands between the markers of a stack in the documentation."""
    alt = f"{result.stack}: bytes and seconds of each, as bars"
    return f"{result.machine}\n\n{table(result)}\n\n![{alt}]({image})"


def replace_block(text: str, stack: str, content: str) -> str:
    """Put a stack's block between its markers; after the last block where it has none yet.

    Raises:
        ValueError: the text has no block at all.
    """
    whole = f"{_begin(stack)}\n{content}\n<!-- bench-images {stack}: end -->"
    blocks = list(re.finditer(r"<!-- bench-images (\S+): begin.*?<!-- bench-images \1: end -->", text, re.DOTALL))
    if not blocks:
        raise ValueError(f"no block between {_begin(stack)} and its end: put both markers where it is to stand")
    for found in blocks:
        if found[1] == stack:
            return text[: found.start()] + whole + text[found.end() :]
    end = blocks[-1].end()
    return f"{text[:end]}\n\n{whole}{text[end:]}"


def _begin(stack: str) -> str:
    return f"<!-- bench-images {stack}: begin (make bench-images) -->"
