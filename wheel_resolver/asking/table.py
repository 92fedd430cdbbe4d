"""Resolutions as text: a table that a person reads in five seconds, or with ``--explain`` every reason."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Hashable, Iterable, Sequence

from matrix import Cell
from matrix.shown import shown
from wheel_resolver.asking.answer import Answer
from wheel_resolver.core.build import Evidence
from wheel_resolver.core.cell_rules import CELL_RULES
from wheel_resolver.core.resolve import Fallback, Match, Resolution, Unsupported
from wheel_resolver.core.wheel_rules import WHEEL_RULES
from wheel_resolver.upstream.catalogue import Catalogue

_HEAD = ("torch", "python", "CUDA", "GPU", "attention", "wheel, or why not", "cheapest change")

_NO_GPU = "none"
#: From so many values on, an axis is named by what is missing.
_MANY = 3

#: Why no wheel fits, and why nothing runs, by the rule that decides.
_SHORT = {rule.name: rule.short for rule in WHEEL_RULES}
_CANNOT_RUN = {rule.name: rule.short for rule in CELL_RULES}

_EVIDENCE = {
    Evidence.LABEL: "label: its file name, and what is known of its version",
    Evidence.RECIPE: "recipe: how its tag's wheels were built",
    Evidence.INSPECTED: "inspected: it was looked into",
    Evidence.LOADED: "loaded: it was imported",
}

#: A row of the table: the values of each axis that share one outcome.
_Values = tuple[tuple[str, ...], ...]


def render_table(answers: Sequence[Answer], width: int) -> str:
    """Write the answers as a table: cells with the same outcome share a row. ``width`` in characters."""
    first: dict[Hashable, Answer] = {}
    cells: dict[Hashable, list[_Values]] = {}
    for answer in answers:
        outcome = _outcome(answer)
        first.setdefault(outcome, answer)
        cells.setdefault(outcome, []).append(_axes(answer.resolution.cell))
    order = [_axis_order(answers, axis) for axis in range(4)]
    rows = [
        (*(_names(values, every) for values, every in zip(axes, order, strict=True)), *_what(first[outcome]))
        for outcome, points in sorted(cells.items(), key=lambda item: _rank(first[item[0]]))
        for axes in _fewest_rows(points, order)
    ]
    head: tuple[str, ...] = _HEAD
    if len(order[0]) == 1:  # one torch: said once, above
        head, rows = _HEAD[1:], [row[1:] for row in rows]
    table = f"torch {', '.join(order[0])}\n\n{_layout([head, *rows], width)}"
    return f"{table}\n\n{_sentences(first.values(), width)}".rstrip()


def _names(values: tuple[str, ...], every: Iterable[str]) -> str:
    """Name the values of an axis: ``all``, ``all but 3.12``, or one by one. No GPU at all is not one of them."""
    missing = [value for value in every if value not in values and value != _NO_GPU]
    if len(values) < _MANY or len(missing) > 1:
        return ", ".join(values)
    return f"all but {missing[0]}" if missing else "all"


def _rank(answer: Answer) -> int:
    """Wheels first, then what falls back, then what cannot run."""
    resolution = answer.resolution
    if isinstance(resolution, Match):
        return 0
    return 3 if isinstance(resolution, Unsupported) else 2 if _is_cpu_build(resolution) else 1


def _is_cpu_build(resolution: Resolution) -> bool:
    """Whether a wheel is missing only because this torch has no CUDA, which needs no explanation."""
    return isinstance(resolution, Fallback) and resolution.cell.cuda.is_cpu and resolution.rule == "cuda"


def _sentences(answers: Iterable[Answer], width: int) -> str:
    """One example of each reason that the table only hints at, and the commands of its cheapest change and of a third
    party's wheel."""
    lines, seen = [], set()
    for answer in sorted(answers, key=_rank):
        resolution = answer.resolution
        if isinstance(resolution, Match) or resolution.rule in seen or _is_cpu_build(resolution):
            continue
        seen.add(resolution.rule)
        cell = resolution.cell
        place = f"Python {cell.python}, torch {cell.torch}, CUDA {cell.cuda}, {cell.gpu_text}"
        text = f"For example {place}: {resolution.reason}"
        if isinstance(resolution, Unsupported):
            text += f"; {resolution.remedy}"
        lines += textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
        for each in answer.alternatives[:1] + tuple(each for each in answer.alternatives[1:] if each.note)[:1]:
            lines += [f"  {each.note}:"] if each.note else []
            lines.append(f"  {shown(each.command)}")
    return "\n".join(lines)


def _axes(cell: Cell) -> _Values:
    gpu = cell.gpu or (str(cell.arch) if cell.arch else _NO_GPU)
    return ((str(cell.torch),), (str(cell.python),), (str(cell.cuda),), (gpu,))


def _axis_order(answers: Iterable[Answer], axis: int) -> dict[str, int]:
    seen = dict.fromkeys(_axes(answer.resolution.cell)[axis][0] for answer in answers)
    return {value: position for position, value in enumerate(seen)}


def _fewest_rows(points: list[_Values], order: list[dict[str, int]]) -> list[_Values]:
    """Join rows that differ in one axis only, in the order of axes that leaves the fewest rows."""
    return min((_merge(points, order, axes) for axes in itertools.permutations(range(4))), key=len)


def _merge(points: list[_Values], order: list[dict[str, int]], axes: Iterable[int]) -> list[_Values]:
    rows = points
    for axis in axes:
        joined: dict[_Values, list[str]] = {}
        for row in rows:
            rest = (*row[:axis], (), *row[axis + 1 :])
            joined.setdefault(rest, []).extend(row[axis])
        rows = [
            (*rest[:axis], tuple(sorted(set(values), key=order[axis].__getitem__)), *rest[axis + 1 :])
            for rest, values in joined.items()
        ]
    return rows


