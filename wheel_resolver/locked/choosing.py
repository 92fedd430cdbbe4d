"""Choose the wheel of one target: the best that fits all of its GPUs, has a digest, and is what its name says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from matrix import Arch, Cell, Project, Target
from matrix.errors import DataError
from wheel_resolver.core.build import Candidate
from wheel_resolver.core.facts import Facts, Inspection, Policy, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.resolve import Match, explain, resolve
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.core.wheel_checks import reuse_evidence
from wheel_resolver.inside.inspection import against_recipe
from wheel_resolver.lock import LockedWheel, RefusedWheel
from wheel_resolver.upstream.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Tools:
    """What locking may use.

    Attributes:
        catalogue: the wheels that are known.
        compute_sha256: how to get the digest of an unpinned wheel; None: not at all.
        say: talk.
        inspect: what is inside a wheel, None where its bytes are not at hand.
        known: what is known of the insides of wheels, by their sha256: a refusal is not forgotten.
    """

    catalogue: Callable[[], Catalogue]
    compute_sha256: Callable[[Wheel], str] | None
    say: Callable[[str], None]
    inspect: Callable[[Wheel], Inspection | None] = lambda _: None
    known: Mapping[str, Inspection] = field(default_factory=dict)


class Chooser:
    """Finds the wheel of one target, and remembers which ones were looked into and refused on the way."""

    def __init__(self, target: Target, cells: tuple[Cell, ...], project: Project, tools: Tools) -> None:
        self._target = target
        self._cells = cells
        self._tools = tools
        self._facts = Facts(project.compat, project.known_broken, tools.known)
        self._policy = _policy(target, project)
        self._refused: dict[str, RefusedWheel] = {}

    def keep(self, pin: LockedWheel) -> LockedWheel | None:
        """The pinned wheel, with what today's facts and its bytes say of it; None where they refuse it."""
        name = WheelName.parse(pin.name)
        if name is None:
            return None
        wheel = Wheel(name, pin.name, pin.url, pin.sha256, pin.size, pin.tag, pin.provider, pin.updated_at)
        return self._pin(wheel, pin.sha256, pin.digest)

    def choose(self) -> LockedWheel:
        """The best wheel that fits every GPU of the target, has a digest or can be given one, and is what it says."""
        index = WheelIndex(self._tools.catalogue().wheels, self._facts, self._policy)
        candidates = index.fitting(self._cells[0])
        for cell in self._cells[1:]:
            fitting = set(index.fitting(cell))
            candidates = [wheel for wheel in candidates if wheel in fitting]
        undigested = 0
        for wheel in candidates:
            sha256, digest = wheel.sha256, "published"
            if sha256 is None and self._tools.compute_sha256 is not None:
                self._say(f"{wheel.filename} has no published digest: fetching it to compute one")
                sha256, digest = self._tools.compute_sha256(wheel), "computed"
            if sha256 is None:
                undigested += 1
                self._say(f"{wheel.filename} has no published digest: passed over")
            elif (pinned := self._pin(wheel, sha256, digest)) is not None:
                return pinned
        raise DataError(self._why_none(index, undigested), remedy=_remedy(undigested))

    def _pin(self, wheel: Wheel, sha256: str, digest: str) -> LockedWheel | None:
        """The wheel as it is locked; None where a rule refuses it, or what is inside of it."""
        wheel = replace(wheel, sha256=sha256)
        seen = self._tools.inspect(wheel)
        if seen is not None:
            seen = replace(seen, refusal=against_recipe(seen, wheel, self._facts))
            self._facts = replace(self._facts, inspected={**self._facts.inspected, sha256: seen})
        index = WheelIndex([wheel], self._facts, self._policy)
        known = self._facts.inspected.get(sha256)
        if not all(index.fitting(cell) for cell in self._cells):
            if known is not None:
                self._refuse(wheel, sha256, index, known)
            return None
        return _locked(index.candidates[0], sha256, digest, known, self._facts)

    def _refuse(self, wheel: Wheel, sha256: str, index: WheelIndex, seen: Inspection) -> None:
        details = (rejection.detail for cell in self._cells for rejection in explain(cell, index))
        because = seen.refusal or next(details)
        self._refused[sha256] = RefusedWheel(wheel.filename, sha256, because)
        self._say(f"{wheel.filename} is refused: {because}")

    def refused(self, before: tuple[RefusedWheel, ...]) -> tuple[RefusedWheel, ...]:
        """What was refused now, and before; a wheel that was looked into again is said by its newest word."""
        every = {each.sha256: each for each in before if self._still_refused(each.sha256)} | self._refused
        return tuple(sorted(every.values(), key=lambda each: each.name))

    def _still_refused(self, sha256: str) -> bool:
        known = self._facts.inspected.get(sha256)
        return known is None or known.refusal is not None

    def reason(self, wheel: LockedWheel) -> str:
        """Why this wheel, and what that rests on."""
        target, cells = self._target, self._cells
        archs = ", ".join(map(str, archs_of(cells)))
        reason = (
            f"flash-attn {wheel.version} from {wheel.provider} fits Python {target.python}, torch {target.torch}, "
            f"CUDA {target.cuda}, ABI {cells[0].abi} and {archs}"
        )
        name = WheelName.parse(wheel.name)
        if name is None:
            return reason
        known = Wheel(name, wheel.name, wheel.url, wheel.sha256, None, wheel.tag, wheel.provider, None)
        build = WheelIndex([known], self._facts, self._policy).candidates[0].build
        if build.driver is not None:
            reason += f"; its compressed GPU code needs driver {build.driver} or newer"
        return reason + build.caveat + reuse_evidence(name.torch_minor, cells[0], self._facts)

    def _why_none(self, index: WheelIndex, undigested: int) -> str:
        name = self._target.name
        if undigested:
            return f"target {name}: each of the {undigested} wheels that fit lacks a published digest"
        if self._refused:
            said = "; ".join(f"{each.name}: {each.because}" for each in self._refused.values())
            return f"target {name}: each wheel that fits was looked into and refused: {said}"
        for cell in self._cells:
            resolution = resolve(cell, index)
            if not isinstance(resolution, Match):
                return f"target {name} asks for flash_attention_2: {resolution.reason}"
        return f"target {name} asks for flash_attention_2: no single wheel fits all of its GPUs"

    def _say(self, what: str) -> None:
        self._tools.say(f"{self._target.name}: {what}")


