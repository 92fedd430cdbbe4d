"""Judge what is inside a wheel: what contradicts its name, and which cells it serves by the resolver's rules. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from packaging.tags import Tag, parse_tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from matrix import Abi, Cell, CodeFor, Cuda, Project
from matrix.errors import DataError
from matrix.expand import expand
from matrix.shown import some
from wheel_resolver.core.cell_rules import judge_cell
from wheel_resolver.core.facts import Facts, Policy, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.resolve import explain
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.inside.wheel_inside import EXTENSION, Inside

#: As many as a file name can say at most, and then some.
_MAX_TAGS = 100
_MAX_TAG = 255


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Something that the name says and the file does not bear out."""

    what: str
    name_says: str
    file_says: str

    def __str__(self) -> str:
        return f"{self.what}: the name says {self.name_says}, the file {self.file_says}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The rule that refuses the wheel for a cell, and why; ``inside`` where the file, not the name, decides it."""

    rule: str
    detail: str
    inside: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """What a wheel serves: for each target None or the refusal, and the cells of the matrix."""

    targets: dict[str, Refusal | None]
    cells: tuple[Cell, ...]
    of: int


def parse_name(filename: str) -> tuple[str, Version, frozenset[Tag]]:
    """What any wheel's file name says: project, version, tags.

    Raises:
        DataError: it is no wheel's name.
    """
    try:
        name, version, _, tags = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise DataError(
            f"{filename!r} is not the name of a wheel: {error}",
            remedy="give the file back the name that it has upstream (with + for %2B)",
        ) from None
    return name, version, tags


def contradictions(inside: Inside) -> tuple[Contradiction, ...]:
    """All that the file name says and the file does not bear out.

    Raises:
        DataError: the file's name is no wheel's.
    """
    _, _, tags = parse_name(inside.path.name)
    name = WheelName.parse(inside.path.name)
    found = [*_of_metadata(inside), *_of_extensions(inside, tags)]
    return tuple(found if name is None else [*found, *_of_flash_attn(inside, name)])


def _of_metadata(inside: Inside) -> Iterator[Contradiction]:
    project, version, tags = parse_name(inside.path.name)
    found = inside.metadata
    if canonicalize_name(found.name) != project:
        yield Contradiction("project", project, found.name)
    if not _same_version(version, found.version):
        yield Contradiction("version", str(version), found.version)
    held = {tag for text in found.tags[:_MAX_TAGS] for tag in _tags(text)}
    if held != tags or len(found.tags) > _MAX_TAGS:
        yield Contradiction("tags", _tag_text(tags), some(found.tags))


def _of_extensions(inside: Inside, tags: frozenset[Tag]) -> Iterator[Contradiction]:
    machines = {machine for tag in tags for machine in ("x86_64", "aarch64") if tag.platform.endswith(machine)}
    for each in inside.extensions:
        if machines and each.machine not in machines:
            yield Contradiction("machine", " or ".join(sorted(machines)), f"{each.machine} ({each.member})")
        if each.python is not None and each.python not in {tag.abi for tag in tags}:
            yield Contradiction("python", _tag_text(tags), f"{each.python} ({each.member})")


def _of_flash_attn(inside: Inside, name: WheelName) -> Iterator[Contradiction]:
    if not any(each.member.split("/")[-1].startswith(f"{EXTENSION}.") for each in inside.extensions):
        yield Contradiction("extension", "a compiled flash-attn", f"holds no {EXTENSION}.*.so")
    if inside.cuda and inside.cuda != (name.cuda_major,):
        yield Contradiction("cuda", f"cu{name.cuda}", f"links libcudart.so.{', .'.join(map(str, inside.cuda))}")
    if name.abi is not None and inside.abi and inside.abi != (name.abi,):
        yield Contradiction("abi", f"cxx11abi{name.abi}", f"calls torch with {' and '.join(inside.abi)}")


