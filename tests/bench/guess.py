"""Whether flash-attn's own setup would find a wheel: the URL that it guesses, against what the releases list.

    PYTHONPATH=. python tests/bench/guess.py

The guess: setup.py of flash-attn 2.8.3, ``get_wheel_url``. It takes its own version as tag and name, CUDA 12 for every
CUDA that is not 11, and this Python only; where the URL does not exist it compiles from source.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from matrix import Cell, Compat, load_project
from matrix.compat import minor_of
from wheel_resolver.asking.table import NO_WHEEL
from wheel_resolver.core.facts import Facts, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.resolve import Match, resolve
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.catalogue import build_catalogue

VERSIONS = ("2.8.3", "2.8.3.post1", "2.8.3.post2")
_CUDA_11 = 11


@dataclass(frozen=True, slots=True)
class Score:
    """Of some cells: where a wheel that fits is found, where one that does not fit, and where none."""

    right: int
    wrong: int
    none: int


def official_cells(compat: Compat) -> list[Cell]:
    """Torch 2.4 to 2.15 x official CUDA x Python on x86_64, free-threaded Pythons left out: 185; the GPU is an A100."""
    return [
        Cell(python, torch, cuda, compat.abi(torch, cuda, "linux_x86_64"), compat.gpus["A100"], "A100", "linux_x86_64")
        for known in compat.torch.values()
        for torch, cuda, python in itertools.product(known.patches[-1:], known.cuda, known.python)
        if not python.free_threaded
    ]


def guessed(cell: Cell, version: str) -> tuple[str, str]:
    """The tag and the file name that flash-attn's setup asks for when that version is installed."""
    cuda = "11" if cell.cuda.major == _CUDA_11 else "12"
    python = cell.python.tag
    name = f"flash_attn-{version}+cu{cuda}torch{minor_of(cell.torch)}cxx11abi{cell.abi}-{python}-{python}-linux_x86_64"
    return f"v{version}", f"{name}.whl"


def score_guess(cells: Iterable[Cell], listed: Collection[tuple[str, str]], index: WheelIndex, version: str) -> Score:
    """What the guess finds; a wheel that it finds is right when no rule refuses it."""
    cells = list(cells)
    found = [(cell, guess[1]) for cell in cells if (guess := guessed(cell, version)) in listed]
    right = sum(name in {wheel.filename for wheel in index.fitting(cell)} for cell, name in found)
    return Score(right, len(found) - right, len(cells) - len(found))


def score_ours(cells: Iterable[Cell], index: WheelIndex) -> Score:
    """What the resolver finds."""
    answers = [index.best(cell) for cell in cells]
    return Score(sum(answer is not None for answer in answers), 0, answers.count(None))


def shipped() -> WheelIndex:
    """The wheels of the snapshot under the project's facts."""
    project = load_project()
    known = build_catalogue(
        snapshot.read().releases,
        repository=project.compat.flash_attn.repository,
        origin="https://github.com",
        source="snapshot",
        as_of="",
        stale=False,
    )
    return WheelIndex(known.wheels, Facts(project.compat, project.known_broken), default_policy(project.compat))


def compare() -> dict[str, Score]:
    """Both on the shipped data, by the name that the table gives them."""
    index = shipped()
    listed = {(release.tag, asset.name) for release in snapshot.read().releases for asset in release.assets}
    cells = official_cells(index.facts.compat)
    guesses = {f"the URL guessed by {version}": score_guess(cells, listed, index, version) for version in VERSIONS}
    return {"`wheel_resolver`": score_ours(cells, index), **guesses}


def table(scores: dict[str, Score]) -> str:
    """The comparison as the documentation has it."""
    lines = ["| of 185 cells | a wheel that fits | a wheel that does not fit | none |", "|---|---|---|---|"]
    lines += [f"| {name} | {score.right} | {score.wrong} | {score.none} |" for name, score in scores.items()]
    return "\n".join(lines)


def answers_table() -> str:
    """Our answers for all 185 cells: by torch and Python, how many of its CUDA builds have a wheel; and the reasons."""
    index = shipped()
    answers = [resolve(cell, index) for cell in official_cells(index.facts.compat)]
    pythons = sorted({answer.cell.python for answer in answers})
    lines = [f"| torch | {' | '.join(map(str, pythons))} | the others |", "|---" * (len(pythons) + 2) + "|"]
    for torch, group in itertools.groupby(answers, lambda answer: minor_of(answer.cell.torch)):
        row = list(group)
        counts = []
        for python in pythons:
            matched = [isinstance(answer, Match) for answer in row if answer.cell.python == python]
            counts.append(f"{sum(matched)} of {len(matched)}" if matched else "")
        reasons = Counter(NO_WHEEL[answer.rule] for answer in row if not isinstance(answer, Match))
        why = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
        lines.append(f"| {torch} | {' | '.join(counts)} | {why} |".replace("  ", " "))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(compare()), answers_table(), sep="\n\n")