def _policy(target: Target, project: Project) -> Policy:
    wanted = () if target.flash_attn is None else (target.flash_attn,)
    return default_policy(project.compat, flash_attn=wanted, trust=project.matrix.trust, reuse=project.matrix.reuse)


def _remedy(passed_over: int) -> str:
    if passed_over:
        return "lock without --offline: the wheel is then fetched once, and its sha256 recorded as computed"
    return "change its python, torch or cuda (python -m wheel_resolver shows what has wheels), or its attention to sdpa"


def _locked(candidate: Candidate, sha256: str, digest: str, seen: Inspection | None, facts: Facts) -> LockedWheel:
    wheel, build = candidate.wheel, candidate.build
    code = build.code or facts.compat.flash_attn.code_in(wheel.name.flash_attn)
    if code is None:
        raise DataError(
            f"{wheel.filename}: compat.yaml does not know which GPUs flash-attn {wheel.name.version} has code for",
            remedy="add the version to compat.yaml: flash_attn.sass, or look into the wheel: lock --inspect",
        )
    return LockedWheel(
        name=wheel.filename,
        url=wheel.url,
        sha256=sha256,
        size=wheel.size,
        version=wheel.name.version,
        tag=wheel.tag,
        provider=wheel.provider,
        updated_at=wheel.updated_at,
        sass=code.sass,
        evidence=str(build.evidence),
        digest=digest,
        driver=build.driver,
        inspection=seen,
    )


def archs_of(cells: tuple[Cell, ...]) -> tuple[Arch, ...]:
    """The architectures of a target's GPUs, the oldest first."""
    return tuple(sorted(cell.arch for cell in cells if cell.arch is not None))
