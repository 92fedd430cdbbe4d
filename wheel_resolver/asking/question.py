"""The command line's question: options to axes, each value checked against the facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from packaging.specifiers import SpecifierSet

from matrix import Arch, Compat, Project
from matrix.errors import UsageError
from matrix.expand import Expansion, expand
from matrix.model import Axes, Exclusion
from matrix.torch_asked import flash_attn_range
from wheel_resolver.asking import values_asked
from wheel_resolver.asking.values_asked import by_build


@dataclass(frozen=True, slots=True)
class Asked:
    """The options as given: each a list, empty where the option was not given."""

    torch: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    cuda: tuple[str, ...] = ()
    abi: tuple[str, ...] = ()
    gpu: tuple[str, ...] = ()
    arch: tuple[str, ...] = ()
    platform: tuple[str, ...] = ()

    @property
    def names_a_cell(self) -> bool:
        """Whether all that decides if torch can run there was said: torch, CUDA and GPU."""
        return bool(self.torch and self.cuda and (self.gpu or self.arch))


def cells_asked(asked: Asked, project: Project) -> Expansion:
    """Expand a question; what it does not say ranges over the matrix.

    A GPU that is in no machine of the matrix's platforms, as a GB10, is asked for on its own, unless one was named.
    A torch that names its build, as ``2.9.0+cu128`` does, is asked for with that CUDA.

    Raises:
        UsageError: a value is not known, or two of them contradict each other; the message lists what is known.
    """
    parts = [part for each in _by_build(asked, project.compat) for part in _expand(each, project)]
    skipped: Counter[str] = Counter()
    for part in parts:
        skipped.update(part.skipped)
    cells = dict.fromkeys(cell for part in parts for cell in part.cells)
    return Expansion(tuple(cells), dict(sorted(skipped.items())))


def _by_build(asked: Asked, compat: Compat) -> Iterator[Asked]:
    """The questions that one command line asks: one for each CUDA that its torches name."""
    torches = values_asked.torches(asked.torch)
    for cuda, group in by_build(torches, asked.cuda, compat).items():
        cudas = asked.cuda if cuda is None else (str(cuda),)
        yield replace(asked, torch=tuple(str(each) for each in group), cuda=cudas)


def _expand(asked: Asked, project: Project) -> list[Expansion]:
    compat, axes = project.compat, project.matrix.axes
    chosen = replace(
        axes,
        torch=values_asked.releases(asked.torch, compat) or axes.torch,
        python=values_asked.pythons(asked.python, compat) or axes.python,
        cuda=values_asked.cudas(asked.cuda, compat) or axes.cuda,
        abi=values_asked.abis(asked.abi) or axes.abi,
        gpu=values_asked.gpus(asked.gpu, asked.arch, compat) or axes.gpu,
        platform=values_asked.platforms(asked.platform, compat) or axes.platform,
    )
    applying = [rule for rule in project.matrix.exclude if not _asked_for(rule, asked)]
    by_platform: dict[tuple[str, ...], list[tuple[str | None, Arch]]] = {}
    for gpu in chosen.gpu:
        by_platform.setdefault(_platforms_of(gpu, chosen.platform, asked, compat), []).append(gpu)
    return [
        expand(
            _unique(replace(chosen, gpu=tuple(gpus), platform=platforms)), compat, applying,
            cpu=not (asked.gpu or asked.arch), unlisted=bool(asked.torch and asked.cuda),
        )
        for platforms, gpus in by_platform.items()
    ]  # fmt: skip


def _platforms_of(
    gpu: tuple[str | None, Arch], platforms: tuple[str, ...], asked: Asked, compat: Compat
) -> tuple[str, ...]:
    having = {platform for facts in compat.like(*gpu) for platform in facts.platforms}
    if asked.platform or not having or having.intersection(platforms):
        return platforms
    return tuple(platform for platform in compat.platforms if platform in having)


def nothing_left(asked: Asked, expansion: Expansion, compat: Compat) -> str:
    """Say why a question has no cell, and what PyTorch did ship of the torches that it names."""
    lines = ["no cell is left of what was asked: "]
    lines[0] += "; ".join(f"{reason} ({count})" for reason, count in expansion.skipped.items())
    platform = (*values_asked.platforms(asked.platform, compat), compat.platforms[0])[0]
    for torch in values_asked.releases(asked.torch, compat):
        builds, pythons = (
            ", ".join(map(str, values)) for values in (compat.builds(torch, platform), compat.pythons(torch))
        )
        lines.append(f"  torch {torch} was shipped for CUDA {builds} and cpu, on Python {pythons}")
    return "\n".join(lines)


def _asked_for(exclusion: Exclusion, asked: Asked) -> bool:
    """Whether every value that an exclusion names was asked for by name: then the asker knows."""
    named = [
        (exclusion.python, asked.python),
        (exclusion.torch, asked.torch),
        (exclusion.cuda, asked.cuda),
        (exclusion.gpu, asked.gpu),
        (exclusion.platform, asked.platform),
    ]
    return all(given for value, given in named if value is not None)


def _unique(axes: Axes) -> Axes:
    return replace(axes, **{name: tuple(dict.fromkeys(getattr(axes, name))) for name in axes.__slots__})


def flash_attn_asked(given: Sequence[str]) -> tuple[SpecifierSet, ...]:
    """Read ``--flash-attn``: one specifier (``>=2.8,<3``), or versions of which any will do (``2.8.3,2.8.1``).

    Raises:
        UsageError: it is neither.
    """
    try:
        return flash_attn_range(given) if given else ()
    except ValueError as error:
        raise UsageError(f"--flash-attn: {error}", remedy="write 2.8.3, or '>=2.8,<3'") from None
