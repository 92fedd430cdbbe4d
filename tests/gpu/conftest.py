"""What the tests on a GPU share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def gpu() -> tuple[int, int]:
    """The compute capability of the first GPU; without one the tests fail: they were asked for by name."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.fail("no GPU is visible to torch")
    capability: tuple[int, int] = torch.cuda.get_device_capability(0)
    return capability
