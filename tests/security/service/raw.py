"""Requests as bytes, for what no HTTP library sends."""

from __future__ import annotations

import contextlib
import json
import socket


def connect(port: int, timeout: float = 30) -> socket.socket:
    """A connection to the service."""
    return socket.create_connection(("127.0.0.1", port), timeout=timeout)


def head(path: str, length: int, **headers: str) -> bytes:
    """The head of a POST of JSON; ``_`` in a header's name stands for ``-``."""
    given = {"Host": "x", "Content_Type": "application/json", "Content_Length": str(length)} | headers
    lines = [f"POST {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def read_answer(connection: socket.socket) -> bytes:
    """One answer with a ``Content-Length``; head and body may come in several parts."""
    answer = b""
    while True:
        head, end, body = answer.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length:")[2].split()[0]):
            return answer
        part = connection.recv(65_536)
        if not part:
            return answer
        answer += part


def read_all(connection: socket.socket) -> bytes:
    """Everything until the service closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def error_code(answer: bytes) -> str:
    """The code of the error in an answer."""
    return json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"]
