"""A workspace of a test, and its command lines as a user would call them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "wheelwright-test"
# Whoever runs the tests may ignore signals (nohup, `&` of a script), and what they start would, too.
AS_USUAL = ["env", "--default-signal=INT,TERM,HUP"]


@dataclass(frozen=True)
class Answer:
    """What a command line did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Space:
    """A workspace and its command lines."""

    root: Path

    def images(self, *arguments: str, **environment: str) -> Answer:
        verb, *rest = arguments
        return self.python("images", verb, "--root", str(self.root), *rest, **environment)

    def lock(self) -> None:
        """Decide again after a change of the matrix, as a user does: what was decided from another one is refused."""
        answer = self.python("wheel_resolver", "lock", "--offline", "--root", str(self.root))
        assert answer.status == 0, answer.err

    def python(self, module: str, *arguments: str, **environment: str) -> Answer:
        env = os.environ | {"REGISTRY": REPOSITORY, "SOURCE_DATE_EPOCH": "1790000000"} | environment
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        print(done.stderr[-6000:])
        return Answer(done.returncode, done.stdout, done.stderr)
