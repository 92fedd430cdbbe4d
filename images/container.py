"""Containers for smoke tests: tracked, hardened as in production, gone when their block ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.types import DeviceRequest

from images.engine import Engine
from images.tunnel import tunnel
from matrix import tree
from matrix.errors import WheelwrightError

PORT = "8000/tcp"
_LABEL = "wheelwright.smoke"


class TrackedContainer:
    """One container of an image, started on entry, its log kept and itself removed on exit.

    It runs as the README tells users to run it: with an init, no capabilities, no new privileges, a read-only root.
    """

    def __init__(
        self,
        engine: Engine,
        image: str,
        *,
        log: Path,
        command: Sequence[str] | None = None,
        environment: dict[str, str] | None = None,
        volumes: dict[str, str] | None = None,
        publish: bool = False,
        user: str | None = None,
    ) -> None:
        """Describe it.

        Args:
            volumes: name -> mount point.
            publish: its port on a free one of the loopback.
            user: another than the image's own.
        """
        self._engine = engine
        self._log = log
        self._container: Container | None = None
        self._tunnels = contextlib.ExitStack()
        self._url: str | None = None
        self._arguments: dict[str, Any] = {
            "image": image,
            "command": list(command) if command else None,
            "environment": environment or {},
            "user": user,
            "volumes": {name: {"bind": place, "mode": "rw"} for name, place in (volumes or {}).items()},
            "ports": {PORT: ("127.0.0.1", None)} if publish else {},
            "labels": {_LABEL: "1"},
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "read_only": True,
            "init": True,
            "tmpfs": {"/tmp": "size=256m"},  # noqa: S108 - the container's own
            "device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])] if engine.gpu_runtime else [],
        }

    def __enter__(self) -> Self:
        """Create and start it."""
        self._container = self._engine.client.containers.create(**self._arguments)
        self._container.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep its log; remove it, running or not."""
        container = self.container
        self._tunnels.close()
        with contextlib.suppress(NotFound, APIError), tree.open_file(self._log, "ab") as file:
            file.write(container.logs(timestamps=False))
        with contextlib.suppress(NotFound):
            container.remove(force=True, v=True)

    @property
    def container(self) -> Container:
        """The SDK's object.

        Raises:
            RuntimeError: outside of the block.
        """
        if self._container is None:
            raise RuntimeError("the container is not started")
        return self._container

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        self.container.reload()
        return bool(self.container.status == "running")

    def url(self) -> str:
        """Where its published port answers, from here: through ssh where the engine is reached so."""
        if self._url is None:
            self.container.reload()
            binding = (self.container.ports.get(PORT) or [{}])[0].get("HostPort")
            if not binding:
                raise WheelwrightError(f"the container publishes no port: {self.log_tail()}")
            address = self._engine.address
            if address.ssh is not None:
                self._url = f"http://127.0.0.1:{self._tunnels.enter_context(tunnel(address.ssh, int(binding)))}"
            else:
                host = urlsplit(address.host).hostname if address.host.startswith("tcp:") else "127.0.0.1"
                self._url = f"http://{host}:{binding}"
        return self._url

    def wait(self, seconds: float) -> int:
        """Wait for its end; its exit status.

        Raises:
            WheelwrightError: it is still there after that time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.running:
                return int(self.container.attrs["State"]["ExitCode"])
            time.sleep(0.1)
        raise WheelwrightError(f"the container did not end in {seconds:.0f} s: {self.log_tail()}")

    def output(self) -> str:
        """What it wrote to stdout."""
        return str(self.container.logs(stdout=True, stderr=False).decode(errors="replace"))

    def log_text(self) -> str:
        """All that it wrote."""
        return str(self.container.logs().decode(errors="replace"))

    def log_tail(self) -> str:
        """The last lines that it wrote, on one line."""
        return " | ".join(self.log_text().splitlines()[-5:])[-600:]


@contextlib.contextmanager
def scratch_volume(engine: Engine) -> Iterator[str]:
    """A volume for the time of a block; its name."""
    volume = engine.client.volumes.create(labels={_LABEL: "1"})
    try:
        yield str(volume.name)
    finally:
        with contextlib.suppress(NotFound):
            volume.remove(force=True)
