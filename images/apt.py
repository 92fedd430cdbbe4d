"""Debian packages that the tools need on the host: installed so that nothing else on the machine changes.

Before anything is installed, apt simulates it; if the plan would upgrade or remove a package that is there already,
nothing is done and the plan is shown. (``apt-get install -t trixie docker.io`` on Debian 12 does just that: it
upgrades libc6, dpkg and 25 more.) What was installed is recorded, so that it can be undone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from matrix.cli import say
from matrix.errors import WheelwrightError
from matrix.masking import mask

STATE = Path("/var/lib/wheelwright/host.json")


@dataclass(slots=True)
class HostState:
    """What these tools put on this host: packages, and files with the folders that came with them."""

    packages: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path = STATE) -> HostState:
        """Read the record; an absent one is empty."""
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else cls()

    def save(self, path: Path = STATE) -> None:
        """Write the record, atomically; an empty one is removed."""
        if not self.packages and not self.files:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        new.replace(path)

    def write_file(self, path: Path, text: str) -> None:
        """Write a file that was not there before, and record it first: a half-done install can be undone."""
        if path.exists() and str(path) not in self.files:
            raise WheelwrightError(f"{path} exists already and is not ours", remedy="look at it and move it away")
        if str(path) not in self.files:
            self.files.append(str(path))
        self.save()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def can_install() -> str | None:
    """Why packages cannot be installed here, or None when they can."""
    if not sys.platform.startswith("linux") or shutil.which("apt-get") is None:
        return "this is not a Debian or Ubuntu machine"
    if os.geteuid() != 0:
        return "this is not root"
    return None


def confirm(question: str, *, assume_yes: bool) -> None:
    """Ask on a terminal; without one the call itself was the decision.

    Raises:
        WheelwrightError: the answer was no.
    """
    if assume_yes or not sys.stdin.isatty():
        say(question.rstrip("?") + ": yes")
        return
    say(f"{question} [y/N]")
    if input().strip().lower() not in ("y", "yes"):
        raise WheelwrightError("not installed: you said no", remedy="run it again and answer y")


def candidate(package: str) -> str | None:
    """The version that apt would install, or None."""
    listing = _apt("apt-cache", "policy", package, check=False)
    match = re.search(r"Candidate: (\S+)", listing)
    return None if match is None or match[1] == "(none)" else match[1]


def update() -> None:
    """Refresh apt's lists."""
    _apt("apt-get", "update", "-q")


def install(packages: list[str], state: HostState) -> None:
    """Install packages and what they need, and nothing else.

    Raises:
        WheelwrightError: apt failed, or its plan would change a package that is installed.
    """
    options = ["-y", "-q", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0"]
    planned = _apt("apt-get", "install", "-s", *options, *packages)
    # "Inst NAME (NEW ...)" is new, "Inst NAME [OLD] (NEW ...)" an upgrade, "Remv NAME" a removal.
    changed = re.findall(r"^(?:Inst \S+ \[.*|Remv .*)$", planned, re.MULTILINE)
    if changed:
        raise WheelwrightError(
            f"installing {' '.join(packages)} would change packages that this machine has",
            said=changed,
            remedy="install an engine yourself (docs.docker.com/engine/install), then run this again",
        )
    new = re.findall(r"^Inst (\S+) \(", planned, re.MULTILINE)
    if not new:
        return
    say(f"installing {' '.join(new)}")
    state.packages += [name for name in new if name not in state.packages]
    state.save()
    _apt("apt-get", "install", *options, *packages)


def remove(state: HostState) -> None:
    """Undo: purge the recorded packages, but for those that others have come to need, and remove the recorded files."""
    recorded = set(state.packages)
    ours = [name for name in state.packages if _removed_with(name) <= recorded]
    if kept := recorded.difference(ours):
        say(f"kept, since packages that came later need them: {' '.join(sorted(kept))}")
    if ours:
        say(f"removing {' '.join(ours)}")
        _apt("apt-get", "purge", "-y", "-q", "-o", "Dpkg::Use-Pty=0", *ours)
    state.packages.clear()
    state.save()
    for name in list(state.files):
        path = Path(name)
        if path.is_dir():
            _unmount_below(path)
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        state.files.remove(name)
        state.save()


def _removed_with(package: str) -> set[str]:
    """What apt would remove along with a package, and the package."""
    planned = _apt("apt-get", "purge", "-s", "-q", package, check=False)
    return set(re.findall(r"^(?:Purg|Remv) (\S+)", planned, re.MULTILINE))


def _unmount_below(folder: Path) -> None:
    """dockerd leaves its data folder mounted on itself."""
    # Column 2 of /proc/mounts, with space, tab, newline and backslash in octal (proc(5)).
    places = [
        re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), line.split()[1])
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    ]
    for place in sorted({p for p in places if Path(p).is_relative_to(folder)}, reverse=True):
        done = subprocess.run(["umount", place], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise WheelwrightError(f"{place} is still mounted: {done.stderr.strip()}", remedy=f"umount {place}")


def _apt(*command: str, check: bool = True) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if check and done.returncode != 0:
        tail = mask((done.stderr or done.stdout).strip()).splitlines()[-8:]  # apt shows its proxy's URL
        raise WheelwrightError(f"`{' '.join(command)}` failed with status {done.returncode}", said=tail)
    return done.stdout
