"""When machine code kills the service, its last words are there, and the exit status is the signal's."""

from __future__ import annotations

import json
import os
import signal
import socket
import time

import pytest

from tests.security.service.hooked import Hooked, ended, state_of

# glibc finds it out, says so on descriptor 2, and calls abort().
FREED_TWICE = """
libc.malloc.restype = ctypes.c_void_p
block = ctypes.c_void_p(libc.malloc(5000))
guard = ctypes.c_void_p(libc.malloc(5000))
libc.free(block)
libc.free(block)
"""
ABORT = "write(b\"terminate called after throwing an instance of 'std::bad_alloc'\\n\")\nlibc.abort()"
FLOOD = 'for number in range(50_000):\n    write(b"noise\\n")\n'


def split(service):
    """The lines that are JSON, and the others."""
    records, others = [], []
    for line in service.err.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            others.append(line)
    return records, others


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_fault_says_where_on_the_real_stderr(tmp_path, tiny):
    with ended(Hooked(tmp_path, tiny, "pass")) as service:
        service.wait()
        assert service.end(signal.SIGSEGV) == -signal.SIGSEGV
    records, others = split(service)
    assert "Fatal Python error: Segmentation fault" in others
    assert any("serve/server.py" in line for line in others)
    assert (records[-1]["level"], records[-1]["message"]) == ("critical", "the service was killed by SIGSEGV")
    assert service.out.read_text() == ""


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (FREED_TWICE, "double free"),
        (ABORT, "terminate called after throwing an instance of 'std::bad_alloc'"),
        (FLOOD + ABORT, "terminate called after throwing an instance of 'std::bad_alloc'"),
    ],
    ids=["freed twice", "abort", "abort in a flood"],
)
def test_the_last_words_before_an_abort_are_said(tmp_path, tiny, action, words):
    with ended(Hooked(tmp_path, tiny, action)) as service:
        service.wait()
        service.act()
        assert service.end(None) == -signal.SIGABRT
    records, others = split(service)
    said = [record["message"] for record in records if record["logger"] == "output"]
    assert any(words in text for text in said), said[-5:]
    assert said[-1] == "the service was killed by SIGABRT"
    assert "Fatal Python error: Aborted" in others
    assert len(said) < 500


def test_a_child_that_keeps_the_pipe_holds_nobody_up(tmp_path, tiny):
    action = 'import subprocess\nsubprocess.Popen(["sleep", "600"], start_new_session=True)\n' + ABORT
    with ended(Hooked(tmp_path, tiny, action)) as service:
        service.wait()
        service.act()
        assert service.end(None) == -signal.SIGABRT  # `end` waits a minute
    assert "terminate called" in service.err.read_text()


def test_a_log_that_nobody_reads_does_not_hold_up_the_end(tmp_path, tiny):
    action = 'for _ in range(1000):\n    write(b"x" * 500 + b"\\n")\ntime.sleep(1)\nos._exit(3)'
    unread, full = os.pipe()
    try:
        with ended(Hooked(tmp_path, tiny, action, err=full)) as service:
            service.wait()
            service.act()
            assert service.end(None) == 3  # `end` waits a minute
    finally:
        os.close(unread)
        os.close(full)


def test_with_text_lines_it_is_the_same_process(tmp_path, tiny):
    with ended(Hooked(tmp_path, tiny, ABORT, "text")) as service:
        service.wait()
        service.act()
        assert service.end(None) == -signal.SIGABRT
    text = service.err.read_text()
    assert "terminate called" in text
    assert "Fatal Python error: Aborted" in text


def test_who_is_killed_from_outside_is_told_of(tmp_path, tiny):
    with ended(Hooked(tmp_path, tiny, "pass")) as service:
        service.wait()
        (child,) = service.children()
        os.kill(child, signal.SIGKILL)
        assert service.end(None) == -signal.SIGKILL
    assert str(service.records()[-1]["message"]).startswith(
        "the service was killed by SIGKILL (from outside, or by the"
    )


def test_killing_the_first_process_kills_the_service(tmp_path, tiny):
    with ended(Hooked(tmp_path, tiny, "pass")) as service:
        service.wait()
        (child,) = service.children()
        assert service.end(signal.SIGKILL) == -signal.SIGKILL
        deadline = time.monotonic() + 20
        while state_of(child) not in {"", "Z"} or is_open(service.port):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize(("sig", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_are_passed_on(tmp_path, tiny, sig, status):
    with ended(Hooked(tmp_path, tiny, "pass")) as service:
        assert service.popen.poll() is None
        service.wait()
        assert service.end(sig) == status
    service.records()


def test_a_terminal_reaches_the_service_once(tmp_path, tiny):
    """Ctrl-C goes to the whole group in a terminal's foreground: a second SIGINT would cut running requests off."""
    with ended(Hooked(tmp_path, tiny, "pass")) as service:
        service.wait()
        (child,) = service.children()
        assert os.getpgid(child) == child
        assert os.getpgid(service.popen.pid) != child
        assert service.end(signal.SIGINT) == 130
