"""A second engine stands for a remote builder: what is built lands there, and build caches travel between engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from docker.errors import ImageNotFound
from second_engine import SecondEngine, second_engine
from small import SmallSpace, add_context

from images.engine import Engine

pytestmark = pytest.mark.engine


def test_a_builder_that_is_another_engine_gets_the_image(small: SmallSpace, engine: Engine) -> None:
    with small.serving():
        answer = small.build()
    (target,) = answer.json["targets"]
    assert answer.status == 0, answer.out
    assert target["status"] == "built"
    assert small.engine.has(target["tag"])
    with pytest.raises(ImageNotFound):
        engine.client.images.get(target["tag"])


def test_layers_of_one_engine_reach_another_by_a_cache(
    small: SmallSpace, base_archive: Path, tmp_path: Path, second: SecondEngine
) -> None:
    cache = f"type=local,path={tmp_path / 'cache'}"
    with small.serving():
        assert small.build("--cache-to", cache).status == 0
    with second_engine(tmp_path / "third") as third:
        third.load(base_archive)
        config = tmp_path / "third-docker"
        add_context(config, third)
        # No index serves now: only the cache has the layers.
        answer = replace(small, config=config, engine=third).build("--cache-from", cache)
        assert answer.status == 0, answer.out
        assert third.has(answer.json["targets"][0]["tag"])
    assert "Using Python" not in small.log  # what uv says first


def test_an_engine_that_cannot_export_a_cache_says_so(
    make_small_in: Callable[..., SmallSpace], base_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.mktemp("cache") / "none"
    with second_engine(tmp_path_factory.mktemp("classic"), containerd_store=False) as classic:
        classic.load(base_archive)
        answer = make_small_in(classic).build("--cache-to", f"type=local,path={cache}")
    (target,) = answer.json["targets"]
    assert answer.status == 1
    assert "Cache export is not supported for the docker driver" in target["detail"]
    assert not cache.exists()
