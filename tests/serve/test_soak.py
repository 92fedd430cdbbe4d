"""A short `make soak`, and what its comparison finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from soak import Usage, compare
from soak_asks import KINDS


def test_a_minute_of_load(pytestconfig, tiny):
    program = pytestconfig.rootpath / "tests/serve/soak.py"
    done = subprocess.run(
        [sys.executable, str(program), "--seconds", "60", "--clients", "64", "--model-dir", str(tiny)],
        capture_output=True, text=True, env=os.environ, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["problems"] == []
    assert done.returncode == 0, done.stderr
    assert set(report["answers"]) == {kind.name for kind in KINDS}
    assert report["answers"]["clone"]["200"]
    for name in ("left while waiting", "left while heard", "speech left", "events left"):
        assert report["answers"][name]["left"]
    for name in ("speech", "speech, events", "speech, passing voice", "voice deleted", "voices"):
        assert report["answers"][name]["200"]
    assert report["answers"]["voice made"]["201"]


def test_what_grew_is_named():
    before = Usage(600, 12, 14, 3)
    assert compare(before, Usage(640, 13, 15, 4), 600) == []
    assert compare(before, Usage(700, 12, 14, 3), 600) == ["memory grew from 600 to 700 MiB"]
    assert compare(before, Usage(700, 12, 14, 3), 690) == []
    assert compare(before, Usage(600, 20, 30, 40), 600) == [
        "threads grew from 12 to 20",
        "descriptors grew from 14 to 30",
        "tasks grew from 3 to 40",
    ]
