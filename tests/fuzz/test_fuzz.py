"""Every target with some hundred inputs, the same each time; ``make fuzz`` tries others for minutes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.mutation import mutated
from tests.fuzz.run import hunt
from tests.fuzz.target import Target, all_targets


@pytest.mark.parametrize("target", all_targets().values(), ids=lambda target: target.name)
def test_no_input_is_answered_wrongly(target: Target) -> None:
    @settings(
        max_examples=target.examples, derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(target.inputs)
    def once(value: object) -> None:
        target.answer(value)

    if target.prepare is not None:
        target.prepare()
    once()


def test_the_hunt_finds_what_is_wrong_and_makes_it_small() -> None:
    """A hunt that could not find a planted fault would be worth nothing."""

    def check(value: bytes) -> None:
        if b"}" in value and b"0" in value:
            raise KeyError("planted")

    target = Target("planted", mutated([b'{"a": 10, "b": [1, 2]}' * 20]), check)
    done = hunt(target, 1, 20)
    assert done.found is not None
    assert "planted" in done.found
    again = hunt(target, done.seed, 20)
    assert (again.seed, again.value) == (done.seed, done.value)
    assert hunt(Target("right", mutated([b"x"]), lambda _: None), 1, 0.5).found is None


def test_an_endless_answer_is_a_fault() -> None:
    def check(_: bytes) -> None:
        while True:
            pass

    with pytest.raises(TimeoutError):
        Target("endless", mutated([b"x"]), check, seconds=0.1).answer(b"x")
