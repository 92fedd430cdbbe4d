"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "matrix.values",
        "wheel_resolver.core.names",
        "wheel_resolver.fetching.progress",
        "wheel_resolver.core.resolve",
        "wheel_resolver.core.build",
        "wheel_resolver.core.foreign",
        "wheel_resolver.inside.shared_object",
        "wheel_resolver.places",
    ],
)
def test_docstring_examples(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
