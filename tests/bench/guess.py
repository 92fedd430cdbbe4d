"""The cells of the comparison with other tools, how an answer is judged, and what can be judged without a network.

    PYTHONPATH=. python tests/bench/guess.py

Here: our answers, and a copy of the guess of flash-attn's own setup. `bench_resolver.py` prints the whole comparison,
in which the guess is read from the sdists (`sdist_guess.py`) and the other tools answer for themselves (`rivals.py`).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix import Cell, Compat, load_project
from matrix.compat import minor_of
from wheel_resolver.core.facts import Facts, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.resolve import Match, resolve
from wheel_resolver.core.wheel_rules import WHEEL_RULES
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.catalogue import build_catalogue

VERSIONS = ("2.8.3", "2.8.3.post1", "2.8.3.post2")
_CUDA_11, _CUDA_12 = 11, 12
_OLDEST_TORCH = Version("2.4")
#: The tags and the file names that the releases list.
Listed = Collection[tuple[str, str]]

_REQUIRES_PYTHON = SpecifierSet(">=3.9")  # of all three


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool makes of a cell: the file name of the wheel that it would install, or None.

    ``builds``: it names none, and starts to compile from source without asking.
    """

    wheel: str | None
    builds: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """The answers of one tool, one for each cell; or why it gave none. ``notes``: what is to be known of them."""

    name: str
    answers: Sequence[Answer] = ()
    why: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """Of some cells, how many answers are what.

    Attributes:
        right: a wheel that fits.
        wrong: a wheel that does not fit.
        source_build: no wheel, and an unasked compilation from source.
        none: no wheel, and it is said.
        unlisted: of the wrong ones, those that no release has: the URL leads nowhere.
    """

    right: int
    wrong: int
    source_build: int
    none: int
    unlisted: int = 0


def official_cells(compat: Compat) -> list[Cell]:
    """Torch from 2.4 on x official CUDA x Python on x86_64, free-threaded Pythons left out; the GPU is an A100."""
    return [
        Cell(python, torch, cuda, compat.abi(torch, cuda, "linux_x86_64"), compat.gpus["A100"], "A100", "linux_x86_64")
        for known in compat.torch.values()
        if Version(known.minor) >= _OLDEST_TORCH
        for torch, cuda, python in itertools.product(known.patches[-1:], known.cuda, known.python)
        if not python.free_threaded
    ]


def guessed(cell: Cell, version: str) -> tuple[str, str]:
    """The tag and the file name that flash-attn's setup asks for when that version is installed: a copy of its logic.

    2.8.3 takes CUDA 12 for every CUDA that is not 11, the later two know CUDA 13.
    """
    newest = 12 if version == VERSIONS[0] else 13
    cuda = cell.cuda.major if cell.cuda.major in {_CUDA_11, _CUDA_12} else newest
    python = cell.python.tag
    name = f"flash_attn-{version}+cu{cuda}torch{minor_of(cell.torch)}cxx11abi{cell.abi}-{python}-{python}-linux_x86_64"
    return f"v{version}", f"{name}.whl"


def pip_answer(cell: Cell, guess: tuple[str, str], requires_python: SpecifierSet, listed: Listed) -> Answer:
    """What `pip install` of an sdist that makes this guess comes to.

    Pip refuses a Python that the sdist is not for; else setup.py takes the wheel if it is there, and compiles if not.
    """
    if not requires_python.contains(str(cell.python)):
        return Answer(None)
    return Answer(guess[1]) if guess in listed else Answer(None, builds=True)


def guess_name(version: str) -> str:
    """The row's name."""
    return f"the URL guessed by {version}"


def score(cells: Sequence[Cell], answers: Sequence[Answer], index: WheelIndex) -> Score:
    """Judge the answers; a wheel is right when no rule refuses it for the cell."""
    names = {wheel.filename for wheel in index.wheels}
    counts: Counter[str] = Counter()
    for cell, answer in zip(cells, answers, strict=True):
        if answer.wheel is None:
            counts["source_build" if answer.builds else "none"] += 1
        elif answer.wheel in {wheel.filename for wheel in index.fitting(cell)}:
            counts["right"] += 1
        else:
            counts["wrong"] += 1
            counts["unlisted"] += answer.wheel not in names
    return Score(counts["right"], counts["wrong"], counts["source_build"], counts["none"], counts["unlisted"])


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


def shipped_list() -> Listed:
    """What the releases of the snapshot list."""
    return {(release.tag, asset.name) for release in snapshot.read().releases for asset in release.assets}


def our_row(cells: Sequence[Cell], index: WheelIndex) -> Row:
    """Our answers. They are judged by the rules that make them: what they show is how often there is one."""
    best = [index.best(cell) for cell in cells]
    return Row("`wheel_resolver`", [Answer(wheel.filename if wheel else None) for wheel in best])


def offline_rows(cells: Sequence[Cell], index: WheelIndex) -> list[Row]:
    """Ours, and the copied guess of each version."""
    listed = shipped_list()
    rows = [our_row(cells, index)]
    for version in VERSIONS:
        answers = [pip_answer(cell, guessed(cell, version), _REQUIRES_PYTHON, listed) for cell in cells]
        rows.append(Row(guess_name(version), answers))
    return rows


def table(rows: Sequence[Row], cells: Sequence[Cell], index: WheelIndex) -> str:
    """The comparison as the documentation has it, and below it what is to be said of a row."""
    lines = [
        f"| of {len(cells)} cells | a wheel that fits | a wheel that does not fit | compiles, unasked | says none |",
        "|---|---|---|---|---|",
    ]
    remarks = []
    for row in rows:
        if row.why:
            lines.append(f"| {row.name} | not run | | | |")
            remarks.append(f"{row.name}: not run: {row.why}")
            continue
        found = score(cells, row.answers, index)
        lines.append(f"| {row.name} | {found.right} | {found.wrong} | {found.source_build} | {found.none} |")
        if found.unlisted:
            remarks.append(f"{row.name}: {found.unlisted} of its {found.wrong} wrong wheels exist in no release")
        remarks += row.notes
    return "\n".join([*lines, *(f"\n{remark}" for remark in dict.fromkeys(remarks))])


def answers_table() -> str:
    """Our answers for all cells: by torch and Python, how many of its CUDA builds have a wheel; and the reasons."""
    index, short = shipped(), {rule.name: rule.short for rule in WHEEL_RULES}
    answers = [resolve(cell, index) for cell in official_cells(index.facts.compat)]
    pythons = sorted({answer.cell.python for answer in answers})
    lines = [f"| torch | {' | '.join(map(str, pythons))} | the others |", "|---" * (len(pythons) + 2) + "|"]
    for torch, group in itertools.groupby(answers, lambda answer: minor_of(answer.cell.torch)):
        row = list(group)
        counts = []
        for python in pythons:
            matched = [isinstance(answer, Match) for answer in row if answer.cell.python == python]
            counts.append(f"{sum(matched)} of {len(matched)}" if matched else "")
        reasons = Counter(short[answer.rule] for answer in row if not isinstance(answer, Match))
        why = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
        lines.append(f"| {torch} | {' | '.join(counts)} | {why} |".replace("  ", " "))
    return "\n".join(lines)


if __name__ == "__main__":
    known = shipped()
    asked = official_cells(known.facts.compat)
    print(table(offline_rows(asked, known), asked, known), answers_table(), sep="\n\n")
