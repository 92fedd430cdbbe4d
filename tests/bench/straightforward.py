"""The other side of `make bench-images`: one stage, the code copied, `pip install`; as most repositories do it.

What it gets from this host travels as build secrets and mounts, none of which a layer keeps: pip.conf and the CA
bundle, wheels that only this host has, and pip itself, which a bootstrapped base lacks (so its 12 MB are not counted).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pip

from images.hostsettings import HostSettings
from images.requirement_files import Pin
from matrix.masking import mask

# In the text of each big step, so that its build cache can be found and removed.
MARK = "/run/wheelwright-bench"
REPOSITORY = "wheelwright-bench-straightforward"
LABEL = "wheelwright.target=bench-straightforward"
WHEELS, PIP = "wheelwright-bench-wheels", "wheelwright-bench-pip"


def dockerfile(base: str, *, requirements_first: bool = False, devel: bool = False) -> str:
    """The Dockerfile: ``requirements_first`` copies the code last; ``devel`` adds a compiler."""
    mounts = [
        "type=secret,id=pip-conf,target=/etc/pip.conf",
        "type=secret,id=ca,target=/run/secrets/ca",
        f"type=bind,from={WHEELS},target={MARK}/wheels",
        f"type=bind,from={PIP},target={MARK}/pip",
    ]
    install = [
        f"RUN {' '.join(f'--mount={mount}' for mount in mounts)} \\",
        f"    PYTHONPATH={MARK}/pip python3 -m pip install -r requirements.txt",
    ]
    compiler = [f"RUN : {MARK} && apt-get update && apt-get install -y g++"] if devel else []
    copies = [["COPY requirements.txt ."], ["COPY . ."]] if requirements_first else [["COPY . ."], []]
    end = ["EXPOSE 8000", 'CMD ["python3", "-m", "serve"]']
    return "\n".join([f"FROM {base}", *compiler, "WORKDIR /app", *copies[0], *install, *copies[1], *end]) + "\n"


def requirements(pins: Iterable[Pin], *more: str) -> str:
    """The same versions, no hashes: what else their packages ask for, pip takes too."""
    return "".join(f"{line}\n" for line in (*sorted(f"{pin.name}=={pin.version}" for pin in pins), *more))


def pip_conf(settings: HostSettings, origins: Iterable[str]) -> str:
    """This host's settings for a pip in a build; Debian's own Python is told that the container is ours."""
    rows = {
        "index-url": settings.index,
        "extra-index-url": " ".join([*settings.remote_indexes(), *origins]),
        "find-links": " ".join([f"{MARK}/wheels", *settings.remote_find_links()]),
        "cert": "/run/secrets/ca" if settings.ca_bundle else None,
        "proxy": dict(settings.proxies).get("HTTPS_PROXY"),
        "timeout": "180",
        "break-system-packages": "true",
        "disable-pip-version-check": "true",
        "root-user-action": "ignore",
    }
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in rows.items() if value)


@dataclass
class Straightforward:
    """The straightforward image of a stack, in a folder of its own.

    Attributes:
        contexts: named contexts of the build: name -> folder or ``docker-image://...``.
        pins: what is installed; second: the requirement that the second image has more.
    """

    name: str
    root: Path
    text: str
    pins: list[Pin]
    second: str
    serve: Path
    contexts: dict[str, str]
    conf: str
    ca_bundle: Path | None

    def prepare(self) -> None:
        """Write the build context, the secrets and pip."""
        context = self.root / "context"
        shutil.copytree(self.serve, context / "serve", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(Path(pip.__file__).parent, self.root / "pip" / "pip")
        (self.root / "Dockerfile").write_text(self.text)
        (self.root / "pip.conf").write_text(self.conf)
        self.contexts[PIP] = str(self.root / "pip")

    def change(self) -> None:
        """Change one line of the service."""
        with (self.root / "context" / "serve" / "app.py").open("a") as file:
            file.write("# changed\n")

    def build(self, image: str, *, cached: bool = True) -> float:
        """Build ``first`` or ``second`` into the engine; seconds."""
        listed = requirements(self.pins, *([self.second] if image == "second" else []))
        (self.root / "context" / "requirements.txt").write_text(listed)
        command = [
            "docker", "buildx", "build", "--progress=plain", *([] if cached else ["--no-cache"]),
            *(f"--build-context={name}={place}" for name, place in self.contexts.items()),
            f"--secret=id=pip-conf,src={self.root / 'pip.conf'}",
            *([f"--secret=id=ca,src={self.ca_bundle}"] if self.ca_bundle else []),
            f"--label={LABEL}", f"--tag={self.tag(image)}", "--load",
            f"--file={self.root / 'Dockerfile'}", str(self.root / "context"),
        ]  # fmt: skip
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(f"{self.name}: buildx ended with {done.returncode}:\n{mask(done.stderr)[-3000:]}")
        return seconds

    def tag(self, image: str) -> str:
        """The image's name in the engine."""
        return f"{REPOSITORY}:{image}"


def prune() -> None:
    """Remove the build cache of these images from the engine, gigabytes each; nobody else's."""
    listed = subprocess.run(["docker", "buildx", "du", "--verbose"], capture_output=True, text=True, check=False).stdout
    for record in marked(listed):  # buildx takes one id a call
        command = ["docker", "buildx", "prune", "--force", "--all", f"--filter=id={record}"]
        subprocess.run(command, capture_output=True, check=False)


def marked(listed: str) -> list[str]:
    """The ids of the records with the mark and of all that is built on them, the last first: no other can go.

    Args:
        listed: what ``docker buildx du --verbose`` prints.
    """
    records = [
        dict(re.findall(r"^(ID|Parents?|Created at|Description):\s*(.*?)\s*$", text, re.MULTILINE))
        for text in listed.split("\n\n")
    ]
    found: list[str] = []
    for record in sorted(records, key=lambda record: record.get("Created at", "")):
        above = record.get("Parent", record.get("Parents", "")).replace(",", " ").split()
        if Path(MARK).name in record.get("Description", "") or set(above) & set(found):
            found.append(record["ID"].rstrip("*"))
    return found[::-1]