def _outcome(answer: Answer) -> Hashable:
    resolution = answer.resolution
    change = tuple(answer.alternatives[0].change.items()) if answer.alternatives else ()
    if isinstance(resolution, Match):
        return resolution.wheel.filename
    if isinstance(resolution, Unsupported):
        return resolution.rule, resolution.remedy
    return resolution.rule, resolution.backend, resolution.source_build, change


def _what(answer: Answer) -> tuple[str, str, str]:
    """The columns attention, why and cheapest change."""
    resolution = answer.resolution
    change = answer.alternatives[0].options if answer.alternatives else ""
    if isinstance(resolution, Match):
        wheel = resolution.wheel
        digest = f"sha256 {wheel.sha256[:8]}" if wheel.sha256 else "unpinned"
        return "flash_attention_2", f"{wheel.name.version} cu{wheel.name.cuda}, {digest}", ""
    if isinstance(resolution, Unsupported):
        return "unsupported", _CANNOT_RUN[resolution.rule], resolution.remedy.removeprefix("use ")
    if resolution.source_build is not None:
        return "flash_attention_2", f"compiled from {resolution.source_build.sdist.version}'s source", change
    if _is_cpu_build(resolution):
        return _sdpa(resolution), "a CPU build of torch", ""
    if resolution.rule == "arch":
        return _sdpa(resolution), _SHORT["arch"], change or "none: another GPU"
    return _sdpa(resolution), _SHORT.get(resolution.rule, resolution.reason), change or "none known"


def _sdpa(resolution: Fallback) -> str:
    return "sdpa" if resolution.backend is None else f"sdpa ({resolution.backend})"


def _layout(rows: Sequence[Sequence[str]], width: int) -> str:
    """Align columns; the widest ones are wrapped until the table fits."""
    rows = [[*map(shown, row)] for row in rows]
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > 12:  # noqa: PLR2004 - narrower is unreadable
        widths[widths.index(max(widths))] -= 1
    lines: list[str] = []
    for number, row in enumerate(rows):
        cells = [
            textwrap.wrap(text, size, break_on_hyphens=False) or [""] for text, size in zip(row, widths, strict=True)
        ]
        for line in range(max(map(len, cells))):
            parts = [
                (cell[line] if line < len(cell) else "").ljust(size) for cell, size in zip(cells, widths, strict=True)
            ]
            lines.append("  ".join(parts).rstrip())
        if number == 0:
            lines.append("  ".join("-" * size for size in widths))
    return "\n".join(lines)


def render_one(answer: Answer) -> str:
    """Write one answer as sentences: what, why, what else."""
    resolution = answer.resolution
    cell = resolution.cell
    built = str(cell.cuda) if cell.cuda.is_rocm else f"CUDA {cell.cuda}"
    lines = [f"Python {cell.python}, torch {cell.torch}, {built}, ABI {cell.abi}, {cell.gpu_text}"]
    if isinstance(resolution, Match):
        wheel = resolution.wheel
        lines += [f"  attention  flash_attention_2: {resolution.reason}", f"  wheel      {wheel.url}"]
        lines += [f"  sha256     {wheel.sha256 or 'not published: the wheel is unpinned'}"]
        lines += [f"  evidence   {_EVIDENCE[resolution.build.evidence]}"]
        return "\n".join(map(shown, [*lines, *_others(answer)]))
    if isinstance(resolution, Unsupported):
        lines += [f"  unsupported: {resolution.reason}", f"  remedy     {resolution.remedy}"]
    elif resolution.source_build is not None:
        lines += [f"  attention  flash_attention_2, compiled: {resolution.reason}"]
        lines += [f"  source     {resolution.source_build.sdist.name}, sha256 {resolution.source_build.sdist.sha256}"]
    else:
        backend = f" (backend {resolution.backend})" if resolution.backend else ""
        lines += [f"  attention  sdpa{backend}: {resolution.reason}"]
    lines += _others(answer)
    for each in answer.alternatives:
        change = ", ".join(f"{axis} {value}" for axis, value in each.change.items())
        note = f" ({each.note})" if each.note else ""
        lines += [f"  with {change}: flash-attn {each.wheel.name.version}{note}", f"    {each.command}"]
    return "\n".join(map(shown, lines))


def _others(answer: Answer) -> list[str]:
    """The other backends that nothing rules out, in one line; with ``--json`` each says what it needs."""
    names = [each.name for each in answer.other_backends if each.can_run]
    return (
        [f"  also       {', '.join(names)} could run there; none is chosen unasked (--json says why)"] if names else []
    )


def render_trace(answer: Answer) -> str:
    """Write every rejection of one answer, by rule."""
    by_rule: dict[str, list[str]] = {}
    for rejection in answer.trace or ():
        by_rule.setdefault(rejection.rule, []).append(f"    {rejection.wheel}: {rejection.detail}")
    lines = [render_one(answer)]
    for rule, refusals in by_rule.items():
        lines += [f"  {rule} refuses {len(refusals)}:", *map(shown, refusals)]
    return "\n".join(lines)


def describe_catalogue(catalogue: Catalogue) -> str:
    """One line on where the wheels are known from."""
    had = ", ".join(
        f"{each.name}: {each.wheels} ({each.source})" for each in catalogue.providers if len(catalogue.providers) > 1
    )
    unread = f"; {len(catalogue.unparsed)} names not read (--explain lists them)" if catalogue.unparsed else ""
    if catalogue.superseded:
        unread += f"; {len(catalogue.superseded)} superseded by newer files of their names"
    return f"{catalogue.listed} wheels listed, {had or f'{catalogue.source} of {catalogue.as_of[:10]}'}{unread}"
