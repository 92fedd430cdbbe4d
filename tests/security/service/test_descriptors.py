"""More connections than descriptors: probes are answered, and the log says what is missing."""

from __future__ import annotations

import contextlib
import json
import resource
import time

from serve.connections import KEPT_DESCRIPTORS, LEAST, Connections, most_connections
from tests.security.service.raw import connect

LIMIT = 64


class Open:
    def __init__(self, caller, since, waits=True):
        self.caller, self.since, self.waits, self.given_up = caller, since, waits, False

    def give_up(self):
        self.given_up = True


def test_half_open_connections_do_not_end_the_probes(launch):
    process = launch(HEAD_TIMEOUT_S="60")
    resource.prlimit(process.popen.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))  # before Python has begun
    process.wait_ready()
    info = json.loads(process.ask("GET", "/info")[2])
    assert info["descriptors"]["limit"] == LIMIT
    with contextlib.ExitStack() as stack:
        for _ in range(2 * LIMIT):
            stack.enter_context(connect(process.port)).sendall(b"GET /live HTTP/1.1\r\n")
        for _ in range(5):
            assert process.ask("GET", "/live", timeout=20)[0] == 200
            time.sleep(0.2)
    assert "connections are open" in process.stderr()
    assert "ulimit -n" in process.stderr()
    assert "Traceback" not in process.stderr()
    assert process.ask("GET", "/ready")[0] == 200


def test_who_has_most_gives_up_the_one_that_waits_longest():
    table = Connections(4)
    works = Open("a", 0, waits=False)
    old, young, other = Open("a", 1), Open("a", 2), Open("b", 0)
    for connection in (works, young, old, other):
        table.add(connection)
    newest = Open("c", 9)
    table.add(newest)
    assert [connection.given_up for connection in (works, old, young, other, newest)] == [0, 1, 0, 0, 0]
    assert len(table) == 4
    table.add(Open("c", 10))
    assert young.given_up or newest.given_up or other.given_up
    assert not works.given_up


def test_a_request_that_runs_is_not_cut_for_a_new_connection():
    table = Connections(2)
    running = [Open("a", 0, waits=False), Open("a", 1, waits=False)]
    newest = Open("b", 2)
    for connection in (*running, newest):
        table.add(connection)
    assert newest.given_up
    assert not any(connection.given_up for connection in running)


def test_how_many_there_may_be():
    assert most_connections(1024, 10, 10**9, 10**5) == 1024 - 10 - KEPT_DESCRIPTORS
    assert most_connections(1024, 10, 10**7, 10**5) == 100
    assert most_connections(16, 10, 10**7, 10**5) == LEAST
