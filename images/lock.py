"""``python -m images lock``: base digests, and the hashed requirements of every stack.

What is pinned stays pinned unless ``--upgrade``; the same inputs give the same bytes. Each file says which inputs it
was computed from, so that ``--check`` needs no network.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from images.bases import RefusedError, registry_digest
from images.engine import find_engine
from images.hostsettings import HostSettings, mask, read_host_settings
from images.planned import Workspace, read_base_digests
from images.recipe import base_for
from images.requirement_files import LISTS, read_stack_lock
from images.uv import uv_executable
from matrix import Target, tree
from matrix.cli import say, tell, tell_json
from matrix.errors import DataError, ExitCode, NetworkError, NoEngineError
from matrix.shown import shown

OVERRIDES = Path("serve/overrides.txt")
# What flash-attn's setup.py needs, and pip.
BUILD_TOOLS = ("ninja", "packaging", "pip", "psutil", "setuptools", "wheel")
# What the default package index calls the parts of torch: these change with torch only, so they get layers below.
_TORCH_PARTS = re.compile(r"(torch|triton|pytorch-triton)==")
_TOOLKIT_PARTS = re.compile(r"nvidia-(cuda-nvcc|cuda-crt|cuda-cccl|nvvm)==")
_CUDA_RUNTIME = re.compile(r"nvidia-cuda-runtime==")
_NVIDIA_PARTS = re.compile(r"(nvidia-|cuda-)[a-z0-9-]+==")
_MANYLINUX = {"linux_x86_64": "x86_64-manylinux_2_28", "linux_aarch64": "aarch64-manylinux_2_28"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's command line."""
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a lock is missing or stale")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions and digests")


def run(args: argparse.Namespace, workspace: Workspace) -> int:
    """Lock all stacks and bases, or check them."""
    stacks = _stacks(workspace)
    old, gone = stale(workspace), _unused(workspace, stacks)
    if args.check:
        faults = {f"dockerfiles/locks/{name}": "missing, or computed from other inputs" for name in old}
        faults |= {str(path.relative_to(workspace.root)): "no target uses it" for path in gone}
        if args.json:
            tell_json({"schema": 1, "not_fresh": faults})
        else:
            for name, fault in faults.items():
                tell(shown(f"{name}: {fault}"))
        say(f"{len(stacks)} stacks, {len(faults)} locks not fresh" + (": run `make lock`" if faults else ""))
        return ExitCode.NEGATIVE if faults else ExitCode.OK
    settings = read_host_settings()
    # A file:// index holds one machine's choice of files; the hashes of all files make a lock that serves any machine.
    settings = replace(settings, extra_indexes=settings.remote_indexes())
    for stack, target in sorted(stacks.items()):
        if args.upgrade or stack in old:
            say(f"locking {stack} ({settings.describe()})")
            write_stack(workspace, target, settings, upgrade=args.upgrade)
    for path in gone:
        tree.remove(path)
        if not tree.files(path.parent) and not tree.folders(path.parent):
            tree.remove_tree(path.parent)
    bases = lock_bases(workspace, upgrade=args.upgrade)
    result = {"schema": 1, "stacks": sorted(stacks), "relocked": old, "bases": bases}
    if args.json:
        tell_json(result)
    else:
        tell("\n".join(f"locked {name}" for name in sorted(stacks)))
    return ExitCode.OK


def stale(workspace: Workspace) -> list[str]:
    """The stacks whose requirements are missing, or were computed from other inputs. Needs no network."""
    return [stack for stack, target in sorted(_stacks(workspace).items()) if not _is_fresh(workspace, target)]


def _stacks(workspace: Workspace) -> dict[str, Target]:
    return {target.stack: target for target in workspace.project.matrix.targets.values()}


def inputs_digest(workspace: Workspace, target: Target) -> str:
    """What a stack's requirements are computed from, as one sha256."""
    parts = [target.stack, torch_requirement(workspace, target), *_MANYLINUX[target.platform].split()]
    parts += [tree.read_text(path) for path in (*_asked(workspace, target), workspace.root / OVERRIDES)]
    parts += _build_requirements(workspace, target)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _asked(workspace: Workspace, target: Target) -> list[Path]:
    """What the service asks for in an image of this target."""
    names = ["requirements.in"] if target.cuda.is_cpu else ["requirements.in", "requirements-gpu.in"]
    return [workspace.root / "serve" / name for name in names]


def torch_requirement(workspace: Workspace, target: Target) -> str:
    """How to ask an index for the torch of a stack.

    The default index carries one CUDA build per torch, under the public version: ``torch==2.9.1+cu128`` does not
    resolve there. Every other build has its CUDA in the version.
    """
    facts = workspace.project.compat.torch_facts(target.torch)
    local = "" if facts.default_cuda == target.cuda else f"+{target.cuda.tag}"
    return f"torch=={target.torch}{local}"


def origin_for(workspace: Workspace, target: Target) -> str | None:
    """PyTorch's own index (or ``$WHEELWRIGHT_PYTORCH_WHEELS``), for a torch that the default index does not carry."""
    if "+" not in torch_requirement(workspace, target):
        return None
    base = os.environ.get("WHEELWRIGHT_PYTORCH_WHEELS") or workspace.project.compat.origins["pytorch_wheels"]
    return f"{base.rstrip('/')}/{target.cuda.tag}"


