"""Engines as people have them: another machine's, podman, an old one, a full disk, two checkouts on one engine."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from images import address, room
from images.__main__ import main
from images.address import Address, find_address, require_docker
from images.engine import Engine
from images.graph import bake_file
from images.owned import is_ours, remember
from images.planned import Workspace, load_planned
from images.venv import ensure_ensurepip
from matrix import Budget
from matrix.cli import run
from matrix.errors import NoEngineError, WheelwrightError
from wheel_resolver import cli, lock

ROOT = Path(__file__).resolve().parents[2]
DOCKER = """#!/bin/sh
case "$*" in
  "buildx version") echo "${BUILDX-github.com/docker/buildx v0.13.1 abc}" ;;
  "context show") echo "${CONTEXT-default}" ;;
  "context inspect"*) echo "\\"$HOST\\"" ;;
  "buildx inspect"*) printf 'Name: big\\nDriver: docker\\nEndpoint: big\\n' ;;
  *) exit 1 ;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, with a shell's own needs; no engine is named."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "BUILDX_BUILDER"):
        monkeypatch.delenv(name, raising=False)
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def test_where_only_podman_is_podman_is_named(programs: Path) -> None:
    program(programs, "podman", "#!/bin/sh\n")
    with pytest.raises(NoEngineError) as caught:
        require_docker()
    assert str(caught.value.what) == "no `docker` command on PATH; podman is"
    assert "podman does not build these images" in str(caught.value.remedy)
    assert "runs under podman as it is" in str(caught.value.remedy)


def test_podmans_docker_command_is_not_taken_for_docker(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(programs, "docker", DOCKER)
    monkeypatch.setenv("BUILDX", "buildah 1.33.2")
    with pytest.raises(NoEngineError, match="is podman's"):
        require_docker()


def test_without_either_the_remedy_installs_one(programs: Path) -> None:
    with pytest.raises(NoEngineError) as caught:
        require_docker()
    assert caught.value.remedy == address.INSTALL_HINT


@pytest.mark.parametrize(
    ("environment", "builder", "named", "says"),
    [
        ({"DOCKER_HOST": "tcp://10.0.0.9:2375"}, None, "DOCKER_HOST", "change or unset DOCKER_HOST"),
        ({"DOCKER_CONTEXT": "far", "CONTEXT": "far", "HOST": "ssh://me@big"}, None, "DOCKER_CONTEXT",
         "see what `ssh me@big docker version` says"),
        ({"CONTEXT": "far", "HOST": "ssh://me@big:2222"}, None, "docker context far",
         "see what `ssh ssh://me@big:2222 docker version` says"),
        ({"HOST": "ssh://me@big"}, "big", "builder big", "choose another with --builder"),
        ({"DOCKER_HOST": "unix:///run/user/1000/docker.sock"}, None, "DOCKER_HOST", "start the engine of that socket"),
        ({"HOST": "unix:///var/run/docker.sock"}, None, None, "make engine"),
    ],
)  # fmt: skip
def test_each_remedy_is_about_the_machine_that_was_named(
    environment: dict[str, str], builder: str | None, named: str | None, says: str, programs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    program(programs, "docker", DOCKER)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = find_address(builder)
    assert found.named == named
    assert says in found.remedy
    assert ("make engine" in found.remedy) == (named is None)


def engine(version: str = "26.1.5", host: str = "unix:///x", folder: str | None = "/") -> Engine:
    client: Any = None
    return Engine(client, Address(host), version, "0.13", gpu_runtime=False, containerd_store=True, root=folder)


@pytest.mark.parametrize(
    ("version", "reads"),
    [("20.10.24", False), ("19.03.15", False), ("23.0.0", True), ("26.1.5+dfsg1", True), ("unknown", True)],
)
def test_engines_before_23_read_no_zstd(version: str, reads: bool) -> None:
    assert engine(version).reads_zstd is reads


def test_the_help_of_compression_says_which_engines_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(lambda: main(["build", "--help"]))
    assert "engines before 23.0 read gzip only" in " ".join(capsys.readouterr().out.split())


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    real = shutil.disk_usage("/")
    monkeypatch.setattr("images.engine.shutil.disk_usage", lambda _: real._replace(free=size))


BUDGET = Budget(compressed_mb=3700, unpacked_mb=7200, layers=11, extra_mb=300)


def test_a_disk_without_room_is_told_before_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1_000_000_000)
    with pytest.raises(WheelwrightError) as caught:
        room.look_for_room(engine(), BUDGET, [])
    assert str(caught.value.what) == (
        "1.0 GB are free in /, and the image needs about 10.9 GB for its layers, packed and unpacked"
    )
    assert "docker builder prune" in str(caught.value.remedy)
    free(monkeypatch, 9_000_000_000)
    assert "9.0 GB are free" in str(room.look_for_room(engine(), BUDGET, []))
    free(monkeypatch, 11_000_000_000)
    assert room.look_for_room(engine(), BUDGET, []) is None


def test_where_the_stack_is_there_only_what_is_added_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    image: Any = object()
    free(monkeypatch, 1_000_000_000)
    assert room.look_for_room(engine(), BUDGET, [image]) is None
    free(monkeypatch, 100_000_000)
    with pytest.raises(WheelwrightError, match=r"needs about 0\.3 GB more"):
        room.look_for_room(engine(), BUDGET, [image])


def test_nothing_is_said_of_another_machines_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1)
    assert room.look_for_room(engine(host="ssh://big", folder=None), BUDGET, []) is None
    assert room.look_for_room(engine(), None, []) is None


