"""``python -m images quickstart``: from nothing to a cloned voice: ``out/clone.wav``, ``out/report.json``.

An image that is there already, from the same inputs, is proven again and not built again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from images import lock as lock_verb
from images.baking import build_targets
from images.engine_install import ensure_engine
from images.planned import Workspace
from images.proving import prove_targets
from images.results import as_row, report
from matrix.cli import say
from matrix.errors import DataError, ExitCode

TARGET = "cpu"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's command line."""
    parser.add_argument("--target", default=TARGET, help=f"what to build ({TARGET})")
    parser.add_argument("--out", type=Path, help="where the results go (out/ of the checkout)")
    parser.add_argument("--yes", action="store_true", help="do not ask before an engine is installed")


def run(args: argparse.Namespace, workspace: Workspace) -> int:
    """Check the locks, find or install an engine, build, prove, and write the results."""
    stale = lock_verb.stale(workspace)
    if stale:
        raise DataError(f"the committed locks are not fresh: {', '.join(stale)}", remedy="make lock")
    say("locks: fresh")
    engine = ensure_engine(assume_yes=args.yes)
    built = build_targets(workspace, engine, [args.target])
    proofs = prove_targets(workspace, engine, built)
    out: Path = args.out or workspace.root / "out"
    out.mkdir(parents=True, exist_ok=True)
    rows = [as_row(item, proof) for item, proof in zip(built, [*proofs, None], strict=False)]
    (out / "report.json").write_text(json.dumps({"schema": 1, "targets": rows}, indent=1) + "\n", encoding="utf-8")
    for proof in proofs:
        if proof.audio:
            (out / "clone.wav").write_bytes(proof.audio)
            say(f"{out / 'clone.wav'}: noise of random weights, in the shape of speech; real weights: docs/service.md")
    status = report(built, proofs, smoked=True, as_json=args.json)
    return ExitCode(status)
