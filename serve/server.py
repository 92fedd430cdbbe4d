"""The process around the app: one socket from the first moment, an orderly end on SIGTERM, an exit status."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any, cast

import uvicorn

from serve.api.app import create_app
from serve.connections import SAY_EVERY_S
from serve.errors import INTERRUPTED, SettingsError
from serve.image import Image
from serve.logs import line_format
from serve.protocol import StrictProtocol
from serve.service import Service
from serve.settings import Settings
from serve.shortage import NO_DESCRIPTORS

log = logging.getLogger(__name__)

# After the drain, answers that are already made get this long to leave; then the process goes, whatever hangs.
# WW_DRAIN_S (8 by default) and both together stay under 10 s, which is what container engines give.
CLOSE_S = 1
LAST_S = 1.5
LISTEN_BACKLOG = 2048
# Each connection that is accepted takes a descriptor before the limit of connections sees it.
ACCEPTED_AT_ONCE = 4
RECEIVE_BUFFER = 256 * 1024


class DrainingServer(uvicorn.Server):
    """A uvicorn that keeps answering probes while it drains, and stops when the model cannot be loaded."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service
        self.signal: int | None = None
        self._deadline = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept; what the loop says of descriptors is said in our words."""
        asyncio.get_running_loop().set_exception_handler(_Complaints())
        await super().startup(sockets)
        for listener in sockets or []:  # asyncio accepts few at once; the kernel may keep many waiting
            listener.listen(LISTEN_BACKLOG)

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


class _Complaints:
    """What the event loop cannot do: without descriptors it stops accepting for a second, each time with a word."""

    def __init__(self) -> None:
        self._said = -SAY_EVERY_S

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in NO_DESCRIPTORS:
            loop.default_exception_handler(context)
        elif time.monotonic() - self._said >= SAY_EVERY_S:
            self._said = time.monotonic()
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            log.error("no file descriptor is left (ulimit -n is %s): new connections wait; remedy: raise it", limit)


def open_socket(settings: Settings) -> socket.socket:
    """Bind and listen.

    Raises:
        SettingsError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # asyncio sets TCP_NODELAY on what it accepts only where the protocol is named, as it is here: without it, the
        # last part of an answer on a kept connection waits for the caller's delayed acknowledgement, 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The kernel's own buffers are memory, too: of 64 connections they would grow to 400 MB.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"WW_HOST={settings.host} WW_PORT={settings.port} cannot be listened on: {error.strerror or error}",
            remedy="stop what listens there, or choose another port",
        ) from error
    return listener


def make_config(service: Service) -> uvicorn.Config:
    """How uvicorn serves it."""
    protocol = functools.partial(
        StrictProtocol, connections=service.connections, head_timeout_s=service.settings.head_timeout_s
    )
    return uvicorn.Config(
        create_app(service),
        http=cast("type[asyncio.Protocol]", protocol),  # uvicorn calls it, and asks nothing else of it
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=CLOSE_S,
        lifespan="on",
        backlog=ACCEPTED_AT_ONCE,
    )


def serve(settings: Settings, image: Image | None, listener: socket.socket) -> int:
    """Serve until a signal or a failed start; returns the exit status."""
    service = Service(settings, image)
    server = DrainingServer(make_config(service), service)
    log.info("listening on %s port %s", settings.host, settings.port)
    server.run(sockets=[listener])
    if service.state.failure is not None:
        if line_format(settings.log_format, image) == "json":  # whoever reads JSON gets nothing else
            log.critical("%s", service.state.failure)
        else:
            print(f"error: {service.state.failure}", file=sys.stderr, flush=True)
    return server.exit_status()
