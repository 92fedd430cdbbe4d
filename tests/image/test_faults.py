"""What breaks in the middle of a build is told with its step, leaves nothing half-made, and the next run goes on."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from second_engine import SecondEngine, second_engine
from small import LARGE, SmallSpace, add_twin, wait_for_half

pytestmark = pytest.mark.engine


def assert_goes_on(small: SmallSpace, model: tuple[str, ...] = ("DONE",)) -> None:
    """A run after the fault: what was good is taken from the cache, the rest is made, and nothing is left over."""
    with small.serving():
        answer = small.build()
    (target,) = answer.json["targets"]
    assert answer.status == 0, answer.out
    assert target["status"] == "built"
    assert steps(small.log, "torch 1/1") == ["CACHED"]
    assert steps(small.log, "model 1/1")[0] in model
    assert not list(small.space.root.glob(".build/run-*"))


def steps(log: str, step: str) -> list[str]:
    """How each vertex with this name ended: CACHED or DONE."""
    numbers = {line.split()[0] for line in log.splitlines() if f" {step}]" in line}
    ends = [line.split()[:2] for line in log.splitlines()]
    return [words[1] for words in ends if len(words) == 2 and words[0] in numbers and words[1] in ("CACHED", "DONE")]


def test_an_index_that_dies_in_the_middle_of_an_install(small: SmallSpace) -> None:
    with small.serving(LARGE):
        answer = small.build()
    (target,) = answer.json["targets"]
    assert answer.status == 1
    assert target["status"] == "failed"
    assert "model 1/1]" in target["detail"]
    print(target["detail"])
    assert_goes_on(small)


def test_an_engine_that_is_killed_during_a_build(small: SmallSpace) -> None:
    with small.serving(f"stalls:{LARGE}") as index:
        build = small.start_build()
        wait_for_half(index)
        small.engine.kill()
        status = build.wait(timeout=60)
    small.engine.start()
    (target,) = json.loads(small.said("cpu", "out").read_text())["targets"]
    assert status == 1
    assert target["detail"].startswith(f"the engine at {small.engine.host} has gone away: ")
    assert "model 1/1]" in target["detail"]
    assert "Traceback" not in small.said("cpu", "err").read_text()
    print(target["detail"])
    assert_goes_on(small)


def test_a_disk_that_is_full(
    make_small_in: Callable[..., SmallSpace], base_archive: Path, tmp_path: Path, second: SecondEngine
) -> None:
    with second_engine(tmp_path / "engine", "500m") as engine:
        engine.load(base_archive)
        small = make_small_in(engine, large=200_000_000)
        with small.serving():
            answer = small.build()
        (target,) = answer.json["targets"]
        assert answer.status == 1
        assert "no space left on device" in target["detail"].lower()
        print(target["detail"])
        engine.grow("3g")
        assert_goes_on(small, ("CACHED", "DONE"))  # the disk may be full only when the layer is packed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_build_that_is_stopped_leaves_no_secret_and_no_tag(small: SmallSpace, number: signal.Signals) -> None:
    with small.serving(f"stalls:{LARGE}") as index:
        build = small.start_build()
        wait_for_half(index)
        assert {path.name for path in small.secrets()} >= {"host-env", "uv-config"}
        build.send_signal(number)  # to the one process, as a supervisor does; a terminal signals its children too
        assert build.wait(timeout=30) == 130
    assert small.said("cpu", "err").read_text().endswith("interrupted\n")
    assert not list(small.space.root.glob(".build/run-*"))
    assert not list(small.temporary.iterdir())
    assert not small.engine.has(f"{small.repository}:cpu")


def test_two_builds_of_one_target_at_once(small: SmallSpace) -> None:
    """The second waits; killed without a chance to clean up, the first leaves its right and its secrets to it."""
    with small.serving(f"stalls:{LARGE}") as index:
        first = small.start_build()
        wait_for_half(index)
        index.kill()
        err = small.said("cpu", "err")
        with small.serving():
            second = small.start_build()
            wait_until(lambda: "another build of cpu runs here: waiting" in err.read_text())
            first.kill()
            assert second.wait(timeout=60) == 0, err.read_text()[-2000:]
    first.wait()
    assert not list(small.space.root.glob(".build/run-*"))
    assert not list(small.temporary.iterdir())
    assert small.engine.has(f"{small.repository}:cpu")


def test_two_targets_of_one_stack_at_once(small: SmallSpace) -> None:
    """What they share is made once, whoever comes first."""
    add_twin(small.space)
    with small.serving(f"pauses:{LARGE}") as index:
        builds = [small.start_build()]
        wait_for_half(index)
        builds.append(small.start_build(target="twin"))
        assert [build.wait(timeout=120) for build in builds] == [0, 0], small.said("twin", "err").read_text()[-2000:]
    layers = [small.engine.layers(f"{small.repository}:{target}") for target in ("cpu", "twin")]
    assert layers[0][:-1] == layers[1][:-1]
    assert layers[0][-1] != layers[1][-1]  # image.json names the target


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
