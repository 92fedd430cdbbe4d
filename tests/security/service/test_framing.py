"""Requests that two servers could read differently: refused, and nothing behind them is answered."""

from __future__ import annotations

import threading

import pytest
import uvicorn

from serve.server import make_config, open_socket
from serve.service import Service
from serve.settings import read_settings
from tests.security.service.raw import connect, error_code, read_all

SECOND = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def port(tiny):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WW_MODEL_DIR", str(tiny))
        patch.setenv("WW_HOST", "127.0.0.1")
        patch.setenv("WW_PORT", "1")
        settings = read_settings().model_copy(update={"port": 0})
    listener = open_socket(settings)
    server = uvicorn.Server(make_config(Service(settings, None)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(timeout=60)


def ask(port, *lines, body=b"", end=b"\r\n"):
    with connect(port) as connection:
        connection.sendall(end.join([*lines, b"", b""]) + body + SECOND)
        connection.shutdown(1)
        return read_all(connection)


POST, HOST = b"POST /clone HTTP/1.1", b"Host: x"
LENGTH, CHUNKED = b"Content-Length: 5", b"Transfer-Encoding: chunked"
CHUNKS = b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        ((POST, HOST, LENGTH, CHUNKED), CHUNKS),
        ((POST, HOST, CHUNKED, LENGTH), CHUNKS),
        ((POST, HOST, b"transfer-encoding: Chunked", b"content-length: 0"), CHUNKS),
        ((POST, HOST, LENGTH, b"Content-Length: 6"), b"abcde"),
        ((POST, HOST, b"Content-Length: 5, 6"), b"abcde"),
        ((POST, HOST, b"Content-Length: +5"), b"abcde"),
        ((POST, HOST, CHUNKED, CHUNKED), CHUNKS),
        ((POST, HOST, b"Transfer-Encoding: chunked, chunked"), CHUNKS),
        ((POST, HOST, b"Transfer-Encoding: gzip, chunked"), CHUNKS),
        ((POST, HOST, b"Transfer-Encoding: chunked, identity"), CHUNKS),
        ((POST, HOST, b"Transfer-Encoding: identity", LENGTH), b"abcde"),
        ((b"POST /clone HTTP/1.0", HOST, CHUNKED), CHUNKS),
        ((b"POST /clone HTTP/1.0", b"Connection: keep-alive", LENGTH, CHUNKED), CHUNKS),
        ((POST, HOST, b"X: a", b" Content-Length: 5", LENGTH), b"abcde"),
        ((POST, HOST, b"Content-Length : 5"), b"abcde"),
    ],
)
def test_a_body_that_is_framed_in_two_ways_ends_the_connection(port, lines, body):
    answer = ask(port, *lines, body=body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()
    assert b"content-type: application/json" in answer
    assert error_code(answer) == "bad_request"


@pytest.mark.parametrize(
    "content",
    [
        b"GET /live HTTP/1.1\nHost: x\n\n",
        b"GET /live HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: x\r\n\n",
        b"GET /live HTTP/1.1\r\nHost: x\r\nX: y\r\n\tz\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_lines_that_proxies_read_differently_are_refused(port, content):
    with connect(port) as connection:
        connection.sendall(content + SECOND)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_what_is_framed_once_is_answered_and_so_is_what_follows(port):
    kind = b"Content-Type: text/plain"
    for lines, body in (((LENGTH,), b"abcde"), ((CHUNKED,), b"5\r\nabcde\r\n0\r\nX: y\r\n\r\n")):
        answer = ask(port, POST, HOST, kind, *lines, body=body)
        assert answer.startswith(b"HTTP/1.1 415 ")
        assert answer.count(b"HTTP/1.1 200 ") == 1


def test_a_chunk_that_is_none_in_the_middle_of_a_body_leaves_no_trace_in_the_log(port, caplog):
    with connect(port) as connection:
        connection.sendall(b"\r\n".join([POST, HOST, b"Content-Type: application/json", CHUNKED, b"", b"5"]) + b"\r\n")
        connection.sendall(b"abcde\r\nZZ\r\n" + SECOND)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert "Traceback" not in caplog.text
