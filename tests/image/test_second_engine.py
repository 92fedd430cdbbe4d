"""A second engine stands for a remote builder: what is built lands there, and build caches travel between engines."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import actions_cache
import docker
import pytest
from docker.errors import ImageNotFound
from far_ends import registry, running
from second_engine import SecondEngine, second_engine
from small import SmallSpace

from images.bases import bootstrap
from images.engine import Engine

pytestmark = pytest.mark.engine
CacheKind = Callable[[SmallSpace, Path], contextlib.AbstractContextManager[tuple[str, dict[str, str]]]]


def test_a_builder_that_is_another_engine_gets_the_image(small: SmallSpace, engine: Engine) -> None:
    with small.serving():
        answer = small.build()
    (target,) = answer.json["targets"]
    assert answer.status == 0, answer.out
    assert target["status"] == "built"
    assert small.engine.has(target["tag"])
    with pytest.raises(ImageNotFound):
        engine.client.images.get(target["tag"])


@contextlib.contextmanager
def local_cache(small: SmallSpace, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    yield f"type=local,path={folder}", {}
    assert list(folder.iterdir())


@contextlib.contextmanager
def registry_cache(small: SmallSpace, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    with registry(*small.engine.bridge.add_host(), folder) as name:
        yield f"type=registry,ref={name}/team/cache", {}
    tags = {path.name for path in folder.glob("data/**/_manifests/tags/*")}
    assert tags == {"py3.11-torch2.13.0-cpu", "py3.11-torch2.13.0-cpu-sdpa"}  # the stack's, and the recipe's


@contextlib.contextmanager
def github_cache(small: SmallSpace, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    host, address = small.engine.bridge.add_host()
    with running(host, "actions_cache", str(folder), address):
        url = f"http://{address}:{actions_cache.PORT}/"
        yield "type=gha", {"ACTIONS_CACHE_URL": url, "ACTIONS_RUNTIME_TOKEN": actions_cache.token()}
    scopes = [path.name for path in folder.glob("index-*")]
    assert len(scopes) == 2, scopes


@pytest.mark.parametrize("cache", [local_cache, registry_cache, github_cache])
def test_layers_of_one_engine_reach_another_by_a_cache(
    cache: CacheKind, small: SmallSpace, base_archive: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    # What other tests built here is equal in part, and BuildKit would export the steps under their bases' keys.
    small.engine.empty()
    small.engine.load(base_archive)
    with cache(small, folder) as (place, environment):
        with small.serving():
            assert small.build("--cache-to", place, **environment).status == 0
        # The caches' hosts are on the first one's bridge, so the other engine is the same one with its data gone.
        built = small.engine.layers(f"{small.repository}:cpu")
        small.engine.empty()
        small.engine.load(base_archive)
        # No index serves now: only the cache has the layers.
        answer = small.build("--cache-from", place, **environment)
    assert answer.status == 0, answer.out
    assert small.engine.layers(f"{small.repository}:cpu") == built
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


def test_a_base_that_is_bootstrapped_anew_has_the_same_layer(
    second: SecondEngine, base_archive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path))
    layers = []
    for _ in range(2):
        second.empty()
        with contextlib.closing(docker.DockerClient(base_url=second.host)) as client:
            layers.append(second.layers(bootstrap(client, "bookworm")))
    second.empty()
    second.load(base_archive)  # whose packages may be older
    assert layers[0] == layers[1]
