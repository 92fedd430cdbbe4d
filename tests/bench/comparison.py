"""Everyone's answers for the same cells: ours, the guess of flash-attn's setup, and those of other tools."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from guess import (
    VERSIONS,
    Answer,
    Row,
    guess_name,
    guessed,
    official_cells,
    our_row,
    pip_answer,
    score,
    shipped,
    shipped_list,
    table,
)
from rivals import all_rivals, ask_rivals
from sdist_guess import get_sdist, read_sdist

from matrix import Cell
from matrix.errors import WheelwrightError
from matrix.flash_attn_facts import Sdist
from wheel_resolver.core.index import WheelIndex


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was asked, and what each answered."""

    cells: Sequence[Cell]
    rows: Sequence[Row]
    index: WheelIndex

    def show(self) -> str:
        """The table as the documentation has it."""
        return table(self.rows, self.cells, self.index)

    def as_data(self) -> dict[str, Any]:
        """For ``--json``: of a row that was not run, why; else its counts."""
        rows: list[dict[str, Any]] = []
        for row in self.rows:
            counts = {"not_run": row.why} if row.why else asdict(score(self.cells, row.answers, self.index))
            rows.append({"name": row.name, **counts, "notes": row.notes})
        return {"cells": len(self.cells), "rows": rows}


def compare() -> Comparison:
    """Ask everyone. It needs the package index, unless its cache has what comes from there."""
    index = shipped()
    cells = official_cells(index.facts.compat)
    rivals = all_rivals(VERSIONS[0])  # of the sdists' versions, the one with the most wheels of its own name
    rows = [our_row(cells, index), *sdist_rows(cells, index), *ask_rivals(rivals, cells, VERSIONS[0])]
    return Comparison(cells, rows, index)


def sdist_rows(cells: Sequence[Cell], index: WheelIndex) -> list[Row]:
    """The guess of each version, read from its sdist."""
    sdists = {str(sdist.version): sdist for sdist in index.facts.compat.flash_attn.source_build.sdists}
    return [_sdist_row(cells, version, sdists.get(version)) for version in VERSIONS]


def _sdist_row(cells: Sequence[Cell], version: str, sdist: Sdist | None) -> Row:
    if sdist is None:
        return Row(guess_name(version), why="compat.yaml has no digest of its sdist")
    try:
        setup = read_sdist(get_sdist(sdist), sdist.version)
        guesses = [setup.guess(cell) for cell in cells]
    except (WheelwrightError, OSError, subprocess.SubprocessError) as error:
        return Row(guess_name(version), why=" ".join(str(error).split()))
    listed = shipped_list()
    answers: list[Answer] = [
        pip_answer(cell, guess, setup.requires_python, listed) for cell, guess in zip(cells, guesses, strict=True)
    ]
    differ = sum(guess != guessed(cell, version) for cell, guess in zip(cells, guesses, strict=True))
    notes = (f"guess.py's copy of the guess by {version} differs in {differ} cells: correct it",) if differ else ()
    return Row(guess_name(version), answers, notes=notes)
