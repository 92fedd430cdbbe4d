"""The rules' version moves with the rules: every wheel of the snapshot is judged for a broad set of cells.

``rules_version.json`` holds the version, a hash of the facts and a hash of the verdicts. Other verdicts from the same
facts are other rules: then RULES_VERSION has to move, or locks that the old rules decided pass for fresh. Where the
facts moved, nobody can tell from the hash whether the rules moved, too. UPDATE_GOLDENS=1 rewrites the file, but not
where the version has to move first.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from packaging.version import Version

from matrix import Cell, Driver, Project, load_project
from wheel_resolver.core.cell_rules import judge_cell
from wheel_resolver.core.facts import Facts, Policy, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.resolve import sdpa_backend
from wheel_resolver.core.version import RULES_VERSION
from wheel_resolver.core.wheel_rules import WHEEL_RULES
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.catalogue import build_catalogue

GOLDEN = Path(__file__).with_name("rules_version.json")

UNCHANGED = None
BUMP = "the rules answer otherwise on the same facts: bump RULES_VERSION (wheel_resolver/core/version.py), then "
REWRITE = "UPDATE_GOLDENS=1 rewrites rules_version.json"
MOVED = "the facts or RULES_VERSION moved: look at what answers otherwise; " + REWRITE


def facts_hash(project: Project) -> str:
    """What is true, and which wheels there are."""
    known = [asdict(fact) for fact in project.known_broken]
    text = json.dumps([project.compat.data, known], sort_keys=True, default=str)
    return hashlib.sha256(text.encode() + snapshot.SHIPPED.read_bytes()).hexdigest()


def cells(project: Project) -> Iterator[Cell]:
    """Every build of torch with every Python, and a pre-release of each minor, on one GPU of each architecture."""
    compat = project.compat
    gpus = {arch: name for name, arch in reversed(compat.gpus.items())}
    for facts in compat.torch.values():
        for torch, cuda, platform in itertools.product(
            (*facts.patches, Version(f"{facts.minor}.0a0")), facts.cuda, compat.platforms
        ):
            abi = compat.abi(facts.patches[-1], cuda, platform)
            for python, (arch, name) in itertools.product(facts.python, gpus.items()):
                yield Cell(python, torch, cuda, abi, arch, name, platform)


def policies(project: Project) -> tuple[Policy, ...]:
    usual = default_policy(project.compat)
    old = replace(usual, driver=Driver(535, 247, 1), glibc=Version("2.31"))
    return usual, old, replace(usual, driver=Driver(580, 65, 6), reuse=True, installed=True)


def verdicts_hash(project: Project) -> str:
    """By policy and cell: the rule that refuses the cell, the wheels that each rule refuses, and the best."""
    releases = snapshot.read().releases
    repository = project.compat.flash_attn.repository
    shipped = build_catalogue(
        releases, repository=repository, origin="https://github.com", source="snapshot", as_of="", stale=False
    )
    facts = Facts(project.compat, project.known_broken)
    every = list(cells(project))
    digest = hashlib.sha256()
    for policy in policies(project):
        index = WheelIndex(shipped.wheels, facts, policy)
        digest.update("\n".join(wheel.filename for wheel in index.wheels).encode())
        refused: dict[tuple[int, ...], bytes] = {}
        for cell in every:
            broken = judge_cell(cell, facts, policy)
            masks = index.verdicts(cell).refused
            if masks not in refused:
                by_rule = sorted(
                    (rule.name, f"{mask:x}") for rule, mask in zip(WHEEL_RULES, masks, strict=True) if mask
                )
                refused[masks] = hashlib.sha256(repr(by_rule).encode()).digest()
            best = index.best(cell)
            words = (cell.python, cell.torch, cell.cuda, cell.abi, cell.arch, cell.gpu, cell.platform)
            words += (broken and broken[0].name, best and best.filename)
            digest.update("|".join(map(str, words)).encode() + refused[masks])
    digest.update(repr([sdpa_backend(arch, dtype) for arch in sorted(set(project.compat.gpus.values()))
                        for dtype in (None, "float16", "bfloat16", "float32")]).encode())  # fmt: skip
    return digest.hexdigest()


def trouble(before: dict[str, object], now: dict[str, object]) -> str | None:
    """What has to be done about two states of the golden file; None where they are equal."""
    if before == now:
        return UNCHANGED
    if all(before[key] == now[key] for key in ("facts", "rules_version")):
        return BUMP + REWRITE
    return MOVED


def test_rules_that_answer_otherwise_have_another_version() -> None:
    project = load_project()
    now: dict[str, object] = {
        "rules_version": RULES_VERSION,
        "facts": facts_hash(project),
        "verdicts": verdicts_hash(project),
    }
    before = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {"facts": "", "rules_version": 0}
    said = trouble(before, now)
    if os.environ.get("UPDATE_GOLDENS") and said == MOVED:
        GOLDEN.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
        said = UNCHANGED
    assert said is UNCHANGED, said


def test_what_is_asked_for_when_something_moved() -> None:
    before: dict[str, object] = {"rules_version": 2, "facts": "a", "verdicts": "b"}
    assert trouble(before, dict(before)) is UNCHANGED
    assert trouble(before, {**before, "verdicts": "c"}) == BUMP + REWRITE
    assert trouble(before, {**before, "verdicts": "c", "rules_version": 3}) == MOVED
    assert trouble(before, {**before, "facts": "c"}) == MOVED
    assert trouble(before, {**before, "rules_version": 3}) == MOVED
