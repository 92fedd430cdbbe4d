"""The flash-attention road, whole: listed by (a local) GitHub, resolved, locked, fetched, installed, imported.

The wheel is made here, under a real asset's name; torch is the real one for CUDA 12.8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from road import WHEEL, GitHub, make_wheel, serve_github
from space import REPOSITORY, Space

from images.bake import BuildError, BuildOptions, bake
from images.bases import BaseProvider
from images.engine import Engine
from images.hostsettings import read_host_settings
from images.inputs import Run, stage
from images.planned import Workspace, load_planned

pytestmark = pytest.mark.engine

MATRIX = (Path(__file__).parent / "fa2_matrix.yaml").read_text()


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHub]:
    with serve_github(make_wheel(tmp_path_factory.mktemp("wheel"))) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHEELWRIGHT_TRUST_ORIGINS", server.url)  # where the locked wheel lies
        yield server


@pytest.fixture(scope="module")
def locked(engine: Engine, make_space: Callable[[str], Space], github: GitHub) -> Space:
    """A workspace whose locks and Dockerfile were made by the tools from the matrix above."""
    space = make_space(MATRIX)
    matrix, lock = str(space.root / "matrix/matrix.yaml"), str(space.root / "matrix/lock.yaml")
    environment = {"GITHUB_API_URL": github.url, "WHEELWRIGHT_CACHE": str(space.root / "cache")}
    assert space.python("wheel_resolver", "lock", "--matrix", matrix, "--output", lock, **environment).status == 0
    for verb in ("lock", "render"):
        assert space.images(verb).status == 0
    return space


def build(space: Space, targets: str, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    cache = str(space.root / "cache")
    answer = space.images("build", targets, "--json", *arguments, WHEELWRIGHT_CACHE=cache)
    return answer.status, answer.json["targets"]


def test_another_file_than_the_locked_one_is_refused_and_the_other_target_goes_on(
    locked: Space, github: GitHub
) -> None:
    good, github.wheel = github.wheel, github.wheel + b"tampered"
    try:
        status, (refused, plain) = build(locked, "fa2,plain")
    finally:
        github.wheel = good
    assert status == 1
    assert refused["status"] == "failed"
    assert "refused" in refused["detail"]
    assert refused["log"] is None  # bake was not started
    assert list(locked.root.glob(f"cache/files/*/{WHEEL}")) == []
    assert plain["status"] == "built"


def test_it_is_installed_by_file_and_imports(locked: Space) -> None:
    status, (target,) = build(locked, "fa2", "--smoke")
    checks = {check["name"]: check["ok"] for check in target["smoke"]["checks"]}
    assert status == 0, target
    assert checks["flash_attn_2_cuda imports"]
    assert checks["flash-attn is the lock's"]
    assert checks["cuda is the lock's"]
    assert target["smoke"]["verdict"] == "passed, unproven on GPU"
    assert target["smoke"]["attention"] == "sdpa"  # without a GPU the ladder goes one rung down, and says so
    assert "no GPU" in target["smoke"]["because"]


def test_both_images_share_every_layer_below_flash_attn(locked: Space, engine: Engine) -> None:
    # In one call: between two, the engine's collector may drop a layer from the build cache, and it is made anew.
    status, _ = build(locked, "fa2,plain")
    assert status == 0
    layers = {
        name: engine.client.images.get(f"{REPOSITORY}:{name}").attrs["RootFS"]["Layers"] for name in ("fa2", "plain")
    }
    own = 2  # flash-attn (fa2 only), the service
    assert len(layers["fa2"]) == len(layers["plain"]) + 1
    assert layers["fa2"][: 1 - own - 1] == layers["plain"][: 1 - own]
    assert len(layers["plain"]) > own


def test_the_build_itself_checks_the_digest_too(
    locked: Space, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stages another file under the wheel's name: the step fails before anything is installed."""
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(locked.root / "cache"))
    workspace = Workspace.load(locked.root)
    (item,) = load_planned(workspace, ["fa2"])
    scratch, secrets = locked.root / ".build" / "tampered", tmp_path
    provider = BaseProvider(engine, workspace.project.compat)
    options = BuildOptions(buildx=engine.buildx)
    staged = stage(Run(workspace, engine, read_host_settings(), provider, options), item, secrets, scratch)
    wheel = locked.root / ".build/contexts" / item.recipe.name / "wheel" / WHEEL
    wheel.unlink()
    wheel.write_bytes(b"not the wheel")
    log = locked.root / "tampered.log"
    with pytest.raises(BuildError, match=r"flash-attn.*FAILED|flash-attn.*did NOT match|flash-attn.*WARNING"):
        bake(workspace, "fa2", staged.file, log, output="type=docker", options=options)
    text = log.read_text()
    assert f"{WHEEL}: FAILED" in text
    assert "Installed 1 package" not in text.partition("sha256sum")[2]


def test_no_secret_stays_behind(locked: Space) -> None:
    assert list(locked.root.glob(".build/run-*")) == []


def test_the_wheel_was_downloaded_once_and_again_when_the_cache_was_damaged(locked: Space, github: GitHub) -> None:
    assert len(github.served) == 2  # the refused one, and the good one; later builds take it from the cache
    (kept,) = locked.root.glob(f"cache/files/*/{WHEEL}")
    good = kept.read_bytes()
    kept.unlink()  # it is linked into the staged context, too
    kept.write_bytes(good[: len(good) // 2])
    status, (target,) = build(locked, "fa2")
    assert (status, target["status"]) == (0, "built"), target
    assert kept.read_bytes() == good
    assert len(github.served) == 3
