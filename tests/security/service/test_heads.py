"""Heads that do not come: they are not waited for, whatever they drip."""

from __future__ import annotations

import time

import pytest

from tests.security.service.raw import connect, error_code, read_all, read_answer

SECONDS = 1


@pytest.fixture
def process(launch):
    started = launch(HEAD_TIMEOUT_S=str(SECONDS))
    started.wait_open()
    return started


@pytest.mark.parametrize("begun", [b"", b"G", b"GET /live HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_stops_is_told_and_closed(process, begun):
    with connect(process.port) as connection:
        began = time.monotonic()
        connection.sendall(begun)
        answer = read_all(connection)
        assert time.monotonic() - began < 15
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()
    assert error_code(answer) == "head_too_slow"
    assert "Traceback" not in process.stderr()


def test_a_head_that_drips_gets_no_longer(process):
    with connect(process.port) as connection:
        connection.sendall(b"GET /live HTTP/1.1\r\nX: ")
        closed = False
        for _ in range(150):  # 15 s, of which each byte would buy more
            try:
                connection.sendall(b"x")
            except OSError:
                closed = True
                break
            time.sleep(0.1)
        assert closed


def test_the_next_head_of_a_kept_connection_has_its_time_from_its_first_byte(process):
    request = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(process.port) as connection:
        connection.sendall(request)
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")
        time.sleep(2 * SECONDS)  # idle: no head has begun
        connection.sendall(request)
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")
        connection.sendall(request[:10])
        assert error_code(read_all(connection)) == "head_too_slow"


def test_a_head_that_is_behind_a_request_has_its_time_too(process):
    with connect(process.port) as connection:
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\nGET /li")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answer
