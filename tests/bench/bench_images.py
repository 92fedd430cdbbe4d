"""`make bench-images`: our image of a stack side by side with the straightforward one, in one run.

    PYTHONPATH=.:tests/image python tests/bench/bench_images.py [--stack cpu] [--without NAME] [--only-print | --render]

Ours goes the real road (`python -m images build`) in a scratch workspace with two targets of the stack, the second
with a stand-in flash-attn of 1 MB. Builds of both sides are timed as a user waits for them: the whole command, up to
the image in the engine, packed. A GPU stack takes gigabytes of disk a side, and an hour on a small machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import image_figures
import oci_archive
import straightforward
import yaml
from image_figures import Figures, Result
from space import Space
from straightforward import Straightforward

from images import staging
from images.bases import BaseProvider
from images.engine import Engine, find_engine
from images.hostsettings import read_host_settings
from images.lock_inputs import origin_for
from images.planned import Workspace, load_planned
from images.requirement_files import RUNTIME_LISTS, parse_pins
from matrix import PythonVersion, Target, load_project, tree
from tests.packing import members, pack
from wheel_resolver.fetching.fetch import file_sha256
from wheel_resolver.locked.inputs import inputs_of

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REPOSITORY = "wheelwright-bench"
STAND_IN_BYTES = 1_000_000


class Side(Protocol):
    """One way to build the images ``first`` and ``second`` of a stack."""

    name: str

    def build(self, image: str, *, cached: bool = True) -> float:
        """Build an image into the engine; seconds."""

    def tag(self, image: str) -> str:
        """The image's name in the engine."""

    def change(self) -> None:
        """Change one line of the service."""


@dataclass
class Ours:
    """The real road, in a workspace."""

    space: Space
    name: str = "ours"

    def build(self, image: str, *, cached: bool = True) -> float:
        """See ``Side``."""
        start = time.perf_counter()
        self._images("build", f"bench-{image}", "--json", *([] if cached else ["--no-cache"]))
        return time.perf_counter() - start

    def tag(self, image: str) -> str:
        """See ``Side``."""
        return f"{REPOSITORY}:bench-{image}"

    def change(self) -> None:
        """See ``Side``."""
        with (self.space.root / "serve" / "app.py").open("a") as file:
            file.write("# changed\n")

    def _images(self, *arguments: str) -> None:
        cache = str(self.space.root / "cache")
        with contextlib.redirect_stdout(sys.stderr):
            answer = self.space.images(*arguments, REGISTRY=REPOSITORY, WHEELWRIGHT_CACHE=cache)
        if answer.status:
            raise SystemExit(f"images {' '.join(arguments)} ended with {answer.status}:\n{answer.out[-3000:]}")


