"""The ``cpu`` target with tiny wheels in its locks: the real recipe, in seconds, from a test's own index."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from far_ends import running
from package_index import PORT
from second_engine import SecondEngine
from space import AS_USUAL, REPOSITORY, ROOT, Answer, Space

from matrix.seal import sealed
from tests.packing import digest, pack

LARGE = "large-1.0-py3-none-any.whl"
_WHEELS = {"torch.txt": ("torch==2.13.0+cpu",), "model.txt": ("tiny==1.0", "large==1.0")}


def make_wheel(folder: Path, requirement: str, size: int) -> Path:
    """A wheel with one module and ``size`` bytes that do not compress."""
    name, _, version = requirement.partition("==")
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": b"",
        f"{name}/data": os.urandom(size),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={digest(text)},{len(text)}\n" for path, text in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    return pack(folder / f"{name}-{version}-py3-none-any.whl", files)


def wait_for_half(index: subprocess.Popen[str]) -> None:
    """Until the index has sent half of the file that it dies in."""
    assert index.stdout is not None
    assert select.select([index.stdout], [], [], 60)[0], "the build did not ask for the file"
    assert index.stdout.readline() == "half\n"


@dataclass(frozen=True)
class SmallSpace:
    """A workspace whose ``cpu`` is small, and the second engine that builds it.

    Attributes:
        wheels: the folder that an index serves.
        config: the docker CLI's own folder, with the context ``second``.
    """

    space: Space
    wheels: Path
    config: Path
    engine: SecondEngine
    index: tuple[str, str]

    @property
    def repository(self) -> str:
        return f"{REPOSITORY}-{self.index[0]}"

    @property
    def temporary(self) -> Path:
        """The folder for what is temporary: a build's secrets, while it runs."""
        return self.wheels.parent / "temporary"

    def secrets(self) -> list[Path]:
        """The secrets of the builds that run."""
        return sorted(path for path in self.temporary.glob("wheelwright-secrets-*/*") if path.suffix != ".json")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "REGISTRY": self.repository,
            "TMPDIR": str(self.temporary),
            "DOCKER_CONFIG": str(self.config),
            "UV_DEFAULT_INDEX": f"http://{self.index[1]}:{PORT}/simple",
            "WHEELWRIGHT_PYTORCH_WHEELS": f"http://{self.index[1]}:{PORT}/simple",
        }

    def arguments(self, target: str) -> tuple[str, ...]:
        return ("build", target, "--builder", "second", "--base", "bootstrap", "--json")

    def build(self, *arguments: str, target: str = "cpu", **environment: str) -> Answer:
        """``images build cpu`` in the second engine."""
        return self.space.images(*self.arguments(target), *arguments, **(self.environment | environment))

    def start_build(self, *arguments: str, target: str = "cpu") -> subprocess.Popen[str]:
        """The same, not waited for; what it says goes to the files ``out`` and ``err``, with the target before it."""
        verb, *rest = self.arguments(target)
        here = ["--root", str(self.space.root)]
        command = [*AS_USUAL, sys.executable, "-m", "images", verb, *here, *rest, *arguments]
        environment = os.environ | self.environment
        with self.said(target, "out").open("w") as out, self.said(target, "err").open("w") as err:
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, text=True, stdout=out, stderr=err, start_new_session=True
            )

    def said(self, target: str, where: str) -> Path:
        return self.space.root / f"{target}.{where}"

    @property
    def log(self) -> str:
        return (self.space.root / ".build/logs/cpu.build.log").read_text()

    @contextlib.contextmanager
    def serving(self, fault: str = "") -> Iterator[subprocess.Popen[str]]:
        """A package index on its own host, for the time of a block."""
        host, address = self.index
        with running(host, "package_index", str(self.wheels), address, fault) as process:
            yield process


def add_context(config: Path, engine: SecondEngine) -> None:
    """Name the engine ``second`` for the docker CLI, in a configuration folder of the test's own."""
    command = ["docker", "--config", str(config), "context", "create", "second", "--docker", f"host={engine.host}"]
    subprocess.run(command, check=True, capture_output=True)


def make_small(space: Space, folder: Path, engine: SecondEngine, large: int = 4_000_000) -> SmallSpace:
    """Lock small wheels in a workspace, and render it.

    Args:
        space: a copy of the checkout.
        folder: for the wheels and the docker CLI's configuration.
        engine: with the bootstrapped base in it.
        large: bytes of the one wheel that is not tiny.
    """
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    (folder / "temporary").mkdir()
    (locks,) = (space.root / "dockerfiles/locks").glob("*-cpu")
    for name, requirements in _WHEELS.items():
        pins = []
        for requirement in requirements:
            wheel = make_wheel(wheels, requirement, large if requirement.startswith("large") else 1000)
            pins.append(f"{requirement} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
        inputs = next(line for line in (locks / name).read_text().splitlines() if line.startswith("# inputs:"))
        (locks / name).write_text(sealed(f"{inputs}\n{''.join(pins)}"))
    assert space.images("render").status == 0
    config = folder / "docker"
    add_context(config, engine)
    return SmallSpace(space, wheels, config, engine, index=engine.bridge.add_host())


def add_twin(space: Space) -> None:
    """A second target, ``twin``, that is as ``cpu`` in all but its name."""
    path = space.root / "matrix/matrix.yaml"
    content = yaml.safe_load(path.read_text())
    content["targets"]["twin"] = content["targets"]["cpu"]
    path.write_text(json.dumps(content))  # JSON is YAML, without anchors
    space.lock()
    assert space.images("render").status == 0
