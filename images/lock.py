"""``python -m images lock``: base digests, and the hashed requirements of every stack.

What is pinned stays pinned unless ``--upgrade``; the same inputs give the same bytes. Each file says which inputs it
was computed from and what its own content is, so that ``--check`` needs no network.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from packaging.utils import canonicalize_name

from images.bases import RefusedError, registry_digest
from images.engine import find_engine
from images.hostsettings import HostSettings, read_host_settings
from images.lock_inputs import (
    base_images,
    bases_digest,
    build_requirements,
    fresh_stack_lock,
    inputs_digest,
    left_out,
)
from images.planned import Workspace, bases_fault, read_base_digests
from images.requirement_files import LISTS, Pin, parse_pins
from images.resolving import resolve_stack
from matrix import Target, tree
from matrix.cli import say, tell, tell_json
from matrix.errors import DataError, ExitCode, NoEngineError, UsageError
from matrix.seal import broken_seal, sealed
from matrix.shown import shown

# What the default package index calls the parts of torch: these change with torch only, so they get layers below.
_TORCH_PARTS = re.compile(r"(torch|triton|pytorch-triton)==")
_TOOLKIT_PARTS = re.compile(r"nvidia-(cuda-nvcc|cuda-crt|cuda-cccl|nvvm)==")
_CUDA_RUNTIME = re.compile(r"nvidia-cuda-runtime==")
_NVIDIA_PARTS = re.compile(r"(nvidia-|cuda-)[a-z0-9-]+==")
_NAME = re.compile(r"[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*", re.ASCII)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's command line."""
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a lock is missing or stale")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions and digests")
    parser.add_argument(
        "--allow-build",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="build this package's source archive to read what it needs: runs its code on this machine (none is built)",
    )


def run(args: argparse.Namespace, workspace: Workspace) -> int:
    """Lock all stacks and bases, or check them."""
    stacks = _stacks(workspace)
    if args.check:
        return _check(workspace, stacks, as_json=args.json)
    old, gone = stale(workspace), _unused(workspace, stacks)
    allowed = _allowed(args.allow_build)
    settings = read_host_settings()
    # A file:// index holds one machine's choice of files; the hashes of all files make a lock that serves any machine.
    settings = replace(settings, extra_indexes=settings.remote_indexes())
    for stack, target in sorted(stacks.items()):
        if args.upgrade or stack in old:
            say(f"locking {stack} ({settings.describe()})")
            write_stack(workspace, target, settings, upgrade=args.upgrade, allow_build=allowed)
    for path in gone:
        tree.remove(path)
        if not tree.files(path.parent) and not tree.folders(path.parent):
            tree.remove_tree(path.parent)
    bases = lock_bases(workspace, upgrade=args.upgrade)
    result = {"schema": 1, "stacks": sorted(stacks), "relocked": sorted(old), "bases": bases}
    if args.json:
        tell_json(result)
    else:
        tell("\n".join(f"locked {name}" for name in sorted(stacks)))
    return ExitCode.OK


def _check(workspace: Workspace, stacks: dict[str, Target], *, as_json: bool) -> int:
    faults = {f"dockerfiles/locks/{name}": fault for name, fault in stale(workspace).items()}
    faults |= {str(path.relative_to(workspace.root)): "no target uses it" for path in _unused(workspace, stacks)}
    if fault := bases_fault(workspace):
        faults["dockerfiles/locks/bases.yaml"] = fault
    if as_json:
        tell_json({"schema": 1, "not_fresh": faults})
    else:
        for path, fault in faults.items():
            tell(shown(f"{path}: {fault}"))
    say(f"{len(stacks)} stacks, {len(faults)} locks not fresh" + (": run `make lock`" if faults else ""))
    return ExitCode.NEGATIVE if faults else ExitCode.OK


def stale(workspace: Workspace) -> dict[str, str]:
    """The stacks whose requirements are missing, edited, or computed from other inputs, and why. Needs no network.

    Raises:
        DataError: what is asked for cannot be read.
    """
    found = {}
    for stack, target in sorted(_stacks(workspace).items()):
        inputs_digest(workspace, target)
        try:
            fresh_stack_lock(workspace, target)
        except DataError as error:
            found[stack] = error.what
    return found


def _allowed(names: Sequence[str]) -> list[str]:
    for name in names:
        if _NAME.fullmatch(name) is None:
            raise UsageError(
                f"--allow-build {name!r} is no package's name", remedy="name one package: --allow-build sox"
            )
        say(f"warning: --allow-build {name}: its code may run on this machine, as you")
    return [canonicalize_name(name) for name in names]


def _stacks(workspace: Workspace) -> dict[str, Target]:
    return {target.stack: target for target in workspace.project.matrix.targets.values()}


