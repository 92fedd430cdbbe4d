"""One caller takes all that there is: the others are served nevertheless."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from serve.api.callers import network_of
from serve.errors import ServiceError
from serve.pool import WAITS_S, Pool
from tests.security.service.raw import connect, error_code, head, read_all

MIB = 1024 * 1024
ANNA, BEN = "a" * 32, "b" * 32


@pytest.mark.parametrize("who", ["key", "forwarded address"])
def test_a_caller_who_fills_the_pool_with_bodies_that_stall_does_not_shut_others_out(launch, voice, who):
    keys = {"API_KEYS": f"anna:{ANNA},ben:{BEN}"} if who == "key" else {}
    process = launch(MAX_BODY_MIB="1", BODY_GRACE_S="60", **keys)
    process.wait_ready()
    anna, ben = (
        ({"X_API_Key": ANNA}, {"X_API_Key": BEN})
        if who == "key"
        else ({"X_Forwarded_For": "192.0.2.1"}, {"X_Forwarded_For": "192.0.2.2"})
    )
    with contextlib.ExitStack() as stack:
        greedy = [stack.enter_context(connect(process.port)) for _ in range(9)]
        for connection in greedy[:8]:
            connection.sendall(head("/clone", MIB, **anna) + b"x" * (MIB - 40_000))
        greedy[8].sendall(head("/clone", 300_000, **anna) + b"x" * 250_000)
        time.sleep(1)
        for _ in range(3):
            body = json.dumps({"text": "Hello."} | voice).encode()
            other = stack.enter_context(connect(process.port, 60))
            other.sendall(head("/clone", len(body), Connection="close", **ben) + body)
            assert read_all(other).startswith(b"HTTP/1.1 200 ")
        told = [connection for connection in greedy if _told(connection)]
        assert told  # at least one gave way, with words
        answer = read_all(told[0])
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert error_code(answer) == "busy"
        assert len(told) < 9  # and not all


def _told(connection):
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, 2))  # MSG_PEEK
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(30)


def test_a_body_that_makes_no_progress_is_cut(launch):
    process = launch(BODY_GRACE_S="1", MIN_BODY_KIB_S="4")
    process.wait_ready()
    with connect(process.port) as silent, connect(process.port) as dripping:
        silent.sendall(head("/clone", 100_000) + b"x" * 1000)
        dripping.sendall(head("/clone", 100_000))
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for _ in range(40):
                dripping.sendall(b"x")
                time.sleep(0.1)
        answer = read_all(silent)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert error_code(answer) == "body_too_slow"
        assert time.monotonic() - began < 20
        assert read_all(dripping).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_keeps_its_pace_is_not_cut(launch, voice):
    process = launch(BODY_GRACE_S="1", MIN_BODY_KIB_S="4")
    process.wait_ready()
    body = json.dumps({"text": "Hello."} | voice).encode()
    step = len(body) // 15 + 1
    with connect(process.port, 60) as steady:
        steady.sendall(head("/clone", len(body), Connection="close"))
        for start in range(0, len(body), step):
            steady.sendall(body[start : start + step])
            time.sleep(0.2)
        assert read_all(steady).startswith(b"HTTP/1.1 200 ")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def coming(pool, caller, size, cut=None):
    holding = pool.holding(caller, cut)
    holding.coming = True
    holding.add(size)
    return holding


def test_alone_a_caller_may_have_all():
    pool = Pool(100, 100)
    for _ in range(10):
        coming(pool, "a", 10)
    with pytest.raises(ServiceError, match="which is the most"):
        coming(pool, "a", 1)
    assert pool.used == pool.coming == 100


def test_who_waits_takes_from_who_has_more_than_his_share_the_longest_stalled_first():
    clock, cut = Clock(), []
    pool = Pool(100, 100, clock=clock)
    holdings = []
    for number in range(10):
        clock.now = number
        holdings.append(coming(pool, "a", 10, lambda number=number: cut.append(number)))
    holdings[0].add(0)  # it makes progress
    coming(pool, "b", 15)
    assert cut == [1, 2]
    assert holdings[1].cut.code == "busy"
    with pytest.raises(ServiceError, match="others wait"):
        holdings[1].add(1)
    assert pool.used == 95
    with pytest.raises(ServiceError, match="others wait"):  # above his share while somebody waits
        coming(pool, "a", 1)
    clock.now += WAITS_S + 1
    coming(pool, "a", 5)  # nobody does any more


def test_nobody_takes_more_than_his_share_from_others():
    pool = Pool(100, 100)
    for _ in range(10):
        coming(pool, "a", 10)
    for _ in range(5):
        coming(pool, "b", 10)
    with pytest.raises(ServiceError):
        coming(pool, "b", 10)
    assert pool.used == 100


def test_what_is_complete_is_not_cut_and_leaves_an_eighth():
    pool = Pool(80, 80)
    first = coming(pool, "a", 60)
    first.complete()
    second = pool.holding("a")
    with pytest.raises(ServiceError, match="the last of it is for others"):
        second.add(15)
    pool.holding("b").add(20)
    assert first.cut is None
    first.release()
    first.release()
    assert pool.used == 20
    with pytest.raises(ServiceError, match="over"):
        first.add(1)


def test_what_can_never_fit_is_told_so():
    pool = Pool(100, 1000)
    with pytest.raises(ServiceError) as refused:
        pool.holding("a").add(101)
    assert refused.value.status == 413
    assert "101 bytes" in refused.value.message


def test_what_nobody_counted_makes_the_pool_smaller():
    pool = Pool(100, 100, unexplained=lambda: 60)
    pool.holding("a").add(40)
    with pytest.raises(ServiceError) as refused:
        pool.holding("b").add(1)
    assert refused.value.status == 429


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9%eth0", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("no:address", "no:address"),
    ],
)
def test_of_ipv6_everyone_has_a_network(host, network):
    assert network_of(host) == network
