"""The workspace (where the data and the generated files are) and what is planned for each target in it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images.lock_inputs import base_images, bases_digest, fresh_stack_lock
from images.recipe import Recipe, Stack, image_facts, make_recipe, make_stack
from images.requirement_files import StackLock
from matrix import Project, Target, load_project, tree
from matrix.document import display_name, read_document, read_text
from matrix.errors import DataError, UsageError
from matrix.seal import broken_seal
from matrix.spec import Entries, Nullable, Record, Spec, Text, exactly, read
from wheel_resolver import lock
from wheel_resolver.lock import LockedTarget
from wheel_resolver.locked.inputs import require_fresh
from wheel_resolver.places import Places

DEFAULT_TIER = "default"
REGISTRY_VARIABLE = "REGISTRY"  # names the repository that tags are put under
DEFAULT_REPOSITORY = "wheelwright"
_OWN_ROOT = Path(__file__).resolve().parent.parent


def _own_version(path: Path) -> str:
    """The project's version, which labels and tags carry.

    Raises:
        DataError: the file is not TOML, or has no version that a tag can carry.
    """
    try:
        version = tomllib.loads(tree.read_text(path))["project"]["version"]
        if re.fullmatch(r"\d+(\.\w+){0,4}", version, re.ASCII) is None:
            raise DataError(f"{display_name(path)} project.version: {version!r} is no version", remedy="write 1.2.3")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"{display_name(path)}: project.version cannot be read: {type(error).__name__}: {error}"
        raise DataError(what, remedy="restore the file") from None
    return str(version)


@dataclass(frozen=True, slots=True)
class Workspace:
    """A checkout: ``matrix/matrix.yaml`` and locks go in, ``dockerfiles/`` comes out, ``.build/`` is scratch.

    Attributes:
        root: the folder that holds them; bake runs in it.
        project: the matrix of that folder with the project's own facts.
        version: of the project, for labels and tags.
    """

    root: Path
    project: Project
    version: str

    @classmethod
    def load(cls, root: Path | None = None) -> Workspace:
        """Open a checkout; the default is the one that this package lies in."""
        where = tree.settle(root or _OWN_ROOT)
        return cls(where, load_project(where / "matrix" / "matrix.yaml"), _own_version(_OWN_ROOT / "pyproject.toml"))

    def __post_init__(self) -> None:
        tree.settle(self.root)

    @property
    def matrix_file(self) -> Path:
        """What is resolved and built."""
        return self.root / "matrix" / "matrix.yaml"

    @property
    def named_root(self) -> Path | None:
        """The folder, where it is another than this checkout: a command that is told must name it."""
        return None if self.root == _OWN_ROOT else self.root

    def writable(self, path: Path) -> Path:
        """A path that a command may write: below the folder, where it is another than this checkout.

        Raises:
            UsageError: it lies outside.
        """
        return Places(self.named_root, self.matrix_file, self.lock_file).writable(path)

    @property
    def build(self) -> Path:
        """Scratch space: staged contexts, logs, locks; no secret. Ignored by git."""
        return self.root / ".build"

    @property
    def locks(self) -> Path:
        """Hashed requirements and base digests."""
        return self.root / "dockerfiles" / "locks"

    @property
    def lock_file(self) -> Path:
        """The wheel decisions."""
        return self.root / "matrix" / "lock.yaml"

    @property
    def rendered(self) -> dict[str, str]:
        """The generated files as they are now: path below the root -> text."""
        folder = self.root / "dockerfiles"
        graph = folder / "docker-bake.json"
        files = [*tree.files(folder / "rendered"), *([graph] if tree.is_file(graph) else [])]
        return {str(path.relative_to(self.root)): tree.read_text(path, "replace") for path in files}


@dataclass(frozen=True, slots=True)
class Planned:
    """A target with its decision and recipe.

    Attributes:
        facts: what ``image.json`` says.
        tags: without registry and repository; the immutable one first.
    """

    target: Target
    locked: LockedTarget
    recipe: Recipe
    facts: Mapping[str, Any]
    tags: tuple[str, ...]


def load_planned(workspace: Workspace, names: Sequence[str] | None = None) -> list[Planned]:
    """Plan all targets of the matrix, or the named ones, in the matrix's order.

    Raises:
        UsageError: a name that the matrix does not have.
        DataError: the locks do not cover the matrix, were edited by hand, or were computed from something else.
    """
    project = workspace.project
    matrix, compat = project.matrix, project.compat
    wanted = select_targets(matrix.targets, names)
    decisions = lock.read(workspace.lock_file)
    known = [decisions.targets[name] for name in matrix.targets if name in decisions.targets]
    require_fresh(known, project, workspace.lock_file)
    digests = read_base_digests(workspace.locks / "bases.yaml")
    if fault := bases_fault(workspace):
        raise DataError(f"{display_name(workspace.locks / 'bases.yaml')}: {fault}", remedy="make lock")
    planned: list[Planned] = []
    owners: dict[str, str] = {}
    tagged: dict[str, str] = {}
    stacks: dict[str, Stack] = {}
    locks: dict[str, StackLock] = {}
    for target in matrix.targets.values():
        locked = decisions.targets.get(target.name)
        if locked is None:
            raise DataError(f"{workspace.lock_file}: no decision for target {target.name}", remedy="make lock")
        if target.stack not in locks:
            locks[target.stack] = fresh_stack_lock(workspace, target)
        stack = make_stack(target, locks[target.stack], digests, compat, project.trims)
        if stacks.setdefault(stack.name, stack) != stack:
            raise DataError(
                f"{workspace.matrix_file}: target {target.name} shares the stack {stack.name} with another target, but"
                " not its trims",
                remedy="give both the same trims",
            )
        recipe = make_recipe(target, locked, stack, digests, compat)
        # Targets that share a recipe differ in image.json only; its tags name the first of them.
        owns = owners.setdefault(recipe.name, target.name) == target.name
        tags = ((f"{workspace.version}-{recipe.name}", recipe.name) if owns else ()) + (
            target.name,
            *(alias for alias, name in matrix.aliases.items() if name == target.name),
        )
        for tag in tags:
            if tagged.setdefault(tag, target.name) != target.name:
                raise DataError(
                    f"{workspace.matrix_file}: {tag} would be a tag of {tagged[tag]} and of {target.name}",
                    remedy="choose another alias",
                )
        facts = image_facts(target, locked, recipe, compat)
        if target.name in wanted:
            planned.append(Planned(target, locked, recipe, facts, tags))
    return planned


def select_targets(targets: Mapping[str, Target], names: Sequence[str] | None) -> list[str]:
    """The named targets; ``None`` for all.

    Raises:
        UsageError: an unknown name.
    """
    if names is None:
        return list(targets)
    unknown = [name for name in names if name not in targets]
    if unknown:
        raise UsageError(
            f"no target {', '.join(map(repr, unknown))} in the matrix", remedy=f"one of: {', '.join(targets)}"
        )
    return list(names)


def default_targets(targets: Mapping[str, Target]) -> list[str]:
    """The names of the default tier."""
    return [name for name, target in targets.items() if target.tier == DEFAULT_TIER]


def split_names(names: Sequence[str]) -> list[str] | None:
    """``["cpu,t4", "a10g"]`` -> ``["cpu", "t4", "a10g"]``; nothing named -> None."""
    found = [part for name in names for part in name.split(",") if part]
    return found or None


def image_tag(target: str) -> str:
    """The tag to run a target by: ``$REGISTRY:target``."""
    return f"{os.environ.get(REGISTRY_VARIABLE) or DEFAULT_REPOSITORY}:{target}"


_BASES: Spec = Record(
    {
        "bases": Entries(
            Text("an image's reference", exactly(r"[a-z0-9][A-Za-z0-9._:/-]{0,254}")),
            Nullable(Text("a digest: sha256: and 64 hex digits", exactly(r"sha256:[0-9a-f]{64}"))),
        )
    }
)


def read_base_digests(path: Path) -> dict[str, str]:
    """``dockerfiles/locks/bases.yaml``: image reference -> digest, for those that are locked.

    Raises:
        DataError: not such a file, or it was edited by hand: file, line, key path and reason.
    """
    if not tree.is_file(path):
        return {}
    rows = read(read_document(path), _BASES)["bases"]  # the form first: it says which line is wrong
    if (fault := broken_seal(read_text(path))) is not None:
        raise DataError(f"{display_name(path)}: {fault}", remedy="restore it, or lock anew: make lock")
    return {image: digest for image, digest in rows.items() if digest is not None}


def bases_fault(workspace: Workspace) -> str | None:
    """Why ``bases.yaml`` cannot be used for this matrix; None where it can, or is not there: bases then go by tag."""
    path = workspace.locks / "bases.yaml"
    try:
        read_base_digests(path)
    except DataError as error:
        fault = error.what.removeprefix(display_name(path)).removeprefix(": ")
        return re.sub(r"^:(\d+) ", r"line \1: ", fault)
    if not tree.is_file(path):
        return None
    inputs = f"\n# inputs: sha256:{bases_digest(base_images(workspace))}\n"
    return None if inputs in read_text(path) else "it was made for other base images than today's"
