"""A GPU image of several gigabytes with real packages, built and imported without a GPU: `make test-gpu-images`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from space import Space

from images.engine import Engine

pytestmark = [pytest.mark.engine, pytest.mark.gpu_image]
MATRIX = (Path(__file__).parent / "gpu_matrix.yaml").read_text()


def test_torch_2_9_for_cuda_12_8_on_python_3_13(engine: Engine, make_space: Callable[[str], Space]) -> None:
    space = make_space(MATRIX)
    matrix, lock = str(space.root / "matrix/matrix.yaml"), str(space.root / "matrix/lock.yaml")
    assert space.python("wheel_resolver", "lock", "--offline", "--matrix", matrix, "--output", lock).status == 0
    for verb in ("lock", "render"):
        assert space.images(verb).status == 0
    answer = space.images("build", "sdpa313", "--smoke", "--json")
    (target,) = answer.json["targets"]
    assert answer.status == 0, answer.out
    assert target["smoke"]["verdict"] == "passed, unproven on GPU"
    details = {check["name"]: check["detail"] for check in target["smoke"]["checks"]}
    assert details["python is the lock's"] == "3.13"
    assert details["torch is the lock's"] == "2.9.1"
    assert details["cuda is the lock's"] == "12.8"
    weight = target["weight"]
    packed, unpacked = (f"{weight[key] / 1e6:,.0f} MB {key}" for key in ("packed", "unpacked"))
    print(f"{packed}, {unpacked}, {weight['layers']} layers, built in {target['seconds']} s")
