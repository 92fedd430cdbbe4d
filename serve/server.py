"""The process around the app: one socket from the first moment, an orderly end on SIGTERM, an exit status."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType

import uvicorn

from serve.api.app import create_app
from serve.errors import INTERRUPTED, SettingsError
from serve.image import Image
from serve.logs import line_format
from serve.service import Service
from serve.settings import Settings

log = logging.getLogger(__name__)

# After the drain, answers that are already made get this long to leave; then the process goes, whatever hangs.
# WW_DRAIN_S (8 by default) and both together stay under 10 s, which is what container engines give.
CLOSE_S = 1
LAST_S = 1.5


class DrainingServer(uvicorn.Server):
    """A uvicorn that keeps answering probes while it drains, and stops when the model cannot be loaded."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service
        self.signal: int | None = None
        self._deadline = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """On the first signal stop taking work; on the second, go at once."""
        if self.signal is not None:
            os._exit(self.exit_status())
        self.signal = sig
        self.service.state.drain()
        drain_s = self.service.settings.drain_s
        self._deadline = time.monotonic() + drain_s
        # Not even a hung event loop may keep the process: a thread of its own ends it.
        last = threading.Timer(drain_s + LAST_S, os._exit, [self.exit_status()])
        last.daemon = True
        last.start()

    async def on_tick(self, counter: int) -> bool:
        """Asked ten times a second whether to stop."""
        if self.service.state.failure is not None:
            return True
        if self.signal is not None:
            expired = time.monotonic() >= self._deadline
            if expired and self.service.pending:
                log.warning("%s requests are cut off: WW_DRAIN_S is over", self.service.pending)
                self.service.cut_off()
            return expired or not (self.service.pending or self._is_sending())
        return await super().on_tick(counter)

    def _is_sending(self) -> bool:
        """Whether callers who read slowly have not got all of their answers."""
        return any(connection.transport.get_write_buffer_size() for connection in self.server_state.connections)

    def exit_status(self) -> int:
        """0 after SIGTERM, 130 after Ctrl-C, the error's own after a failed start."""
        failure = self.service.state.failure
        if failure is not None:
            return failure.exit_code
        return INTERRUPTED if self.signal == signal.SIGINT else 0


def open_socket(settings: Settings) -> socket.socket:
    """Bind and listen.

    Raises:
        SettingsError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise SettingsError(
            f"WW_HOST={settings.host} WW_PORT={settings.port} cannot be listened on: {error.strerror or error}",
            remedy="stop what listens there, or choose another port",
        ) from error


def serve(settings: Settings, image: Image | None, listener: socket.socket) -> int:
    """Serve until a signal or a failed start; returns the exit status."""
    service = Service(settings, image)
    config = uvicorn.Config(
        create_app(service), log_config=None, access_log=False, timeout_graceful_shutdown=CLOSE_S, lifespan="on"
    )
    server = DrainingServer(config, service)
    log.info("listening on %s port %s", settings.host, settings.port)
    server.run(sockets=[listener])
    if service.state.failure is not None:
        if line_format(settings.log_format, image) == "json":  # whoever reads JSON gets nothing else
            log.critical("%s", service.state.failure)
        else:
            print(f"error: {service.state.failure}", file=sys.stderr, flush=True)
    return server.exit_status()
