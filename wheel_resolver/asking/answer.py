"""Resolutions as JSON (CONTRACTS: ``python -m wheel_resolver``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from matrix import Cell
from wheel_resolver.asking.suggestions import Suggestion, Suggestions
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.other_backends import Other, others_on
from wheel_resolver.core.resolve import (
    FLASH_ATTENTION,
    SDPA,
    Fallback,
    Match,
    Rejection,
    Resolution,
    Unsupported,
    explain,
    resolve,
)
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.upstream.catalogue import Catalogue
from wheel_resolver.upstream.same_name import RULE, Superseded


@dataclass(frozen=True, slots=True)
class Answer:
    """A resolution, the changes that would get a wheel, other backends, and (with ``--explain``) every rejection."""

    resolution: Resolution
    alternatives: tuple[Suggestion, ...]
    trace: tuple[Rejection, ...] | None = None
    other_backends: tuple[Other, ...] = ()


def answer_cells(
    cells: Iterable[Cell],
    index: WheelIndex,
    suggestions: Suggestions | None = None,
    *,
    explained: bool = False,
    superseded: Iterable[Superseded] = (),
) -> list[Answer]:
    """Answer for each cell: what runs and why, and where no wheel fits what would change that.

    ``suggestions``: who finds these changes, where more is known than the index. ``superseded``: files that no cell
    gets, since their name has a newer one; they stand in each trace.
    """
    older = tuple(Rejection(each.old.filename, RULE, each.detail) for each in superseded) if explained else ()
    suggestions = suggestions or Suggestions(index)
    answers = []
    for cell in cells:
        resolution = resolve(cell, index)
        others = () if isinstance(resolution, Match) else suggestions.of(cell)
        trace = (*explain(cell, index), *older) if explained else None
        unsupported = resolution.reason if isinstance(resolution, Unsupported) else None
        answers.append(Answer(resolution, others, trace, others_on(cell, index.facts.compat, unsupported)))
    return answers


def attention_of(resolution: Resolution) -> str | None:
    """``flash_attention_2``, ``sdpa``, or None when nothing can run."""
    if isinstance(resolution, Unsupported):
        return None
    compiled = isinstance(resolution, Fallback) and resolution.source_build is not None
    return FLASH_ATTENTION if compiled or isinstance(resolution, Match) else SDPA


def backend_of(resolution: Resolution) -> str | None:
    """The kernels that will run: ``flash_attention_2``, or the SDPA family."""
    if isinstance(resolution, Unsupported):
        return None
    if isinstance(resolution, Match) or resolution.source_build is not None:
        return FLASH_ATTENTION
    return resolution.backend


def to_json(catalogue: Catalogue, skipped: Mapping[str, int], answers: Sequence[Answer]) -> dict[str, Any]:
    """The whole answer, ready for ``json.dumps``."""
    traced = any(answer.trace is not None for answer in answers)
    return {
        "schema": 1,
        "catalogue": {
            "source": catalogue.source,
            "as_of": catalogue.as_of,
            "stale": catalogue.stale,
            "wheels": catalogue.listed,
            "unparsed": list(catalogue.unparsed) if traced else len(catalogue.unparsed),
            **_same_names(catalogue, traced=traced),
            **_providers(catalogue),
        },
        "skipped": dict(skipped),
        "resolutions": [_resolution(answer) for answer in answers],
    }


def _providers(catalogue: Catalogue) -> dict[str, Any]:
    """Each provider's share, the most trusted first; nothing where the matrix opts into none."""
    if len(catalogue.providers) < 2:  # noqa: PLR2004 - the official one alone is what stands above
        return {}
    return {
        "providers": [
            {
                "name": each.name,
                "source": each.source,
                "as_of": each.as_of or None,
                "stale": each.stale,
                "wheels": each.wheels,
            }
            for each in catalogue.providers
        ]
    }


def _same_names(catalogue: Catalogue, *, traced: bool) -> dict[str, Any]:
    """Names that stand for several files; nothing where none does."""
    rows = [
        {
            "wheel": each.old.filename,
            "provider": each.old.provider,
            "tag": each.old.tag,
            "sha256": each.old.sha256,
            "by": {"tag": each.new.tag, "sha256": each.new.sha256},
        }
        for each in (catalogue.superseded if traced else ())
    ]
    found: dict[str, Any] = {}
    if catalogue.superseded:
        found["superseded"] = rows if traced else len(catalogue.superseded)
    if catalogue.disputed:
        found["disputed"] = list(catalogue.disputed) if traced else len(catalogue.disputed)
    return found


def _resolution(answer: Answer) -> dict[str, Any]:
    resolution = answer.resolution
    row: dict[str, Any] = {
        "cell": cell_to_json(resolution.cell),
        "attention": attention_of(resolution),
        "backend": backend_of(resolution),
        "reason": resolution.reason,
        "remedy": resolution.remedy if isinstance(resolution, Unsupported) else None,
        "wheel": _wheel(resolution.wheel) if isinstance(resolution, Match) else None,
        "evidence": str(resolution.build.evidence) if isinstance(resolution, Match) else None,
        "rejected": {} if isinstance(resolution, Unsupported) else dict(resolution.rejected),
        "nearest": [] if isinstance(resolution, Unsupported) else [_rejection(miss) for miss in resolution.nearest],
        "alternatives": [
            {
                "change": dict(each.change),
                "wheel": each.wheel.filename,
                "command": each.command,
                "provider": each.wheel.provider,
                "third_party": each.note is not None,
                "note": each.note,
            }
            for each in answer.alternatives
        ],
        "other_backends": [asdict(each) for each in answer.other_backends],
    }
    if isinstance(resolution, Fallback) and (build := resolution.source_build) is not None:
        row["source_build"] = {
            "sdist": build.sdist.name,
            "version": str(build.sdist.version),
            "sha256": build.sdist.sha256,
            "size": build.sdist.size,
            "builder": build.builder,
        }
    if answer.trace is not None:
        row["trace"] = [_rejection(each) for each in answer.trace]
    return row


def cell_to_json(cell: Cell) -> dict[str, str | None]:
    """A cell as CONTRACTS writes it."""
    return {
        "python": str(cell.python),
        "torch": str(cell.torch),
        "cuda": str(cell.cuda),
        "abi": str(cell.abi),
        "arch": str(cell.arch) if cell.arch else None,
        "gpu": cell.gpu,
        "platform": cell.platform,
    }


def _wheel(wheel: Wheel) -> dict[str, str | int | None]:
    return {
        "name": wheel.filename,
        "url": wheel.url,
        "sha256": wheel.sha256,
        "size": wheel.size,
        "version": wheel.name.version,
        "tag": wheel.tag,
        "provider": wheel.provider,
        "updated_at": wheel.updated_at,
    }


def _rejection(rejection: Rejection) -> dict[str, str]:
    return {"wheel": rejection.wheel, "rule": rejection.rule, "detail": rejection.detail}