def write_stack(workspace: Workspace, target: Target, settings: HostSettings, *, upgrade: bool) -> None:
    """Resolve a stack's requirements with uv and write its files, all or none."""
    folder = workspace.locks / target.stack
    build = _build_requirements(workspace, target)
    previous = "" if upgrade else "\n".join(tree.read_text(folder / n) for n in LISTS if tree.is_file(folder / n))
    # First what is asked for: a link among it is refused here, before uv would follow it.
    header = (
        f"# Generated by `python -m images lock` for {target.stack}. Do not edit.\n"
        f"# inputs: sha256:{inputs_digest(workspace, target)}\n"
    )
    resolved, left_out = _compile(workspace, target, build, previous, settings), _left_out(workspace)
    lists: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=\S)", resolved.strip()):
        lists.setdefault(_list_of(block, build, left_out), []).append(block)
        if build and _CUDA_RUNTIME.match(block):  # a compiler needs its headers and the library to link
            lists.setdefault("toolkit.txt", []).append(block)
    for name in LISTS:
        if name in lists:
            tree.write(folder / name, header + "\n".join(lists[name]) + "\n")
        else:
            tree.remove(folder / name)


def _left_out(workspace: Workspace) -> dict[str, str]:
    """What no runtime gets: name -> its line of overrides.txt."""
    text = tree.read_text(workspace.root / OVERRIDES)
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return {line.partition(" ")[0]: line for line in lines if line}


def _list_of(block: str, build: Container[str], left_out: Container[str]) -> str:
    if _TOOLKIT_PARTS.match(block):
        return "toolkit.txt"
    if _NVIDIA_PARTS.match(block):
        return "nvidia.txt"
    if _TORCH_PARTS.match(block):
        return "torch.txt"
    # Tools that something else needs too (packaging, setuptools) belong to the model.
    name, wanted_by = block.partition("==")[0], re.search(r"# via (.*)$", block)
    only_built = name in left_out or (wanted_by is not None and wanted_by[1] == "-r stack.in")
    return "build.txt" if name in build and only_built else "model.txt"


def _compile(workspace: Workspace, target: Target, build: Sequence[str], previous: str, settings: HostSettings) -> str:
    requirements = [torch_requirement(workspace, target), *build]
    # A build tool that the runtime does without (psutil) is still needed to build.
    overrides = [line for name, line in _left_out(workspace).items() if name not in build]
    with tempfile.TemporaryDirectory(prefix="wheelwright-lock-") as scratch:
        source, output = Path(scratch) / "stack.in", Path(scratch) / "locked.txt"
        overriding = Path(scratch) / "overrides.txt"
        source.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        overriding.write_text("\n".join(overrides) + "\n", encoding="utf-8")
        output.write_text(previous, encoding="utf-8")
        command = [
            uv_executable(), "pip", "compile", "--quiet", "--no-header", "--generate-hashes",
            "--no-emit-index-url", "--no-emit-find-links", "--annotation-style", "line",
            "--python-version", str(target.python), "--python-platform", _MANYLINUX[target.platform],
            "--override", str(overriding), "--output-file", str(output),
            str(source), *map(str, _asked(workspace, target)),
        ]  # fmt: skip
        attempts: list[list[str]] = [[]]
        if origin := origin_for(workspace, target):
            attempts.append(["--index", origin, "--index-strategy", "unsafe-best-match"])
        errors = []
        for extra in attempts:
            done = subprocess.run(
                [*command, *extra],
                env=os.environ | settings.uv_environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                return output.read_text(encoding="utf-8").replace(scratch + os.sep, "")
            errors.append(mask(done.stderr.strip()))
    raise NetworkError(
        f"uv could not resolve {target.stack}",
        said="\n".join(errors).splitlines()[-12:],
        remedy="see the host's index: `pip config list`; WHEELWRIGHT_PYTORCH_WHEELS can name a mirror of PyTorch's",
    )


def lock_bases(workspace: Workspace, *, upgrade: bool) -> dict[str, str | None]:
    """Ask the registry, through the engine, for the digest of each base; what gives no answer stays unlocked."""
    compat = workspace.project.compat
    targets = workspace.project.matrix.targets.values()
    images = {base_for(target.python, compat)[0] for target in targets}
    images |= {
        compat.bases.cuda_devel[t.cuda].image for t in targets if t.source_build and t.cuda in compat.bases.cuda_devel
    }
    path = workspace.locks / "bases.yaml"
    known = {} if upgrade else read_base_digests(path)
    digests: dict[str, str | None] = {image: known.get(image) for image in sorted(images)}
    missing = [image for image, digest in digests.items() if digest is None]
    if missing:
        digests |= _ask_registry(missing)
    if upgrade:  # an answer that could not be had must not lose the digest that we had
        old = read_base_digests(path)
        digests = {image: digest or old.get(image) for image, digest in digests.items()}
    text = yaml.safe_dump({"bases": digests}, sort_keys=True)
    tree.write(path, f"# Generated by `python -m images lock`. Do not edit. null: no registry answered yet.\n{text}")
    return digests


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


def _build_requirements(workspace: Workspace, target: Target) -> tuple[str, ...]:
    """What a builder of this stack needs beside the stack: tools, and the toolkit where packages have one."""
    if not any(t.source_build for t in workspace.project.matrix.targets.values() if t.stack == target.stack):
        return ()
    devel = workspace.project.compat.bases.cuda_devel.get(target.cuda)
    return BUILD_TOOLS + ((devel.packages,) if devel and devel.packages else ())


def _is_fresh(workspace: Workspace, target: Target) -> bool:
    wanted = inputs_digest(workspace, target)
    tree.require_plain(workspace.locks)
    try:
        return read_stack_lock(workspace.locks / target.stack).inputs == wanted
    except DataError:
        return False


def _unused(workspace: Workspace, stacks: Iterable[str]) -> list[Path]:
    gone = [folder for folder in tree.folders(workspace.locks) if folder.name not in set(stacks)]
    return [path for folder in gone for path in tree.files(folder) if path.suffix == ".txt"]
