"""Unit tests reach no network and no engine: the attempt is the failure."""

from __future__ import annotations

import socket
from typing import NoReturn

import pytest


def _barred(*_: object, **__: object) -> NoReturn:
    raise AssertionError("a unit test opened a socket; tests with a server or an engine live elsewhere")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _barred)
    monkeypatch.setattr(socket.socket, "connect_ex", _barred)
    monkeypatch.setattr(socket, "getaddrinfo", _barred)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