def test_a_folder_that_the_engine_has_not_made_yet_is_on_its_parents_disk(tmp_path: Path) -> None:
    assert engine(folder=str(tmp_path / "a" / "b")).free_bytes == pytest.approx(
        shutil.disk_usage(tmp_path).free, rel=0.2
    )


def test_a_checkout_knows_what_it_built(tmp_path: Path) -> None:
    assert not is_ours(tmp_path, "w:cpu", "sha256:a")
    for image in "abc":
        remember(tmp_path, "w:cpu", f"sha256:{image}")
    assert is_ours(tmp_path, "w:cpu", "sha256:a")
    assert not is_ours(tmp_path, "other:cpu", "sha256:a")
    (tmp_path / "images.json").write_text("[")
    assert not is_ours(tmp_path, "w:cpu", "sha256:a")
    remember(tmp_path, "w:cpu", "sha256:d")
    assert is_ours(tmp_path, "w:cpu", "sha256:d")


@pytest.mark.parametrize("missing", ["serve/overrides.txt", "serve/requirements.in", "serve/requirements-gpu.in"])
def test_a_root_without_a_file_is_told_which(
    missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    for name in ("matrix", "serve", "dockerfiles"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    (tmp_path / missing).unlink()
    status = run(lambda: main(["lock", "--root", str(tmp_path)]))
    said = capsys.readouterr().err
    assert (status, missing in said) == (2, True), said


def test_a_python_without_ensurepip_is_told_its_package(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program(programs, "python3.12", '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\necho 3.12\n')
    with pytest.raises(SystemExit):
        ensure_ensurepip("python3.12")
    said = capsys.readouterr().err
    assert "has no ensurepip" in said
    assert "apt-get install python3.12-venv" in said


def test_the_scale_page_says_what_actions_cache_holds() -> None:
    assert "`type=gha` keeps 10 GB" in (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def test_a_target_for_arm_is_locked_and_its_builds_are_for_arm(tmp_path: Path) -> None:
    """Locked and rendered so; whether a base is there is the build's to say."""
    workspace = Workspace.load()
    item = next(each for each in load_planned(workspace) if each.target.name == "h100")
    stack = replace(item.recipe.stack, platform="linux_aarch64")
    graph = bake_file([replace(item, recipe=replace(item.recipe, stack=stack))], {"h100": {}})
    platforms = {tuple(target["platforms"]) for target in graph["target"].values() if "platforms" in target}
    assert platforms == {("linux/arm64",)}
    text = (ROOT / "matrix" / "matrix.yaml").read_text(encoding="utf-8")
    target = text[text.index("  h100:") : text.index("  cpu:")]
    arm = target.replace("linux_x86_64", "linux/arm64").replace("gpus: [H100, H200]", "gpus: [GH200]")
    assert arm.count("GH200") == 1
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text(text.replace(target, arm), encoding="utf-8")
    assert run(lambda: cli.main(["lock", "--offline", "--matrix", str(matrix)])) == 0
    locked = lock.read(tmp_path / "lock.yaml").targets["h100"]
    assert locked.wheel is None or "aarch64" in locked.wheel.name
