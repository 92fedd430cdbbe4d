"""Two checkouts on one engine: each is told before it takes a tag from the other, and how to keep what has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from second_engine import SecondEngine
from small import SmallSpace, make_small
from space import Space

pytestmark = pytest.mark.engine


def test_an_image_of_another_checkout_is_told_before_its_tag_is_taken(
    small: SmallSpace, make_space: Callable[[str], Space], second: SecondEngine, tmp_path: Path
) -> None:
    other = make_small(make_space(""), tmp_path / "other", second)
    with small.serving():
        first = small.build().json["targets"][0]
    assert (first["replaced"], first["notes"]) == (None, [])
    with other.serving():
        answer = other.build(REGISTRY=small.repository)
    (target,) = answer.json["targets"]
    assert target["replaced"] == first["image"] != target["image"]
    (note,) = target["notes"]
    assert note.startswith(f"{small.repository}:cpu is {first['image'][:19]} now, which this checkout did not build")
    assert answer.err.index(note) < answer.err.index("cpu | #")  # before the build
    assert f"docker tag {small.repository}:cpu NAME" in note
    # The first one again: what it replaces is the other's; then its own.
    with small.serving():
        assert small.build().json["targets"][0]["replaced"] == target["image"]
        (again,) = small.build("--no-cache").json["targets"]
    assert (again["replaced"], again["notes"]) == (None, [])
