"""The image tests' fixtures: a real engine, and a workspace of each test's own."""

from tests.image.conftest import (  # noqa: F401 - pytest finds fixtures by the names of this module
    base_archive,
    engine,
    make_small_in,
    make_space,
    second,
    small,
)
