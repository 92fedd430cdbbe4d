"""A rule is one row and one function: nothing else of the resolver has to be touched for a new one.

A child process adds a made-up rule to ``WHEEL_RULES`` before anything else is imported, as an edit of that tuple would,
and asks the real command line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from matrix import DATA_DIR

RULE = """
import sys
from wheel_resolver.core import wheel_rules
from wheel_resolver.core.wheel_rules import Example, WheelRule

def even_patch(candidate, cell, facts, policy):
    patch = candidate.wheel.name.flash_attn.micro
    return f"patch {patch} is odd" if patch % 2 else None

wheel_rules.WHEEL_RULES += (
    WheelRule(
        "even_patch",
        "somebody made it up",
        "nobody",
        Example("flash_attn-2.8.2+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"),
        Example("flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"),
        of_cell=lambda cell: None,
        of_wheel=lambda candidate: candidate.wheel.name.version,
        check=even_patch,
        about=wheel_rules.About.PROPERTY,
        ease=EASE,
        short="its patch is odd",
        missing=lambda cell, policy: "with an even patch",
    ),
)
"""
#: The same row for wheels of one Python: it refuses all of them.
ON_PYTHON = RULE.replace(
    "candidate.wheel.name.flash_attn.micro", "3 if candidate.wheel.name.python == 'cp313' else 0"
).replace(
    "of_wheel=lambda candidate: candidate.wheel.name.version", "of_wheel=lambda candidate: candidate.wheel.name.python"
)
ASK = """
from matrix.cli import run
from wheel_resolver import cli
sys.exit(run(lambda: cli.main(sys.argv[1:])))
"""
CELL = "--torch 2.9 --python 3.12 --cuda 12.8 --gpu A10G"


def ask(question: str, tmp_path: Path, rule: str = RULE, ease: int = 3) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", rule.replace("EASE", str(ease)) + ASK, *question.split(), "--offline"],
        cwd=DATA_DIR.parent,
        env={"PATH": "/usr/bin:/bin", "WHEELWRIGHT_CACHE": str(tmp_path), "COLUMNS": "120", "PYTHONPATH": "."},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask_json(question: str, tmp_path: Path, **how: Any) -> dict[str, Any]:
    (resolution,) = json.loads(ask(f"{question} --json", tmp_path, **how))["resolutions"]
    return dict(resolution)


def test_the_index_refuses_by_it_and_counts_what_it_refuses_first(tmp_path: Path) -> None:
    fits = ask_json("--torch 2.7 --python 3.12 --cuda 12.8 --gpu A10G", tmp_path)
    assert fits["wheel"]["version"] == "2.8.2"  # not 2.8.3 nor 2.8.3.post1
    assert fits["rejected"]["even_patch"] > 0
    without = ask_json("--torch 2.7 --python 3.12 --cuda 12.8 --gpu A10G", tmp_path, rule="import sys\n")
    assert without["wheel"]["version"] == "2.8.3.post1"
    assert "even_patch" not in without["rejected"]


def test_where_it_alone_refuses_the_answer_says_so(tmp_path: Path) -> None:
    none = ask_json(CELL, tmp_path)
    assert (none["attention"], none["wheel"]) == ("sdpa", None)
    assert none["reason"].endswith("the nearest is refused, patch 3 is odd")
    assert none["rejected"]["even_patch"] == 2
    assert none["nearest"][0] == {
        "wheel": "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl",
        "rule": "even_patch",
        "detail": "patch 3 is odd",
    }
    assert none["alternatives"][0]["change"] == {"torch": "2.7.1"}


def test_where_it_refuses_every_wheel_its_own_words_say_what_is_missing(tmp_path: Path) -> None:
    none = ask_json(f"{CELL} --flash-attn 2.8.3", tmp_path)
    assert none["reason"].startswith("no flash-attn wheel of version ==2.8.3 exists with an even patch")


@pytest.mark.parametrize(("ease", "first"), [(0, "even_patch"), (9, "python")])
def test_its_ease_places_it_among_the_nearest_misses(ease: int, first: str, tmp_path: Path) -> None:
    """Wheels for this Python are refused by it alone, those for other Pythons by that rule alone."""
    found = ask_json("--torch 2.8 --python 3.13 --cuda 12.8 --gpu A10G", tmp_path, rule=ON_PYTHON, ease=ease)
    assert found["nearest"][0]["rule"] == first


def test_the_table_has_its_words(tmp_path: Path) -> None:
    table = ask("--torch 2.9 --python 3.12 --cuda 12.6,12.8,13.0 --gpu A10G", tmp_path)
    row = next(line for line in table.splitlines() if "its patch is odd" in line)
    assert "sdpa (flash)" in row
    assert "patch 3 is odd" in table.partition("For example")[2]


def test_the_trace_names_every_wheel_that_it_refuses(tmp_path: Path) -> None:
    text = ask(f"{CELL} --explain", tmp_path)
    assert "  even_patch refuses 2:" in text
    assert "2.8.1+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl: patch 1 is odd" in text
    trace = ask_json(f"{CELL} --explain", tmp_path)["trace"]
    assert sum(miss["rule"] == "even_patch" for miss in trace) == 2


def test_coverage_knows_it(tmp_path: Path) -> None:
    assert ask("coverage", tmp_path) != ask("coverage", tmp_path, rule="import sys\n")


def test_its_row_is_judged_and_named_like_any_other(tmp_path: Path) -> None:
    """Its examples can be judged from the row alone, and it is one of the names for documentation and tests."""
    check = """
from wheel_resolver.core.resolve import RULE_NAMES
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.build import judged
from wheel_resolver.core.facts import Facts, default_policy
from wheel_resolver.core.wheel import Wheel
from matrix import load_project
project = load_project()
facts, rule = Facts(project.compat), wheel_rules.WHEEL_RULES[-1]
def verdict(example):
    name = WheelName.parse(example.wheel)
    wheel = Wheel(name, example.wheel, "", None, None, "v0", "Dao-AILab/flash-attention", None)
    return rule.check(judged(wheel, facts), None, facts, default_policy(project.compat))
assert rule.name == "even_patch" and rule.name in RULE_NAMES
assert verdict(rule.accepts) is None and verdict(rule.refuses) == "patch 3 is odd"
"""
    ask(CELL, tmp_path, rule=RULE + check)


def test_a_rule_on_what_a_wheel_is_gives_the_reason_for_a_wheel_built_for_just_this_cell(tmp_path: Path) -> None:
    """As with a driver or a glibc: wheels for another Python are no nearer than the one that is for this cell."""
    found = ask_json("--torch 2.8 --python 3.13 --cuda 12.8 --gpu A10G", tmp_path, rule=ON_PYTHON, ease=8)
    assert "patch 3 is odd" in found["reason"]
