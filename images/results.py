"""What became of each target, built and proven: as a table for people, as JSON, as an exit status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from images.budget import Weight
from images.table import Column, print_table
from matrix.cli import say, tell_json
from matrix.errors import ExitCode


@dataclass(frozen=True, slots=True)
class Built:
    """What became of one target.

    Attributes:
        status: ``built``, ``failed`` or ``unavailable``.
        tag: the one to run, with registry and repository.
        image: the engine's id.
        weight: what it costs; over: what of that exceeds the target's budget.
        seconds: of the build.
        detail: why not, or how.
        log: the file with all that bake said.
        archive: the image as a file, where one was asked for.
        replaced: the id of an image that had the tag and that this checkout did not build.
        notes: what else to know of it.
    """

    target: str
    status: str
    tag: str
    detail: str
    image: str | None = None
    weight: Weight | None = None
    over: tuple[str, ...] = ()
    seconds: float = 0.0
    log: str | None = None
    archive: str | None = None
    replaced: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


@dataclass(slots=True)
class Proof:
    """What the smoke test of one target found.

    Attributes:
        verdict: ``passed``, ``passed, unproven on GPU`` or ``failed``.
        attention: what the service ran, and because.
        log: the file with all that its containers said.
    """

    target: str
    tag: str
    log: str
    checks: list[Check] = field(default_factory=list)
    attention: str | None = None
    because: str | None = None
    audio: bytes | None = None
    verdict: str = "failed"

    def check(self, name: str, ok: bool, detail: object = "") -> None:
        """Note one check."""
        self.checks.append(Check(name, ok, str(detail)))
        say(f"{self.target} | {'ok  ' if ok else 'FAIL'} {name}{f': {detail}' if detail != '' else ''}")

    @property
    def failures(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if not check.ok]


def report(built: Sequence[Built], proofs: Sequence[Proof], *, smoked: bool, as_json: bool) -> int:
    """Print what became of the targets.

    Args:
        built: one a target, in order.
        proofs: of those that were built, when ``smoked``.
        smoked: whether proofs were asked for: then what is not proven is a failure.
        as_json: print JSON in place of the table.

    Returns:
        The exit status.
    """
    by_target = {proof.target: proof for proof in proofs}
    rows = [(item, by_target.get(item.target)) for item in built]
    if as_json:
        tell_json({"schema": 1, "targets": [as_row(*row) for row in rows]})
    else:
        print_table(_COLUMNS, rows)
    faults = {item.target: _faults(item, proof, smoked=smoked) for item, proof in rows}
    bad = {target: found for target, found in faults.items() if found}
    for target, found in bad.items():
        for fault in found:
            say(f"{target}: {fault}")
    if len(rows) > 1:
        say(f"{len(rows) - len(bad)} of {len(rows)} targets are good" + (f"; not {', '.join(bad)}" if bad else ""))
    return ExitCode.OK if rows and not bad else ExitCode.NEGATIVE


def _faults(built: Built, proof: Proof | None, *, smoked: bool) -> list[str]:
    """Why a target is not good: the failing step or checks, and where all of it was written; empty when it is good."""
    if built.status != "built":
        return [f"{built.status}: {built.detail}", *([f"log: {built.log}"] if built.log else [])]
    faults = [f"over budget: {fault}" for fault in built.over]
    if proof is not None and proof.failures:
        failed = [f"{check.name}: {check.detail}" if check.detail else check.name for check in proof.failures]
        faults += [*(f"failed: {text}" for text in failed), f"log: {proof.log}"]
    elif proof is None and smoked:
        faults.append("was not smoke-tested")
    return faults


def as_row(built: Built, proof: Proof | None) -> dict[str, Any]:
    """One target's result, for JSON."""
    proven = None
    if proof is not None:
        proven = {key: value for key, value in asdict(proof).items() if key not in ("audio", "target", "tag")}
    return asdict(built) | {"smoke": proven}


def _why(row: tuple[Built, Proof | None]) -> str:
    built, proof = row
    if built.over:
        return f"over budget: {'; '.join(built.over)}"
    if proof is None:
        return built.detail
    if proof.failures:
        first = proof.failures[0]
        return f"{first.name}: {first.detail}" if first.detail else first.name
    return proof.because or ""


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:,.0f}" if size >= 10**7 else f"{size / 1e6:.1f}"


def _unproven(built: Built) -> str:
    return "built, not smoked" if built.status == "built" else built.status


_COLUMNS = (
    Column("target", lambda row: row[0].target),
    Column("tag", lambda row: row[0].tag),
    Column("attention", lambda row: (row[1] and row[1].attention) or "-"),
    Column("packed MB", lambda row: _megabytes(row[0].weight and row[0].weight.packed)),
    Column("disk MB", lambda row: _megabytes(row[0].weight and row[0].weight.unpacked)),
    Column("extra MB", lambda row: _megabytes(row[0].weight and row[0].weight.extra)),
    Column("build s", lambda row: f"{row[0].seconds:.1f}" if row[0].seconds else "-"),
    Column("smoke", lambda row: row[1].verdict if row[1] else _unproven(row[0])),
    Column("why", _why),
)
