"""As process 1 of a container, without ``--init``: orphans are reaped, and no exit status of a child is taken away.

The container is a process namespace of its own: what makes process 1 what it is. ``nsenter`` does what
``docker exec`` does.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from tests.security.service.hooked import Hooked, children_of, ended, state_of

NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture(scope="module", autouse=True)
def _may_make_namespaces():
    done = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no process namespace can be made here: {done.stderr.strip()}")


def first_of(service):
    """Process 1 of the namespace, by its number outside."""
    (first,) = service.children()
    return first


def zombies_of(pid):
    return [child for child in children_of(pid) if state_of(child) == "Z"]


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("form", ["text", "json"])
def test_orphans_are_reaped(tmp_path, tiny, form):
    with ended(Hooked(tmp_path, tiny, "pass", form, NAMESPACE)) as service:
        service.wait()
        first = first_of(service)
        for _ in range(10):
            command = ["nsenter", "--target", str(first), "--pid", "--mount", "sh", "-c", "(sleep 0.3 &)"]
            subprocess.run(command, check=True)
        # All of them have become children of process 1, before they ended.
        wait_until(lambda: len(children_of(first)) == 1 and not zombies_of(first))
        assert service.ask("/live")[0] == 200
        stop(first)
        assert service.end(None) == 0


def stop(first):
    """Send the signal as ``docker stop`` does: to process 1."""
    subprocess.run(["kill", "-TERM", str(first)], check=True)


STATUSES = """
import json, subprocess
expected, found = [], []
for number in range(300):
    # Two orphans a round, which end at about the time when the child does.
    subprocess.run(["sh", "-c", "(sleep 0.01 &) ; (true &)"])
    expected.append(number % 256)
    found.append(subprocess.run(["sh", "-c", f"exit {number % 256}"]).returncode)
first = os.fork()
if first == 0:
    os._exit(7)
time.sleep(0.2)
found.append(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
expected.append(7)
with open("new", "w") as file:
    json.dump([expected, found], file)
os.rename("new", "statuses")
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_exit_status_of_a_child_is_lost(tmp_path, tiny, form):
    with ended(Hooked(tmp_path, tiny, STATUSES, form, NAMESPACE)) as service:
        service.wait()
        service.act()
        wait_until((tmp_path / "statuses").exists, 300)
        expected, found = json.loads((tmp_path / "statuses").read_text())
        assert found == expected
        first = first_of(service)
        wait_until(lambda: len(children_of(first)) == 1)
        (child,) = children_of(first)
        assert zombies_of(child) == []


@pytest.mark.parametrize("form", ["text", "json"])
def test_it_ends_as_the_service_does(tmp_path, tiny, form):
    with ended(Hooked(tmp_path, tiny, "os._exit(3)", form, NAMESPACE)) as service:
        service.wait()
        service.act()
        assert service.end(None) == 3


def test_process_1_says_what_killed_the_service(tmp_path, tiny):
    """It cannot be killed by a signal of its own, so the status is what a shell would say."""
    with ended(Hooked(tmp_path, tiny, "os.abort()", "text", NAMESPACE)) as service:
        service.wait()
        service.act()
        assert service.end(None) == 128 + signal.SIGABRT
    assert service.err.read_text().endswith("the service was killed by SIGABRT\n")


def test_a_stop_before_anything_is_loaded_is_heard(tmp_path, tiny):
    """What is sent to process 1 is lost when it has no handler: here it waits until the service can take it."""
    with ended(Hooked(tmp_path, tiny, "pass", "json", NAMESPACE)) as service:
        wait_until(lambda: len(service.children()) == 1 and len(children_of(first_of(service))) == 1)
        stop(first_of(service))
        assert service.end(None) == 0