def write_stack(
    workspace: Workspace,
    target: Target,
    settings: HostSettings,
    *,
    upgrade: bool,
    allow_build: Sequence[str] = (),
) -> None:
    """Resolve a stack's requirements with uv and write its files, all or none.

    Raises:
        DataError: a package has no wheel; or what uv gives is not in our grammar, and is not written.
    """
    folder = workspace.locks / target.stack
    build = build_requirements(workspace, target)
    kept = [] if upgrade else [pin for name in LISTS if tree.is_file(folder / name) for pin in _kept(folder / name)]
    resolved = resolve_stack(workspace, target, build, kept, settings, allow_build=allow_build)
    omitted = left_out(workspace)
    header = (
        f"# Generated by `python -m images lock` for {target.stack}. Do not edit.\n"
        f"# inputs: sha256:{inputs_digest(workspace, target)}\n"
    )
    lists: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=\S)", resolved.strip()):
        lists.setdefault(_list_of(block, build, omitted), []).append(block)
        if build and _CUDA_RUNTIME.match(block):  # a compiler needs its headers and the library to link
            lists.setdefault("toolkit.txt", []).append(block)
    texts = {name: sealed(header + "\n".join(blocks) + "\n") for name, blocks in lists.items()}
    for name, text in texts.items():
        parse_pins(text, f"uv's answer for {target.stack}, {name}")
    for name in LISTS:
        if name in texts:
            tree.write(folder / name, texts[name])
        else:
            tree.remove(folder / name)


def _kept(path: Path) -> list[Pin]:
    """What a list pins; nothing where it is not what we wrote: uv would read it with all that was put into it."""
    try:
        text = tree.read_bytes(path).decode("utf-8")
        pins, fault = parse_pins(text), broken_seal(text)
    except (DataError, UnicodeDecodeError) as error:
        pins, fault = [], str(error).splitlines()[0]
    if fault:
        say(f"{path.parent.name}/{path.name} is not what was written, so its pins are not kept: {fault}")
    return [] if fault else pins


def _list_of(block: str, build: Container[str], omitted: Container[str]) -> str:
    if _TOOLKIT_PARTS.match(block):
        return "toolkit.txt"
    if _NVIDIA_PARTS.match(block):
        return "nvidia.txt"
    if _TORCH_PARTS.match(block):
        return "torch.txt"
    # Tools that something else needs too (packaging, setuptools) belong to the model.
    name, wanted_by = block.partition("==")[0], re.search(r"# via (.*)$", block)
    only_built = name in omitted or (wanted_by is not None and wanted_by[1] == "-r stack.in")
    return "build.txt" if name in build and only_built else "model.txt"


def lock_bases(workspace: Workspace, *, upgrade: bool) -> dict[str, str | None]:
    """Ask the registry, through the engine, for the digest of each base; what gives no answer stays unlocked."""
    path = workspace.locks / "bases.yaml"
    try:
        old = read_base_digests(path)
    except DataError as error:
        say(f"the digests are asked for anew: {error.what}")
        old = {}
    known = {} if upgrade else old
    digests: dict[str, str | None] = {image: known.get(image) for image in sorted(base_images(workspace))}
    missing = [image for image, digest in digests.items() if digest is None]
    if missing:
        digests |= _ask_registry(missing)
    if upgrade:  # an answer that could not be had must not lose the digest that we had
        digests = {image: digest or old.get(image) for image, digest in digests.items()}
    tree.write(path, bases_text(digests))
    return digests


def bases_text(digests: dict[str, str | None]) -> str:
    """What ``bases.yaml`` says: image -> digest, and None for those that no registry has answered for."""
    head = (
        "# Generated by `python -m images lock`. Do not edit. null: no registry answered yet.\n"
        f"# inputs: sha256:{bases_digest(digests)}\n"
    )
    return sealed(head + yaml.safe_dump({"bases": digests}, sort_keys=True))


def _ask_registry(images: Iterable[str]) -> dict[str, str | None]:
    answers: dict[str, str | None] = {}
    try:
        engine = find_engine()
    except NoEngineError as error:
        say(f"base digests stay as they are: {error.what}")
        return answers
    for image in images:
        try:
            answers[image] = registry_digest(engine, image)
        except RefusedError as error:
            say(f"the digest of {image} stays as it is: {error.what}")
            answers[image] = None
    return answers


def _unused(workspace: Workspace, stacks: Iterable[str]) -> list[Path]:
    """Files that no target uses: of other stacks, and of no list."""
    known = set(stacks)
    found = [path for folder in tree.folders(workspace.locks) for path in tree.files(folder) if path.suffix == ".txt"]
    return [path for path in found if path.parent.name not in known or path.name not in LISTS]
