"""A short `make soak`, a short `make soak VERIFY=1`, and what their comparisons find."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import httpx
from soak import Report, Usage, compare
from soak_asks import KINDS
from soak_seeded import KEYS, SEEDED, digest
from soak_verified import VerifiedSoak


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


def test_seeded_answers_under_load_are_those_made_alone(pytestconfig, tiny):
    program = pytestconfig.rootpath / "tests/serve/soak.py"
    done = subprocess.run(
        [sys.executable, str(program), "--verify", "--seconds", "20", "--clients", "8", "--model-dir", str(tiny)],
        capture_output=True, text=True, env=os.environ, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["problems"] == []
    assert done.returncode == 0, done.stderr
    assert report["seeded_kinds"] == 52
    assert report["compared"] >= 10


def test_one_other_bit_under_load_is_a_problem():
    one = SEEDED[0]
    head = {"Content-Type": "audio/pcm", "X-Request-ID": "ab"}
    right, wrong = (httpx.Response(200, headers=head, content=bytes(1999) + last) for last in (b"\0", b"\1"))
    soak = VerifiedSoak(httpx.AsyncClient(), None, Report(1, 1))
    soak._alone = {one.kind.name: digest(right)}
    soak._check(one.kind, right, "ab")
    assert (soak.report.problems, soak.compared) == ([], Counter({one.kind.name: 1}))
    soak._check(one.kind, wrong, "ab")
    assert soak.report.problems == [f"{one.kind.name}: under load not what it is alone (ab)"]
    assert soak._key(replace(one.ask, key=KEYS[1]), "ab") == {"Authorization": f"Bearer {KEYS[1]}"}


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
