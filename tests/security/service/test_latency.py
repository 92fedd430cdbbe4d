"""No answer waits for the caller's delayed acknowledgement."""

from __future__ import annotations

import asyncio
import socket

import pytest

from serve.server import open_socket
from serve.settings import read_settings


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_accepted_connections_do_not_wait_for_acknowledgements(monkeypatch, host):
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    monkeypatch.setenv("WW_HOST", host)
    listener = open_socket(read_settings().model_copy(update={"port": 0}))

    async def accepted():
        seen = asyncio.get_running_loop().create_future()

        def connected(_reader, writer):
            options = writer.get_extra_info("socket")
            seen.set_result(options.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        server = await asyncio.start_server(connected, sock=listener)
        async with server:
            _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            found = await asyncio.wait_for(seen, 10)
            writer.close()
            return found

    assert listener.proto == socket.IPPROTO_TCP  # what asyncio looks at
    assert asyncio.run(accepted()) != 0
