"""The container engine: one engine, seen by the docker CLI (buildx bake) and by the docker SDK alike."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.errors import DockerException
from packaging.version import Version

from images.address import Address, find_address, require_docker
from images.docker_cli import docker_cli, docker_trouble
from matrix.errors import NoEngineError
from matrix.masking import mask

#: The first engine that reads layers compressed with zstd. Source: moby's release notes for 23.0.
ZSTD_SINCE = (23, 0)
_SDK_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers.

    Attributes:
        client: the SDK's client, connected to the engine of the CLI's current context.
        address: where it is; buildx: the version of the CLI's build plugin.
        version: of the engine.
        gpu_runtime: whether containers can be given an NVIDIA GPU.
        containerd_store: whether it keeps images in containerd's store, which takes zstd layers as they are.
        root: where it keeps its data; None where that is another machine's disk, or a virtual machine's.
    """

    client: docker.DockerClient
    address: Address
    version: str
    buildx: str
    gpu_runtime: bool
    containerd_store: bool
    root: str | None = None

    @property
    def host(self) -> str:
        """Its address, ``unix:///var/run/docker.sock``."""
        return self.address.host

    @property
    def context(self) -> str | None:
        """Of the docker CLI, where a builder named another engine than the CLI's own."""
        return self.address.context

    @property
    def reads_zstd(self) -> bool:
        """Whether it can take an image whose layers are compressed with zstd; an unknown version is a new one."""
        found = re.match(r"(\d+)\.(\d+)", self.version)
        return found is None or (int(found[1]), int(found[2])) >= ZSTD_SINCE

    @property
    def free_bytes(self) -> int | None:
        """What is free where it keeps its data; None where that cannot be seen from here."""
        if self.root is None:
            return None
        for folder in (self.root, *map(str, Path(self.root).parents)):
            try:
                return shutil.disk_usage(folder).free
            except OSError:  # the engine makes it with its first image
                continue
        return None


def find_engine(builder: str | None = None) -> Engine:
    """The engine that the docker CLI uses, checked to be the one that the SDK talks to.

    Args:
        builder: the buildx builder that builds. One that is an engine itself (driver ``docker``) keeps what it builds,
            so it is that engine; any other loads its images into the engine of the CLI.

    Raises:
        NoEngineError: no CLI, no buildx, no engine that answers, or two different engines.
        UsageError: no such builder.
    """
    buildx = require_docker()
    address = find_address(builder)
    _knock_over_ssh(address)
    try:
        _knock(address.host)
        client = connect(address)
        info = client.info()
    except (DockerException, OSError) as error:
        raise NoEngineError(
            f"no engine answers at {address.host}: {_first_line(error)}", remedy=address.remedy
        ) from error
    seen = docker_cli(*(["--context", address.context] if address.context else []), "info", "--format", "{{.ID}}")
    if seen is not None and seen != info.get("ID"):
        raise NoEngineError(
            f"the docker CLI talks to engine {seen}, the SDK to {info.get('ID')} at {address.host}",
            remedy="set DOCKER_HOST to the one that you mean",
        )
    return Engine(
        client=client,
        address=address,
        version=str(info.get("ServerVersion", "unknown")),
        buildx=buildx,
        gpu_runtime="nvidia" in info.get("Runtimes", {}),
        containerd_store=any("io.containerd.snapshotter" in str(row) for row in info.get("DriverStatus") or []),
        root=_root(address, info),
    )


def connect(address: Address, timeout_s: int = _SDK_TIMEOUT_S) -> docker.DockerClient:
    """The SDK's client for an address.

    Over ssh with the ssh program, so that its own configuration counts: keys, agents, jumps, known hosts, and the port,
    for which the SDK would take 22 where the address has none.

    Raises:
        DockerException, OSError: nobody answers.
    """
    if address.ssh is None:
        return docker.DockerClient(base_url=address.host, timeout=timeout_s)
    first = _through_ssh(address, DEFAULT_DOCKER_API_VERSION, timeout_s)
    spoken = str(first.version(api_version=False)["ApiVersion"])
    first.close()
    return _through_ssh(address, min(spoken, DEFAULT_DOCKER_API_VERSION, key=Version), timeout_s)


def _through_ssh(address: Address, version: str, timeout_s: int) -> docker.DockerClient:
    client = docker.DockerClient(base_url=address.host, version=version, timeout=timeout_s, use_ssh_client=True)
    adapter: Any = client.api.get_adapter(client.api.base_url)
    adapter.ssh_host = address.host.removeprefix("ssh://").rstrip("/")
    return client


def _root(address: Address, info: Mapping[str, Any]) -> str | None:
    """The folder of an engine's data, if it is one of this machine's: a socket may lead into a virtual machine."""
    here = address.host.startswith("unix://") and info.get("Name") == socket.gethostname()
    return str(info["DockerRootDir"]) if here and info.get("DockerRootDir") else None


def _knock_over_ssh(address: Address) -> None:
    """Ask an engine behind ssh by the docker CLI, which quotes what ssh says: the SDK swallows it.

    Raises:
        NoEngineError: nobody answers, or there is no ssh.
    """
    if address.ssh is None:
        return
    if shutil.which("ssh") is None:
        raise NoEngineError(f"no `ssh` command on PATH to reach {address.host}", remedy="install openssh-client")
    said = docker_trouble("--host", address.host, "version", "--format", "{{.Server.Version}}")
    if said is not None:
        raise NoEngineError(f"no engine answers at {address.host}: {mask(said)}", remedy=address.remedy)


def _knock(host: str) -> None:
    """Connect to a socket of this machine and hang up: the SDK leaks the socket of a connection that is refused.

    Raises:
        OSError: nobody listens there.
    """
    path = host.removeprefix("unix://")
    if path != host:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(10)
            probe.connect(path)


def _first_line(error: Exception) -> str:
    return mask(str(error).splitlines()[0]) if str(error) else type(error).__name__