def _same_version(named: Version, text: str) -> bool:
    """Whether they agree; official wheels say ``2.8.3+cu12...`` in the name and ``2.8.3`` inside."""
    try:
        found = Version(text)
    except ValueError:  # none, or one whose number has more digits than Python reads
        return False
    return found == named if found.local else found.public == named.public


def _tags(text: str) -> frozenset[Tag]:
    if len(text) > _MAX_TAG:  # each of its parts may list alternatives, and all combinations are made
        return frozenset()
    try:
        return parse_tag(text)
    except ValueError:
        return frozenset()


def _tag_text(tags: Iterable[Tag]) -> str:
    return ", ".join(sorted(map(str, tags)))


def as_wheel(inside: Inside, provider: str) -> Wheel | None:
    """The file as the rules know wheels, taken for one of ``provider``; None when its name is not flash-attn's."""
    name = WheelName.parse(inside.path.name)
    if name is None:
        return None
    return Wheel(name, inside.path.name, "", inside.sha256, inside.size, "", provider, None)


def served(inside: Inside, project: Project) -> Served | None:
    """The targets and cells that the wheel serves; None when its name does not say what it was built for."""
    wheel = as_wheel(inside, project.compat.flash_attn.repository)
    if wheel is None:
        return None
    facts = Facts(project.compat, project.known_broken)
    targets = {}
    for target in project.matrix.targets.values():
        wanted = () if target.flash_attn is None else (target.flash_attn,)
        index = WheelIndex([wheel], facts, default_policy(project.compat, flash_attn=wanted))
        refusals = (refusal(inside, cell, index) for cell in target.cells(project.compat))
        targets[target.name] = next((each for each in refusals if each is not None), None)
    index = WheelIndex([wheel], facts, default_policy(project.compat))
    cells = expand(project.matrix.axes, project.compat, project.matrix.exclude).cells
    return Served(targets, tuple(cell for cell in cells if refusal(inside, cell, index) is None), len(cells))


def refusal(inside: Inside, cell: Cell, index: WheelIndex) -> Refusal | None:
    """Why the wheel (the only one of ``index``) does not serve a cell: by the rules on its name, then by its inside."""
    if (broken := judge_cell(cell, index.facts, index.policy)) is not None:
        return Refusal(broken[0].name, broken[1])
    for rejection in explain(cell, index):
        return Refusal(rejection.rule, rejection.detail)
    return refusal_inside(inside, cell, index.facts, index.policy)


def refusal_inside(inside: Inside, cell: Cell, facts: Facts, policy: Policy) -> Refusal | None:
    """What the bytes refuse, though every rule on the name accepts."""
    cuda: tuple[int, ...] = inside.cuda
    abi: tuple[Abi, ...] = inside.abi
    if policy.glibc is not None and inside.glibc is not None and policy.glibc < inside.glibc:
        return Refusal("glibc", f"needs glibc {inside.glibc}, and there is {policy.glibc}", inside=True)
    if cuda and cuda != (cell.cuda.major,):
        return Refusal("cuda", f"links CUDA {', '.join(map(str, cuda))}, not {_major(cell.cuda)}", inside=True)
    if abi and abi != (cell.abi,):
        return Refusal("abi", f"calls torch with ABI {', '.join(abi)}, not {cell.abi}", inside=True)
    needed = facts.compat.flash_attn.compressed_driver
    if inside.sass.compressed and policy.driver is not None and not policy.driver.reaches(needed):
        detail = f"its GPU code is compressed and needs driver {needed}, the host has {policy.driver}"
        return Refusal("driver", detail, inside=True)
    if (
        inside.sass.archs is not None
        and cell.arch is not None
        and not CodeFor(inside.sass.archs, None).serves(cell.arch)
    ):
        held = ", ".join(map(str, inside.sass.archs)) or "none"
        return Refusal("arch", f"no code for {cell.gpu_text}: the wheel holds {held}", inside=True)
    return None


def _major(cuda: Cuda) -> str:
    return "cpu" if cuda.major is None else str(cuda.major)
