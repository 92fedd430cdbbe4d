"""What a locked decision was made from, as one sha256: whoever reads an entry can see whether it still holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matrix import Project, Target
from matrix.document import display_name
from matrix.errors import DataError
from wheel_resolver.core.version import RULES_VERSION
from wheel_resolver.locked.entries import LockedTarget


def inputs_of(target: Target, project: Project) -> str:
    """The sha256 of a target's question: its row and cells, what the matrix allows, the facts and rules of today."""
    matrix = project.matrix
    question: dict[str, Any] = {
        "target": asdict(target),
        "cells": [asdict(cell) for cell in target.cells(project.compat)],
        "providers": [asdict(provider) for provider in matrix.providers],
        "reuse": matrix.reuse,
        "facts": project.compat.data,
        "known_broken": [asdict(fact) for fact in project.known_broken],
        "rules": RULES_VERSION,
    }
    text = json.dumps(question, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def require_fresh(entries: Iterable[LockedTarget], project: Project, lock: Path) -> None:
    """Refuse entries that were decided from something else than what stands in matrix and facts now.

    Raises:
        DataError: names them, and what to do.
    """
    targets = project.matrix.targets
    stale = [
        entry.name
        for entry in entries
        if entry.name not in targets or entry.inputs != inputs_of(targets[entry.name], project)
    ]
    if stale:
        raise DataError(
            f"{display_name(lock)}: {', '.join(stale)}: decided from another matrix, or from other facts or rules than "
            "today's",
            remedy="run `make lock` (python -m wheel_resolver lock), look at the difference, commit it",
        )
