"""Which engine is meant: its address, who names it, and what to do where it does not answer."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass

from images.docker_cli import docker_cli
from matrix.errors import NoEngineError, UsageError

INSTALL_HINT = "install and start one: make engine (as root on Debian or Ubuntu), or point DOCKER_HOST at one"
LOCAL = "unix:///var/run/docker.sock"
PODMAN = (
    "podman does not build these images: `docker buildx bake` needs BuildKit, which podman has not. What was built "
    "elsewhere runs under podman as it is"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where an engine is.

    Attributes:
        host: ``unix:///var/run/docker.sock``, ``ssh://me@big``, ``tcp://...``.
        named: who says so, as in "DOCKER_HOST"; None for the docker CLI's own default.
        context: of the docker CLI, where a builder named it.
    """

    host: str
    named: str | None = None
    context: str | None = None

    @property
    def ssh(self) -> str | None:
        """What ssh is called with, ``me@big`` or ``ssh://me@big:2222``; None for an address of another kind."""
        if not self.host.startswith("ssh://"):
            return None
        rest = self.host.removeprefix("ssh://").rstrip("/")
        return f"ssh://{rest}" if ":" in rest else rest

    @property
    def is_here(self) -> bool:
        """Whether it is the engine of this machine that ``make engine`` would install."""
        return self.host == LOCAL

    @property
    def remedy(self) -> str:
        """What to do where nobody answers there: about that machine, and not about this one."""
        if self.ssh is not None:
            return (
                f"see what `ssh {self.ssh} docker version` says: it must answer without a question (key in an agent "
                f"or a file, host in known_hosts), and docker must be there; {self._other}"
            )
        if self.is_here and self.named is None:
            return INSTALL_HINT
        if self.host.startswith("unix://"):
            return f"start the engine of that socket; {self._other}"
        return f"see whether the engine runs there and can be reached; {self._other}"

    @property
    def _other(self) -> str:
        named = self.named or "the docker CLI's current context"
        how = {"DOCKER_HOST": "change or unset DOCKER_HOST", "DOCKER_CONTEXT": "change or unset DOCKER_CONTEXT"}
        return f"{named} names it: {how.get(named, 'choose another with --builder, or `docker context use default`')}"


def find_address(builder: str | None) -> Address:
    """The engine that a builder is, or that of the CLI; there DOCKER_HOST wins, as it does for the CLI.

    Raises:
        UsageError: buildx has no such builder, or the docker CLI no such context.
    """
    context = _builder_context(builder or os.environ.get("BUILDX_BUILDER"))
    if context is not None:
        return Address(_context_host(context), f"builder {builder or context}", context)
    if host := os.environ.get("DOCKER_HOST"):
        return Address(host, "DOCKER_HOST")
    current = docker_cli("context", "show")
    named = "DOCKER_CONTEXT" if os.environ.get("DOCKER_CONTEXT") else f"docker context {current}"
    return Address(_context_host(None), None if current in {None, "default"} else named)


def require_docker() -> str:
    """See that the docker CLI is there with its build plugin; the plugin's version.

    Raises:
        NoEngineError: one is not, or podman stands in for them.
    """
    podman = shutil.which("podman") is not None
    if shutil.which("docker") is None:
        found = "; podman is" if podman else ""
        raise NoEngineError(f"no `docker` command on PATH{found}", remedy=_with_podman(podman))
    buildx = docker_cli("buildx", "version")
    if buildx is not None and "buildah" in buildx.lower():
        raise NoEngineError("the `docker` command here is podman's", remedy=_with_podman(podman=True))
    if buildx is None:
        raise NoEngineError("the docker CLI has no buildx plugin, which builds the images", remedy=_with_podman(podman))
    words = buildx.split()
    return words[1] if len(words) > 1 else buildx


def _with_podman(podman: bool) -> str:
    return f"{PODMAN}. {INSTALL_HINT}" if podman else INSTALL_HINT


def _builder_context(builder: str | None) -> str | None:
    """The context of a builder that is an engine; None for the CLI's own, and for builders of other drivers."""
    if builder is None:
        return None
    shown = docker_cli("buildx", "inspect", builder)
    if shown is None:
        raise UsageError(f"buildx has no builder {builder!r}", remedy="docker buildx ls")
    fields = dict(line.split(":", 1) for line in shown.splitlines() if ":" in line)
    if not fields.get("Driver", "").strip() and docker_cli("context", "inspect", builder) is not None:
        return builder  # an engine that gives no answer: buildx then names neither driver nor endpoint
    endpoint = fields.get("Endpoint", "").strip()
    return endpoint if fields.get("Driver", "").strip() == "docker" and endpoint != "default" else None


def _context_host(context: str | None) -> str:
    shown = docker_cli(
        "context", "inspect", *([context] if context else []), "--format", "{{json .Endpoints.docker.Host}}"
    )
    named = context or os.environ.get("DOCKER_CONTEXT")
    if shown is None and named:  # the engine of this machine in its place is not what was asked for
        raise UsageError(f"the docker CLI has no context {named!r}", remedy="docker context ls")
    host = json.loads(shown) if shown else ""
    return host or LOCAL
