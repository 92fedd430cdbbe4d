"""The weekly workflow: its own shell steps, in a scratch repository, with a ``gh`` that only writes down its calls."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from matrix import load_project
from tests.field import community
from tests.resolver_http.upstream_facts import serve_torch, torch_names
from wheel_resolver import lock

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "watch.yml").read_text("utf-8"))
STEPS = WORKFLOW["jobs"]["watch"]["steps"]
LOCKED = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
BETTER = LOCKED.replace("2.8.3", "2.8.3.post2")
TITLE = "Upstream moved: better"
VALUES = {"${{ github.token }}": "a-secret-token", "${{ github.ref_name }}": "main"}
GH = """#!/bin/sh
echo "$@" >> "$GH_CALLS"
case "$1 $2" in "pr list") echo "$GH_OPEN" ;; esac
"""

Rows = list[dict[str, Any]]


class Runner:
    """A checkout, its remote, and what a runner gives to a step."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.remote, self.calls = folder / "tree", folder / "remote.git", folder / "calls"
        self.env = os.environ | {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "GH_CALLS": str(self.calls),
            "GH_OPEN": "",
            "GITHUB_OUTPUT": str(folder / "output"),
            "WHEELWRIGHT_CACHE": str(folder / "cache"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        for name in ("wheel_resolver", "matrix", "images", "dockerfiles", "serve"):
            shutil.copytree(ROOT / name, self.tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", ".gitignore"):
            shutil.copy(ROOT / name, self.tree / name)
        self.program(self.tree / ".venv" / "bin" / "python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        self.program(folder / "bin" / "gh", GH)
        (folder / "output").touch()
        self.calls.touch()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("add", "--all")
        self.git("-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "--message", "first")
        self.git("init", "--quiet", "--bare", str(self.remote))
        self.git("remote", "add", "origin", str(self.remote))

    def program(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.tree, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self) -> int:
        """Run the steps as a runner does (``bash -e``), but for ``make venv``; the status of the first that fails."""
        for step in STEPS:
            if "run" not in step or step["run"] == "make venv":
                continue
            told = Path(self.env["GITHUB_OUTPUT"]).read_text().split()
            if "if" in step:
                conditions = {
                    "steps.watch.outputs.finding == '1'": "finding=1" in told,
                    "steps.facts.outputs.moved == '1'": "moved=1" in told,
                    "steps.others.outputs.moved == '1'": "moved=1" in told,
                }
                if not any(conditions[each] for each in step["if"].split(" || ")):
                    continue
            env = self.env | {name: VALUES.get(value, value) for name, value in step.get("env", {}).items()}
            done = subprocess.run(
                ["bash", "-e", "-c", step["run"]], cwd=self.tree, env=env, capture_output=True, text=True, check=False
            )
            assert "a-secret-token" not in done.stdout + done.stderr
            if done.returncode:
                return done.returncode
        return 0

    def asked(self) -> list[str]:
        return self.calls.read_text().splitlines()

    def pushed(self) -> list[str]:
        """The files that the pushed commit changes."""
        self.git("fetch", "--quiet", "origin", "upstream-watch")
        return self.git("diff", "--name-only", "main", "FETCH_HEAD").split()


@pytest.fixture
def runner(upstream: Any, tmp_path: Path) -> Runner:
    """Its index of torch has what compat.yaml knows."""
    made = Runner(tmp_path)
    made.env["WHEELWRIGHT_PYTORCH_WHEELS"] = f"{upstream.url}/whl"
    serve_torch(upstream, torch_names(load_project().compat))
    return made


def listing(known: Rows, change: Callable[[Rows], None]) -> Rows:
    rows = deepcopy(known)
    change(rows)
    return rows


def better(rows: Rows) -> None:
    new = {"name": BETTER, "state": "uploaded", "size": 9, "digest": "sha256:" + "c" * 64, "updated_at": None}
    rows.insert(0, {"tag_name": "v2.8.3.post2", "assets": [new]})


def test_a_finding_becomes_a_pull_request(runner: Runner, upstream: Any, known: Rows) -> None:
    upstream.releases(1, listing(known, better))
    assert runner.run() == 0
    assert runner.asked() == [
        "auth setup-git",
        "pr list --head upstream-watch --state open --json number --jq .[0].number // empty",
        f"pr create --base main --head upstream-watch --title {TITLE} --body-file .build/watch.md",
    ]
    body = (runner.tree / ".build" / "watch.md").read_text()
    assert f"\n    ! better: a better wheel for a10g: {BETTER} (flash-attn 2.8.3.post2 instead of 2.8.3)\n" in body
    changed = [name for name in runner.pushed() if not name.startswith("dockerfiles/")]
    assert changed == ["matrix/lock.yaml", "wheel_resolver/upstream/snapshot.json"]
    wheel = lock.read(runner.tree / "matrix" / "lock.yaml").targets["h100"].wheel
    assert wheel is not None
    assert wheel.name == BETTER
    assert "a-secret-token" not in runner.git("log", "--patch", "main..FETCH_HEAD")


def test_what_it_proposes_makes_the_next_run_silent(runner: Runner, upstream: Any, known: Rows) -> None:
    upstream.releases(1, listing(known, better))
    assert runner.run() == 0
    asked = runner.asked()
    Path(runner.env["GITHUB_OUTPUT"]).write_text("")
    assert runner.run() == 0
    assert runner.asked() == asked
    for check in (["images", "render", "--check"], ["wheel_resolver", "lock", "--check"]):
        done = subprocess.run([".venv/bin/python", "-m", *check], cwd=runner.tree, env=runner.env, check=False)
        assert done.returncode == 0, check


def test_an_open_pull_request_is_renewed(runner: Runner, upstream: Any, known: Rows) -> None:
    upstream.releases(1, listing(known, better))
    runner.env["GH_OPEN"] = "7"
    runner.git("push", "--quiet", "origin", "HEAD:refs/heads/upstream-watch")  # last week's
    assert runner.run() == 0
    assert runner.asked()[-1] == f"pr edit 7 --title {TITLE} --body-file .build/watch.md"


@pytest.mark.parametrize(
    ("tag", "words"),
    [("v0", f"! conflict: {LOCKED} has 2 digests"), (None, f"! digest: the digest of {LOCKED} changed")],
)
def test_another_digest_is_told_and_nothing_is_taken_over(
    runner: Runner, upstream: Any, known: Rows, tag: str | None, words: str
) -> None:
    def change(rows: Rows) -> None:
        better(rows)
        locked = next(each for row in rows for each in row["assets"] if each["name"] == LOCKED)
        other = {**locked, "digest": "sha256:" + "d" * 64}
        if tag is None:
            locked.update(other)
        else:
            rows.append({"tag_name": tag, "assets": [other]})

    upstream.releases(1, listing(known, change))
    assert runner.run() == 0
    kinds = "better, conflict" if tag else "better, digest"
    assert f"pr create --base main --head upstream-watch --title Upstream moved: {kinds} " in runner.asked()[-1]
    assert runner.pushed() == []
    assert words in (runner.tree / ".build" / "watch.md").read_text()


def test_a_release_of_torch_becomes_a_pull_request_with_its_facts_and_fresh_locks(
    runner: Runner, upstream: Any, known: Rows
) -> None:
    upstream.releases(1, known)
    wheel = "torch-2.15.1+cu132-cp312-cp312-manylinux_2_28_x86_64.whl"
    serve_torch(upstream, [*torch_names(load_project().compat), wheel])
    assert runner.run() == 0
    assert "--title Upstream moved: facts " in runner.asked()[-1]
    assert {"matrix/compat.yaml", "matrix/lock.yaml"} <= set(runner.pushed())
    assert "2.15.1" in runner.git("show", "FETCH_HEAD:matrix/compat.yaml")
    assert "by hand: torch 2.15" in (runner.tree / ".build" / "watch.md").read_text()
    for check in (["images", "render", "--check"], ["wheel_resolver", "lock", "--check"], ["matrix", "check"]):
        done = subprocess.run([".venv/bin/python", "-m", *check], cwd=runner.tree, env=runner.env, check=False)
        assert done.returncode == 0, check


def test_where_nothing_moved_nothing_is_asked_of_gh(runner: Runner, upstream: Any, known: Rows) -> None:
    upstream.releases(1, known)
    assert runner.run() == 0
    assert runner.asked() == []


def test_what_another_provider_lists_becomes_a_pull_request_once(runner: Runner, upstream: Any, known: Rows) -> None:
    upstream.releases(1, known)
    path = f"/repos/{community.REPOSITORY}/releases?per_page=100"
    upstream.pages[path] = (200, {}, json.dumps(community.releases()).encode())
    assert runner.run() == 0
    assert "--title Upstream moved: wheels of another provider " in runner.asked()[-1]
    shipped = f"wheel_resolver/upstream/providers/{community.REPOSITORY}.json"
    assert runner.pushed() == [shipped]
    assert f"{shipped}: written: " in (runner.tree / ".build" / "watch.md").read_text()
    asked = runner.asked()
    Path(runner.env["GITHUB_OUTPUT"]).write_text("")
    assert runner.run() == 0
    assert runner.asked() == asked


def test_an_upstream_that_fails_fails_the_run(runner: Runner, upstream: Any) -> None:
    upstream.releases(1, {}, status=500)
    assert runner.run() == 1
    assert runner.asked() == []


def test_it_runs_weekly_with_no_more_rights_than_it_needs() -> None:
    """PyYAML reads the key ``on`` as True."""
    assert WORKFLOW[True]["schedule"] == [{"cron": "23 5 * * 1"}]
    assert WORKFLOW["permissions"] == {}
    assert WORKFLOW["jobs"]["watch"]["permissions"] == {"contents": "write", "pull-requests": "write"}
    others = yaml.safe_load((ROOT / ".github" / "workflows" / "images.yml").read_text("utf-8"))
    assert [step for step in STEPS if "uses" in step] == others["jobs"]["test"]["steps"][:1]