def make_space(root: Path, target: Target) -> Space:
    """A workspace with two targets of a stack: ``first`` runs SDPA, ``second`` has the stand-in flash-attn too."""
    shutil.copytree(ROOT / "serve", root / "serve", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "matrix", root / "matrix", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copytree(ROOT / "dockerfiles" / "locks", root / "dockerfiles" / "locks")
    shutil.copy(ROOT / ".dockerignore", root)
    wheel = stand_in(root, target.python)
    digest = file_sha256(wheel)
    cached = root / "cache" / "files" / digest
    cached.mkdir(parents=True)
    shutil.copy(wheel, cached)
    matrix_file, lock_file = root / "matrix" / "matrix.yaml", root / "matrix" / "lock.yaml"
    matrix = yaml.safe_load(matrix_file.read_text())
    lock = yaml.safe_load(lock_file.read_text())
    because = {"value": "sdpa", "because": "the benchmark wants it", "source": "bench_images.py"}
    row = matrix["targets"][target.name] | {"base": "slim", "tier": "default", "flash_attn": None, "attention": because}
    row = {key: value for key, value in row.items() if key != "budget"} | {"source_build": False}
    decision = lock["targets"][target.name] | {"source_build": None}
    sdpa = {"attention": "sdpa", "backend": "math", "wheel": None}
    there = {"name": wheel.name, "url": f"https://localhost/{wheel.name}", "sha256": digest, "digest": "published"}
    there |= {"size": None, "version": "2.8.3", "tag": "v2.8.3", "provider": "Dao-AILab/flash-attention"}
    there |= {"updated_at": None, "sass": ["8.0"]}
    fa2 = {"attention": "flash_attention_2", "backend": "flash_attention_2", "wheel": there}
    matrix |= {"targets": {"bench-first": row, "bench-second": row}, "aliases": {}}
    lock["targets"] = {"bench-first": decision | sdpa, "bench-second": decision | fa2}
    matrix_file.write_text(json.dumps(matrix))  # JSON is YAML, without anchors
    project = load_project(matrix_file)
    for name, entry in lock["targets"].items():
        entry["inputs"] = f"sha256:{inputs_of(project.matrix.targets[name], project)}"
    lock_file.write_text(json.dumps(lock))
    space = Space(root)
    with contextlib.redirect_stdout(sys.stderr):
        if space.images("render").status:
            raise SystemExit("the workspace cannot be rendered")
    return space


def stand_in(folder: Path, python: PythonVersion) -> Path:
    """A wheel with the name of flash-attn and 1 MB that does not compress, the same bytes each time."""
    tag = f"cp{python.major}{python.minor}"
    tag = f"{tag}-{tag}-linux_x86_64"
    filler = random.Random(0).randbytes(STAND_IN_BYTES)
    path = folder / f"flash_attn-2.8.3-{tag}.whl"
    return pack(path, members({"flash_attn/stand_in.bin": filler}, tag=tag))


def other_sides(space: Space, target: Target, scratch: Path) -> list[Straightforward]:
    """The straightforward image, the code copied first, and last; with a compiler where the stack has a toolkit."""
    workspace = Workspace.load(space.root)
    (item,) = load_planned(workspace, ["bench-first"])
    stack, settings = item.recipe.stack, read_host_settings()
    base = BaseProvider(find_engine(), workspace.project.compat).provide(stack)
    wheels = scratch / "wheels"
    local = staging.stage_local_files(settings, stack.lock.pins(), wheels)
    staging.place(next(space.root.glob("*.whl")), wheels)
    origin = origin_for(workspace, target)
    origins = [origin] if origin and not any(name.startswith("torch-") for name in local) else []
    lists = stack.lock.lists
    pins = [pin for name in RUNTIME_LISTS for pin in parse_pins(lists.get(name, ""))]
    compiler = [pin for pin in parse_pins(lists.get("toolkit.txt", "")) if pin not in pins]
    ways: list[tuple[str, dict[str, bool]]] = [
        ("straightforward", {}),
        ("requirements first", {"requirements_first": True}),
    ]
    ways += [("CUDA-devel", {"devel": True})] if compiler else []
    sides = []
    for name, how in ways:
        root = scratch / name.replace(" ", "-")
        contexts = {straightforward.WHEELS: str(wheels)} | ({base.name: base.context} if base.context else {})
        side = Straightforward(
            name=name,
            root=root,
            text=straightforward.dockerfile(base.name, **how),
            pins=pins + (compiler if "devel" in how else []),
            second="flash-attn==2.8.3",
            serve=ROOT / "serve",
            contexts=contexts,
            conf=straightforward.pip_conf(settings, origins),
            ca_bundle=settings.ca_bundle,
        )
        side.prepare()
        sides.append(side)
    return sides


def measure(side: Side, scratch: Path) -> Figures:
    """Everything of one side; an archive is gone as soon as it is weighed."""
    archive = scratch / "image.oci.tar"
    say(side, "cold build")
    cold = side.build("first", cached=False)
    say(side, f"{cold:.1f} s; export, unpack, pack anew")
    export = save(side.tag("first"), archive)
    first = oci_archive.read_layers(archive)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        unpacked = oci_archive.unpack(archive, Path(folder))
    own = oci_archive.compression(first)
    other = "gzip" if own == "zstd" else "zstd"
    packed = {own: total(first), other: oci_archive.repacked(archive, other)}
    say(side, "a second image")
    side.build("second")
    save(side.tag("second"), archive)
    second = oci_archive.added(oci_archive.read_layers(archive), first)
    say(side, "a change, warm rebuild")
    side.change()
    warm = side.build("first")
    save(side.tag("first"), archive)
    changed = oci_archive.added(oci_archive.read_layers(archive), first)
    archive.unlink()
    say(side, f"{warm:.1f} s")
    return Figures(
        name=side.name,
        own=own,
        packed=packed,
        unpacked=unpacked.size,
        layers=len(first),
        changed=changed,
        second=second,
        cold=round(cold, 2),
        warm=round(warm, 2),
        export=round(export, 2),
        unpack=round(unpacked.seconds, 2),
    )


def save(tag: str, file: Path) -> float:
    """Write an image of the engine as an OCI archive, packed as it is; seconds."""
    start = time.perf_counter()
    subprocess.run(["docker", "image", "save", "--output", str(file), tag], check=True)
    return time.perf_counter() - start


def total(layers: Sequence[oci_archive.Layer]) -> int:
    """The packed bytes of all layers."""
    return sum(layer.packed for layer in layers)


def say(side: Side, text: str) -> None:
    """One line on what goes on."""
    print(f"{side.name}: {text}", file=sys.stderr, flush=True)


def run(stack: str, without: Sequence[str] = ()) -> Result:
    """Measure the sides of the stack of a CUDA tag (or ``cpu``), one after the other."""
    targets = Workspace.load().project.matrix.targets.values()
    target = next((row for row in targets if row.cuda.tag == stack), None)
    if target is None:
        raise SystemExit(
            f"no stack {stack!r} in the matrix; one of: {', '.join(sorted({t.cuda.tag for t in targets}))}"
        )
    engine = find_engine()
    if not engine.containerd_store:
        raise SystemExit("the engine keeps layers unpacked: switch it to containerd's image store")
    machine = (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, engine {engine.version}, "
        f"buildx {engine.buildx}; one run, one side after the other."
    )
    figures: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="bench-images-") as folder:
        scratch = Path(folder)
        space = make_space(scratch / "space", target)
        others = [side for side in other_sides(space, target, scratch) if side.name not in without]
        sides: list[Side] = [Ours(space), *others]
        for side in sides:
            try:
                figures.append(measure(side, scratch))
            finally:
                remove(engine)
            keep(stack, Result(target.stack, machine, tuple(figures)))
    return Result(target.stack, machine, tuple(figures))


