"""``python -m images engine``: find, install, start, stop and remove a Docker engine on Debian and Ubuntu.

The distribution's packages when they include buildx; else (Debian 12) those of the next suite, pinned low so that
apt takes the named packages from it and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from images import apt
from images.address import find_address
from images.engine import Engine, find_engine
from matrix.cli import say, tell
from matrix.errors import ExitCode, NoEngineError, WheelwrightError

if TYPE_CHECKING:
    from collections.abc import Callable

NEWER_SUITE = {"bookworm": "trixie"}  # Debian 12 has no docker-buildx; 13's needs only the libc of 12
PACKAGES = ("docker.io", "docker-cli", "docker-buildx", "containerd")
# The containerd image store exports OCI with zstd and keeps attestations; the classic store does neither.
DAEMON_SETTINGS = {"features": {"containerd-snapshotter": True}}
_SOURCES = Path("/etc/apt/sources.list.d/wheelwright-engine.sources")
_PINS = Path("/etc/apt/preferences.d/wheelwright-engine")
_DAEMON_JSON = Path("/etc/docker/daemon.json")
_DATA = (Path("/var/lib/docker"), Path("/var/lib/containerd"))
_PID = Path("/run/wheelwright-dockerd.pid")
_LOG = Path("/var/log/wheelwright-dockerd.log")
_START_S = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's command line."""
    parser.add_argument("action", nargs="?", default="ensure", choices=("ensure", "status", "stop", "remove"))
    parser.add_argument("--yes", action="store_true", help="do not ask on a terminal")


def run(args: argparse.Namespace) -> int:
    """Do what is asked: ``ensure`` (the default) installs and starts what is missing."""
    actions: dict[str, Callable[[], None]] = {
        "ensure": lambda: _report(ensure_engine(assume_yes=args.yes)),
        "status": lambda: _report(find_engine()),
        "stop": stop,
        "remove": lambda: remove(assume_yes=args.yes),
    }
    actions[args.action]()
    return ExitCode.OK


def _report(engine: Engine) -> None:
    tell(f"engine {engine.version} at {engine.host}, buildx {engine.buildx}")


def ensure_engine(*, assume_yes: bool = False) -> Engine:
    """The engine that is there, or one that is started, or one that is installed and started.

    Raises:
        NoEngineError: there is none, and it cannot be installed here: the message says why.
    """
    try:
        return find_engine()
    except NoEngineError as error:
        if shutil.which("docker") is not None and find_address(None).named is not None:
            raise  # somebody means another engine than the one that would be installed here
        say(f"{error.what}")
        if (why := apt.can_install()) is not None:
            raise NoEngineError(f"{error.what}, and none can be installed: {why}", remedy=error.remedy) from error
    if shutil.which("dockerd") is None or not _has_buildx():
        apt.confirm("install a Docker engine from this distribution's packages?", assume_yes=assume_yes)
        install()
    start()
    return find_engine()


def install() -> None:
    """Install the engine's packages; ``remove`` undoes it."""
    state = apt.HostState.load()
    apt.update()
    if apt.candidate("docker-buildx") is None:
        _add_newer_suite(state)
        apt.update()
    for folder in _DATA:
        if not folder.exists() and str(folder) not in state.files:
            state.files.append(str(folder))
    if not _DAEMON_JSON.exists():
        state.write_file(_DAEMON_JSON, json.dumps(DAEMON_SETTINGS) + "\n")
    apt.install([name for name in PACKAGES if apt.candidate(name)], state)


def _add_newer_suite(state: apt.HostState) -> None:
    codename = _os_release().get("VERSION_CODENAME", "")
    suite = NEWER_SUITE.get(codename)
    if suite is None:
        raise NoEngineError(
            f"the packages of {codename or 'this distribution'} have no docker-buildx",
            remedy="install Docker with buildx yourself: docs.docker.com/engine/install",
        )
    say(f"{codename} has no docker-buildx: taking {', '.join(PACKAGES)} from {suite}, and nothing else from it")
    state.write_file(
        _SOURCES,
        f"# written by `make engine`; `make engine-remove` removes it\nTypes: deb\nURIs: {_debian_mirror()}\n"
        f"Suites: {suite}\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
    )
    pin = f"Pin: release n={suite}\nPin-Priority:"
    # Below 100: never an upgrade of what is installed. 500: as good as the machine's own suite.
    state.write_file(_PINS, f"Package: *\n{pin} 1\n\nPackage: {' '.join(PACKAGES)}\n{pin} 500\n")


def _debian_mirror() -> str:
    """The archive that this machine already uses: a mirror that works here, whatever its name."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(CODENAME)"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    codename = _os_release().get("VERSION_CODENAME")
    for line in listed.splitlines():
        site, release, *rest = line.split()
        if codename in (release, *rest):
            return site
    raise NoEngineError("apt's sources name no archive of this release", remedy="see /etc/apt/sources.list.d")


def start() -> None:
    """Start the installed engine: through systemd where it runs, else by hand, logging to a file.

    Raises:
        NoEngineError: it does not answer in time; the end of its log is shown.
    """
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "restart", "docker"], check=False)
    else:
        say(f"starting dockerd; its log: {_LOG}")
        with _LOG.open("ab") as log:
            process = subprocess.Popen(
                ["dockerd"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        _PID.write_text(f"{process.pid}\n", encoding="utf-8")
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        try:
            find_engine()
        except NoEngineError:
            time.sleep(0.5)
        else:
            return
    tail = _LOG.read_text(errors="replace").splitlines()[-5:] if _LOG.is_file() else []
    raise NoEngineError(f"the engine did not answer in {_START_S} s", said=tail, remedy=f"read {_LOG}")


def stop() -> None:
    """Stop the engine that ``start`` started by hand (never another one)."""
    pid = _own_pid()
    if pid is None:
        say("no engine of ours runs")
        return
    os.kill(pid, signal.SIGTERM)
    for _ in range(120):
        if not _is_dockerd(pid):
            break
        time.sleep(0.25)
    else:
        raise WheelwrightError(f"dockerd (process {pid}) is still there 30 s after SIGTERM", remedy=f"read {_LOG}")
    _PID.unlink(missing_ok=True)
    say("engine stopped")


def remove(*, assume_yes: bool = False) -> None:
    """Undo ``install``: packages, settings and the engine's data (its images too)."""
    state = apt.HostState.load()
    if not state.packages and not state.files:
        say("nothing to remove: `make engine` installed nothing here")
        return
    apt.confirm(f"remove {' '.join(state.packages)} and {' '.join(state.files)}?", assume_yes=assume_yes)
    if _own_pid() is not None:
        stop()
    apt.remove(state)
    _LOG.unlink(missing_ok=True)


def _own_pid() -> int | None:
    if not _PID.is_file():
        return None
    pid = int(_PID.read_text(encoding="utf-8"))
    return pid if _is_dockerd(pid) else None


def _is_dockerd(pid: int) -> bool:
    # A process id is reused: only a process that is dockerd is ours. A zombie has ended.
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return "(dockerd)" in stat and stat.rpartition(")")[2].split()[0] != "Z"


def _has_buildx() -> bool:
    done = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False)
    return done.returncode == 0


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}
