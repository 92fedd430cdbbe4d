"""A second Docker engine on this machine, with data, processes, socket and bridge of its own: a remote one in tests.

It lives in a mount and a process namespace: when its first process ends, so do its containerd and its containers, and
their mounts are gone. Its builds reach hosts on its bridge (a network namespace each), and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TOOLS = ("dockerd", "ip", "iptables", "nsenter", "unshare")
_START_S = 60
# A systemd machine's own containerd must not serve it, or the data would lie there.
_SCRIPT = """
mkdir -p /run/containerd && mount -t tmpfs tmpfs /run/containerd
if [ -n "$SIZE" ]; then mount -t tmpfs -o "size=$SIZE" tmpfs "$DATA"; fi
exec dockerd "$@"
"""


def cannot_start() -> str | None:
    """Why no second engine can be started here; None when one can."""
    if os.geteuid() != 0:
        return "a second engine needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"a second engine needs {', '.join(missing)}" if missing else None


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout


@dataclass
class Bridge:
    """A bridge with a free /24, and hosts on it that are network namespaces."""

    name: str
    prefix: str
    hosts: list[str] = field(default_factory=list)

    def add_host(self) -> tuple[str, str]:
        """A host on the bridge: the network namespace's name, and its address."""
        number = len(self.hosts) + 2
        host, address, link = f"{self.name}-{number}", f"{self.prefix}.{number}", f"{self.name}v{number}"
        ip("netns", "add", host)
        self.hosts.append(host)
        ip("link", "add", link, "master", self.name, "up", "type", "veth", "peer", "name", "eth0", "netns", host)
        ip("-n", host, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", host, "link", "set", "eth0", "up")
        return host, address


@contextlib.contextmanager
def bridged() -> Iterator[Bridge]:
    """A bridge for the time of a block."""
    taken = ip("-brief", "address")
    number = next(n for n in range(1, 255) if f" 10.213.{n}.1/" not in taken)
    bridge = Bridge(f"wwt{number}", f"10.213.{number}")
    # The other engine's firewall drops what it does not know, between ports of one bridge too.
    rule = ["FORWARD", "--in-interface", bridge.name, "--out-interface", bridge.name, "--jump", "ACCEPT"]
    ip("link", "add", bridge.name, "type", "bridge")
    try:
        subprocess.run(["iptables", "--wait", "--insert", *rule], check=True)
        ip("addr", "add", f"{bridge.prefix}.1/24", "dev", bridge.name)
        ip("link", "set", bridge.name, "up")
        yield bridge
    finally:
        for host in bridge.hosts:
            ip("netns", "delete", host)
        subprocess.run(["iptables", "--wait", "--delete", *rule], check=False)
        ip("link", "delete", bridge.name)


@dataclass
class SecondEngine:
    """The engine.

    Attributes:
        folder: of its data and its sockets, whose paths may have 104 characters.
        size: of a tmpfs that its data lies on, ``600m``; empty for the folder's own disk.
        containerd_store: as in ``images.engine.Engine``.
    """

    folder: Path
    bridge: Bridge
    size: str = ""
    containerd_store: bool = True
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    def start(self) -> None:
        """Start it on the data that is there; ends when it answers."""
        run = self.folder / "run"
        shutil.rmtree(run, ignore_errors=True)  # as a boot does: the process ids in there mean nothing now
        for path in (run, self.folder / "data"):
            path.mkdir(parents=True, exist_ok=True)
        settings = {
            "features": {"containerd-snapshotter": self.containerd_store},
            "data-root": str(self.folder / "data"),
            "exec-root": str(run),
            "pidfile": str(run / "docker.pid"),
            "hosts": [self.host],
            "bridge": self.bridge.name,
            "fixed-cidr": f"{self.bridge.prefix}.128/25",
            "iptables": False,
            "ip6tables": False,
            "ip-masq": False,
            "cgroup-parent": f"/{self.bridge.name}",
            "insecure-registries": [f"{self.bridge.prefix}.0/24"],
        }
        (self.folder / "daemon.json").write_text(json.dumps(settings))
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", _SCRIPT, "sh"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--config-file", str(self.folder / "daemon.json")],
                env=os.environ | {"SIZE": self.size, "DATA": str(self.folder / "data")},
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.1)

    def _answers(self) -> bool:
        answer = subprocess.run(["docker", "--host", self.host, "version"], capture_output=True, check=False)
        return answer.returncode == 0

    def kill(self) -> None:
        """End it as a power cut does: SIGKILL, for its containerd and containers too."""
        if self.process is None:
            return
        if self.process.poll() is None:
            os.kill(self._dockerd(), signal.SIGKILL)
        self.process.wait()
        self.process = None

    def empty(self) -> None:
        """Lose all data, as if it were another engine."""
        self.kill()
        shutil.rmtree(self.folder / "data")
        self.start()

    def grow(self, size: str) -> None:
        """Give its tmpfs another size while it runs."""
        mount = ["mount", "-o", f"remount,size={size}", str(self.folder / "data")]
        subprocess.run(["nsenter", "--target", str(self._dockerd()), "--mount", *mount], check=True)

    def load(self, archive: Path) -> None:
        """``docker load`` of what another engine saved."""
        subprocess.run(["docker", "--host", self.host, "load", "--input", str(archive)], check=True)

    def layers(self, tag: str) -> list[str]:
        """The digests of an image's layers, unpacked, the lowest first."""
        command = ["docker", "--host", self.host, "image", "inspect", "--format", "{{json .RootFS.Layers}}", tag]
        layers: list[str] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return layers

    def has(self, tag: str) -> bool:
        """Whether it has an image."""
        command = ["docker", "--host", self.host, "image", "inspect", tag]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _dockerd(self) -> int:
        assert self.process is not None
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def remove(self) -> None:
        """End it, and remove all that it made."""
        self.kill()
        shutil.rmtree(self.folder)
        for group in sorted(Path("/sys/fs/cgroup").glob(f"**/{self.bridge.name}/**/"), reverse=True):
            with contextlib.suppress(OSError):
                group.rmdir()


@contextlib.contextmanager
def second_engine(folder: Path, size: str = "", *, containerd_store: bool = True) -> Iterator[SecondEngine]:
    """A second engine for the time of a block; nothing of it stays."""
    with bridged() as bridge:
        engine = SecondEngine(folder, bridge, size, containerd_store)
        try:
            engine.start()
            yield engine
        finally:
            engine.remove()
