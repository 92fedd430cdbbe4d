"""What the field asks is answered offline, from the shipped snapshot: an attempt to connect is the failure."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NoReturn

import pytest

from tests.resolver_http.conftest import upstream  # noqa: F401 - pytest finds fixtures by name; test_networks.py asks it


def _barred(*_: object, **__: object) -> NoReturn:
    raise AssertionError("a field test opened a socket; it must be answered from the shipped data")


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, no engine, an empty cache, and no program of the machine that tells of its GPUs."""
    monkeypatch.setattr(socket.socket, "connect", _barred)
    monkeypatch.setattr(socket.socket, "connect_ex", _barred)
    monkeypatch.setattr(socket, "getaddrinfo", _barred)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
