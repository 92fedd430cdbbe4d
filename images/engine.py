"""The container engine: one engine, seen by the docker CLI (buildx bake) and by the docker SDK alike."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass

import docker
from docker.errors import DockerException

from matrix.errors import NoEngineError, UsageError, WheelwrightError
from matrix.masking import mask

INSTALL_HINT = "install and start one: make engine (as root on Debian or Ubuntu), or point DOCKER_HOST at one"


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers.

    Attributes:
        client: the SDK's client, connected to the engine of the CLI's current context.
        host: its address, ``unix:///var/run/docker.sock``.
        version: of the engine; buildx: of the CLI's build plugin.
        gpu_runtime: whether containers can be given an NVIDIA GPU.
        context: of the docker CLI, where a builder named another engine than the CLI's own.
        containerd_store: whether it keeps images in containerd's store, which takes zstd layers as they are.
    """

    client: docker.DockerClient
    host: str
    version: str
    buildx: str
    gpu_runtime: bool
    containerd_store: bool
    context: str | None = None


def find_engine(builder: str | None = None) -> Engine:
    """The engine that the docker CLI uses, checked to be the one that the SDK talks to.

    Args:
        builder: the buildx builder that builds. One that is an engine itself (driver ``docker``) keeps what it builds,
            so it is that engine; any other loads its images into the engine of the CLI.

    Raises:
        NoEngineError: no CLI, no buildx, no engine that answers, or two different engines.
        UsageError: no such builder.
    """
    if shutil.which("docker") is None:
        raise NoEngineError("no `docker` command on PATH", remedy=INSTALL_HINT)
    buildx = _cli("buildx", "version")
    if buildx is None:
        raise NoEngineError("the docker CLI has no buildx plugin, which builds the images", remedy=INSTALL_HINT)
    context = _builder_context(builder or os.environ.get("BUILDX_BUILDER"))
    host = _context_host(context)
    try:
        _knock(host)
        client = docker.DockerClient(base_url=host, timeout=600)
        info = client.info()
    except (DockerException, OSError) as error:
        raise NoEngineError(f"no engine answers at {host}: {_first_line(error)}", remedy=INSTALL_HINT) from error
    seen = _cli(*(["--context", context] if context else []), "info", "--format", "{{.ID}}")
    if seen is not None and seen != info.get("ID"):
        raise NoEngineError(
            f"the docker CLI talks to engine {seen}, the SDK to {info.get('ID')} at {host}",
            remedy="set DOCKER_HOST to the one that you mean",
        )
    return Engine(
        client=client,
        host=host,
        version=str(info.get("ServerVersion", "unknown")),
        buildx=buildx.split()[1] if len(buildx.split()) > 1 else buildx,
        gpu_runtime="nvidia" in info.get("Runtimes", {}),
        containerd_store=any("io.containerd.snapshotter" in str(row) for row in info.get("DriverStatus") or []),
        context=context,
    )


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


def _builder_context(builder: str | None) -> str | None:
    """The context of a builder that is an engine; None for the CLI's own, and for builders of other drivers."""
    if builder is None:
        return None
    shown = _cli("buildx", "inspect", builder)
    if shown is None:
        raise UsageError(f"buildx has no builder {builder!r}", remedy="docker buildx ls")
    fields = dict(line.split(":", 1) for line in shown.splitlines() if ":" in line)
    endpoint = fields.get("Endpoint", "").strip()
    return endpoint if fields.get("Driver", "").strip() == "docker" and endpoint != "default" else None


def _context_host(context: str | None) -> str:
    """The address of a context, or of the CLI's current one; there DOCKER_HOST wins, as it does for the CLI."""
    if context is None and (host := os.environ.get("DOCKER_HOST")):
        return host
    shown = _cli("context", "inspect", *([context] if context else []), "--format", "{{json .Endpoints.docker.Host}}")
    host = json.loads(shown) if shown else ""
    return host or "unix:///var/run/docker.sock"


def _cli(*arguments: str) -> str | None:
    """What ``docker ARGUMENTS`` prints, or None when it fails."""
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=60)
    except subprocess.TimeoutExpired as error:
        raise WheelwrightError(
            f"`docker {' '.join(arguments)}` gave no answer in 60 s", remedy="see whether the engine hangs: docker info"
        ) from error
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else None


def _first_line(error: Exception) -> str:
    return mask(str(error).splitlines()[0]) if str(error) else type(error).__name__
