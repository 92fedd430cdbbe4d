"""Import an extension in a child process: what a wrong wheel does to a process, it does to that one.

Importing needs no GPU, and reveals a wrong ABI, a missing library or symbol version, and a crash.
"""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from wheel_resolver.inside.wheel_inside import EXTENSION

#: Seconds; importing torch from a cold network disk took 40.
TIMEOUT_S = 180.0

# One line before the extension is touched and one after: a crash leaves the first. The current folder is not searched.
_PROGRAM = """
import importlib, importlib.util, json, sys
sys.path[:] = [place for place in sys.path if place]
name, file = sys.argv[1:]
try:
    import torch
except Exception as error:
    print(json.dumps({"stage": "torch", "error": "%s: %s" % (type(error).__name__, error)}), flush=True)
    sys.exit()
if not file and importlib.util.find_spec(name) is None:
    print(json.dumps({"stage": "absent", "error": name + " is not installed"}), flush=True)
    sys.exit()
print(json.dumps({"stage": "torch"}), flush=True)
try:
    if file:
        spec = importlib.util.spec_from_file_location(name, file)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    else:
        importlib.import_module(name)
except Exception as error:
    print(json.dumps({"stage": "extension", "error": "%s: %s" % (type(error).__name__, error)}), flush=True)
else:
    print(json.dumps({"stage": "loaded"}), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Loading:
    """``stage``: how far it came: ``start``, ``torch`` (torch is there), ``absent``, ``extension`` (tried), or
    ``loaded``; ``trouble``: what stopped it."""

    stage: str
    trouble: str | None

    @property
    def loaded(self) -> bool:
        """Whether the extension was imported."""
        return self.stage == "loaded" and self.trouble is None


def load_extension(python: str, file: Path | None = None, *, timeout_s: float = TIMEOUT_S) -> Loading:
    """Import flash-attn's extension beside torch, in a child process of this Python.

    Args:
        file: the extension; None for the one that is installed.
    """
    command = [python, "-c", _PROGRAM, EXTENSION, str(file or "")]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as late:
        out = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
        return Loading(_stage(out)[0], f"did not end within {timeout_s:.0f} s")
    except OSError as error:
        return Loading("start", f"{python} cannot be run: {error.strerror}")
    stage, error_text = _stage(done.stdout)
    if done.returncode < 0:
        return Loading("extension" if stage == "torch" else stage, f"crashed with {_signal(-done.returncode)}")
    if done.returncode or stage in {"start", "torch"}:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return Loading(
            stage, error_text or f"ended the process with status {done.returncode}: {last}"[:300].rstrip(": ")
        )
    return Loading(stage, error_text)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _stage(out: str) -> tuple[str, str | None]:
    """The last line that is ours: torch and extensions print what they like."""
    for line in reversed(out.splitlines()):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("stage"), str):
            return row["stage"], row.get("error")
    return "start", None