def remove(engine: Engine) -> None:
    """Remove what was built from the engine, with what lost its name to a newer one; and the other side's cache."""
    labels = (f"wheelwright.target=bench-{image}" for image in ("first", "second", "straightforward"))
    for label in labels:
        for image in engine.client.images.list(filters={"label": label}):
            engine.client.images.remove(image.id, force=True)
    straightforward.prune()


def keep(stack: str, result: Result) -> None:
    """Keep what is measured so far below ``out/``."""
    out = ROOT / "out" / f"bench-images-{stack}.json"
    tree.write(out, json.dumps(result.to_json(), indent=1) + "\n")


def write_docs(stack: str, data: dict[str, Any]) -> None:
    """Rewrite the stack's block in ``docs/images.md``, its plot, and the figures that both are made from."""
    result = Result.from_json(data)
    name = f"bench-images-{stack}"
    tree.write(DOCS / f"{name}.json", json.dumps(data, indent=1) + "\n")
    tree.write(DOCS / f"{name}.svg", image_figures.plot(result))
    page = DOCS / "images.md"
    block = image_figures.block(result, f"{name}.svg")
    tree.write(page, image_figures.replace_block(tree.read_text(page), stack, block))


def main() -> None:
    """Measure, print, and write the documentation's block."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack", default="cpu", help="a CUDA tag of the matrix, cu130, or cpu (the default)")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="a side that is left out")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--only-print", action="store_true", help="leave docs/ as it is")
    ways.add_argument("--render", action="store_true", help="measure nothing: write docs/ from its own figures")
    options = parser.parse_args()
    if options.render:
        data = json.loads((DOCS / f"bench-images-{options.stack}.json").read_text())
    else:
        data = run(options.stack, options.without).to_json()
    print(image_figures.table(Result.from_json(data)))
    if not options.only_print:
        write_docs(options.stack, data)


if __name__ == "__main__":
    main()
