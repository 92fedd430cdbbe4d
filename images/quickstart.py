"""``python -m images quickstart``: from nothing to a cloned voice: ``out/clone.wav``, ``out/report.json``.

An image that is there already, from the same inputs, is proven again and not built again.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from images import lock as lock_verb
from images.baking import build_targets
from images.cloning import CLONE, VOICE, client_arguments, shell_line
from images.engine_install import ensure_engine
from images.planned import Workspace
from images.proving import prove_targets
from images.results import as_row, report
from images.secret_folder import end_as_ctrl_c
from images.wav import reference_voice
from matrix import tree
from matrix.cli import path_of, say
from matrix.errors import DataError, ExitCode

TARGET = "cpu"
REPORT = "report.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's command line."""
    parser.add_argument("--target", default=TARGET, help=f"what to build ({TARGET})")
    parser.add_argument("--out", type=path_of, help="where the results go (out/ of the checkout)")
    parser.add_argument("--yes", action="store_true", help="do not ask before an engine is installed")


def run(args: argparse.Namespace, workspace: Workspace) -> int:
    """Check the locks, find or install an engine, build, prove, and write the results."""
    end_as_ctrl_c()
    out = Path(os.path.normpath(workspace.writable(args.out or workspace.root / "out").absolute()))
    for name in (REPORT, CLONE, VOICE):
        tree.exists(out / name)  # a link there is refused before the build, not after it
    stale = lock_verb.stale(workspace)
    if stale:
        raise DataError(f"the committed locks are not fresh: {', '.join(stale)}", remedy="make lock")
    say("locks: fresh")
    engine = ensure_engine(assume_yes=args.yes)
    built = build_targets(workspace, engine, [args.target])
    proofs = prove_targets(workspace, engine, built)
    rows = [as_row(item, proof) for item, proof in zip(built, [*proofs, None], strict=False)]
    tree.write(out / REPORT, json.dumps({"schema": 1, "targets": rows}, indent=1) + "\n")
    for proof in proofs:
        if proof.audio:
            tree.write(out / CLONE, proof.audio)
            tree.write(out / VOICE, reference_voice())
            shown = out.relative_to(workspace.root) if out.is_relative_to(workspace.root) else out
            say(f"{shown / CLONE}: noise of random weights, in the shape of speech. The same by hand:")
            for line in by_hand(workspace.root, proof.tag, shown, gpu=engine.gpu_runtime):
                say(f"  {line}")
            say("Without -e it fetches the released weights, and speaks: give it a recording, and what is said in it.")
    status = report(built, proofs, smoked=True, as_json=args.json)
    return ExitCode(status)


def by_hand(root: Path, tag: str, out: Path, *, gpu: bool) -> list[str]:
    """A service on random weights, a clone from it, and its end: lines for a shell in the checkout.

    Args:
        root: the checkout.
        tag: of the image.
        out: where the voice lies and the clone goes, as seen from the checkout.
        gpu: whether containers can be given one.
    """
    published = f"{'--gpus all ' if gpu else ''}-p 127.0.0.1:8000:8000"
    return [
        f"docker run --init --rm -v models:/models {tag} python -m serve.tiny /models/tiny",
        f"docker run --init -d --name speech {published} -v models:/models -e WW_MODEL_DIR=/models/tiny {tag}",
        shell_line(root, client_arguments(out, "--wait", "60")),
        "docker rm -f speech",
    ]
