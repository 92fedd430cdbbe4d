"""Callers who ask for much and read nothing: what waits for them is bounded, and they are cut off."""

from __future__ import annotations

import functools
import threading
import time

import pytest
import uvicorn

from serve.api.http import Guard
from serve.api.incoming import Pace
from serve.connections import Connections
from serve.protocol import StrictProtocol
from serve.settings import MIB
from tests.security.service.raw import connect, read_all

SIZE = 40 * MIB
ASK = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
# A part must be taken within 0.5 s and what 64 KiB take at 256 KiB/s.
PACE = Pace(0.5, 256 * 1024)


class Large:
    """An app that answers with 40 MiB, and knows how many of its answers are not gone."""

    def __init__(self) -> None:
        self.running = 0

    async def __call__(self, scope, receive, send):
        self.running += 1
        try:
            headers = [(b"content-length", str(SIZE).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"x" * SIZE})
        finally:
            self.running -= 1


@pytest.fixture
def serving():
    app = Large()
    protocol = functools.partial(StrictProtocol, connections=Connections(100), head_timeout_s=10.0)
    config = uvicorn.Config(
        Guard(app, MIB, 60, pace=PACE), host="127.0.0.1", port=0, http=protocol, lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield app, server, server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def waiting_bytes(server: uvicorn.Server) -> int:
    """What lies in the server's own buffers."""
    return sum(connection.transport.get_write_buffer_size() for connection in [*server.server_state.connections])


def until(true) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_who_does_not_read_is_cut_off_and_little_waits_for_him(serving, caplog):
    app, server, port = serving
    callers = [connect(port) for _ in range(8)]
    try:
        for caller in callers:
            caller.sendall(ASK)
        until(lambda: app.running == len(callers))
        most = 0

        def over() -> bool:
            nonlocal most
            most = max(most, waiting_bytes(server))
            return app.running == 0

        until(over)
        assert most < len(callers) * 256 * 1024
        assert len(read_all(callers[0])) < SIZE
        until(lambda: not server.server_state.connections)
    finally:
        for caller in callers:
            caller.close()
    assert sum("its caller took nothing" in record.message for record in caplog.records) == len(callers)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_who_reads_slowly_gets_all(serving):
    app, _, port = serving
    with connect(port) as caller:
        caller.sendall(ASK)
        answer = bytearray()
        while part := caller.recv(4 * MIB):
            answer += part
            time.sleep(0.02)  # far slower than the loopback, and faster than the least pace
    assert bytes(answer).partition(b"\r\n\r\n")[2] == b"x" * SIZE
    assert app.running == 0
