"""A stranger's branch holds symbolic links: none of them leads a read or a write out of the checkout."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from small import make_wheel

from matrix import tree
from matrix.errors import DataError
from tests.security.images.checkout import Checkout, copy_checkout, files_below, linked, opened, state, with_folders

# Verbs that need neither network nor engine; those that write, in the order in which one needs the other's files.
WRITING = (
    ("matrix", "schema"),
    ("wheel_resolver", "lock", "--offline"),
    ("images", "lock"),
    ("images", "render"),
    ("wheel_resolver", "coverage", "--offline", "--html", "pages/coverage.html"),
)
READING = (
    ("matrix", "check"),
    ("matrix", "schema", "--check"),
    ("images", "lock", "--check"),
    ("images", "render", "--check"),
    ("wheel_resolver", "lock", "--check", "--offline"),
    ("wheel_resolver", "coverage", "--offline", "--html", "pages/coverage.html"),
)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    with opened(copy_checkout(tmp_path / "checkout")) as found:
        yield found


@pytest.fixture
def unlocked(tmp_path: Path) -> Iterator[Checkout]:
    """One whose only target asks for small wheels, which lie in a folder; nothing is generated yet."""
    root = copy_checkout(tmp_path / "checkout")
    matrix = yaml.safe_load((root / "matrix/matrix.yaml").read_text())
    matrix["targets"] = {"cpu": matrix["targets"]["cpu"]}
    matrix.pop("aliases")
    (root / "matrix/matrix.yaml").write_text(json.dumps(matrix))  # JSON is YAML, without anchors
    (root / "serve/requirements.in").write_text("tiny\n")
    (root / "serve/overrides.txt").write_text("")
    for name in ("dockerfiles/locks", "dockerfiles/rendered"):
        shutil.rmtree(root / name)
    for name in ("dockerfiles/docker-bake.json", "matrix/lock.yaml", "matrix/schema.json"):
        (root / name).unlink()
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for requirement in ("tiny==1.0", "torch==2.13.0+cpu"):
        make_wheel(wheels, requirement, 1000)
    with opened(root, UV_FIND_LINKS=str(wheels), UV_NO_INDEX="1", UV_OFFLINE="1", UV_NO_CONFIG="1") as found:
        yield found


def first_refusal(checkout: Checkout, verbs: tuple[tuple[str, ...], ...]) -> tuple[int, str]:
    """What the first verb says that does not end well; 0 where all do."""
    for verb in verbs:
        status, said = checkout.run(*verb)
        if status != 0:
            return status, said
    return 0, ""


def test_no_verb_writes_through_a_link(unlocked: Checkout, tmp_path: Path) -> None:
    """A link at each path that they write, and at each folder on the way, found by letting them write."""
    before = files_below(unlocked.root)
    assert first_refusal(unlocked, WRITING) == (0, "")
    written = with_folders(files_below(unlocked.root) - before)
    assert {path.name for path in written} >= {
        "schema.json", "lock.yaml", "bases.yaml", "model.txt", "cpu.image.json", "docker-bake.json", "coverage.html",
    }  # fmt: skip
    told = {}
    for path in written:
        with linked(unlocked.root / path, tmp_path / "outside") as elsewhere:
            kept = elsewhere.read_bytes() if elsewhere.is_file() else None
            if kept is not None:
                elsewhere.write_text("precious: true\n")  # other than what would be written
            known = state(elsewhere)
            told[str(path)] = first_refusal(unlocked, WRITING)
            assert state(elsewhere) == known, path
            assert (unlocked.root / path).is_symlink(), path
            if kept is not None:
                elsewhere.write_bytes(kept)
    for path, (status, said) in told.items():
        assert status == 2, (path, said)
        assert f"error: {path} is a symbolic link to '" in said
        assert "remedy: remove the link" in said


def test_no_verb_reads_through_a_link(checkout: Checkout, tmp_path: Path) -> None:
    """Replace each data file by a link to the same bytes: the link itself is then the only fault."""
    data = sorted(path for path in files_below(checkout.root) if path.suffix != ".py" and path.name != ".dockerignore")
    assert len(data) > 35
    assert first_refusal(checkout, READING) == (0, "")
    told = {}
    for path in with_folders(set(data)):
        if (checkout.root / path).is_file():
            with linked(checkout.root / path, tmp_path / "outside"):
                told[str(path)] = first_refusal(checkout, READING)
    for path, (status, said) in told.items():
        assert status == 2, (path, said)
        assert f"error: {path} is a symbolic link to '" in said, said


@pytest.mark.parametrize("name", ["matrix/matrix.yaml", "lab/other.yaml"])
def test_nothing_of_what_a_link_leads_to_is_printed(checkout: Checkout, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary-9c1f: [\n")
    path = checkout.root / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(secret)
    for verb in (("matrix", "check"), ("wheel_resolver", "--offline"), ("wheel_resolver", "lock", "--offline")):
        status, said = checkout.run(*verb, "--matrix", name)
        assert status == 2
        assert f"{name} is a symbolic link" in said
        assert "canary-9c1f" not in said


def test_neither_a_pipe_nor_a_device_holds_a_verb_up(checkout: Checkout) -> None:
    path = checkout.root / "matrix/matrix.yaml"
    path.unlink()
    os.mkfifo(path)
    status, said = checkout.run("matrix", "check")
    assert status == 2
    assert "matrix/matrix.yaml is neither a file nor a folder" in said


@pytest.mark.parametrize("name", ["out", "out/report.json", "out/clone.wav", "out/voice.wav"])
def test_results_are_not_written_through_a_link(checkout: Checkout, tmp_path: Path, name: str) -> None:
    """Refused before an engine is looked for, so long before there would be a result."""
    with linked(checkout.root / name, tmp_path / "outside") as elsewhere:
        known = state(elsewhere)
        status, said = checkout.run("images", "quickstart")
        assert status == 2
        assert f"{name} is a symbolic link" in said
        assert state(elsewhere) == known


def test_a_root_may_be_a_link_and_what_lies_below_may_not(checkout: Checkout, tmp_path: Path) -> None:
    other = copy_checkout(tmp_path / "other")
    link = tmp_path / "link"
    link.symlink_to(other)
    assert checkout.run("images", "render", "--check", "--root", str(link))[0] == 0
    with linked(other / "dockerfiles/rendered/cpu.image.json", tmp_path / "outside"):
        status, said = checkout.run("images", "render", "--root", str(link))
    assert status == 2
    assert "dockerfiles/rendered/cpu.image.json is a symbolic link" in said


def test_a_link_outside_is_the_users_own_word(checkout: Checkout, tmp_path: Path) -> None:
    """A matrix that the command line names, by way of a link that no branch can hold."""
    shutil.copy(checkout.root / "matrix/matrix.yaml", tmp_path / "mine.yaml")
    (tmp_path / "link.yaml").symlink_to("mine.yaml")
    assert checkout.run("matrix", "check", "--matrix", str(tmp_path / "link.yaml"))[0] == 0


@pytest.mark.parametrize("way", ["real", "link", "up/real", "up/link", "real/self"])
def test_below_a_root_every_way_is_judged(tmp_path: Path, way: str) -> None:
    """By whatever links the user comes to the root, and though a link below it leads back to it."""
    for name in ("real/a", "outside"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "outside/file").write_text("precious")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "up").symlink_to(".")
    (tmp_path / "real/file").symlink_to(tmp_path / "outside/file")
    (tmp_path / "real/folder").symlink_to(tmp_path / "outside")
    (tmp_path / "real/self").symlink_to(".")
    (tmp_path / "real/nowhere").symlink_to(tmp_path / "outside/nowhere")
    tree.settle(tmp_path / "link")
    known = state(tmp_path)
    root = tmp_path / way
    for attempt in (
        lambda: tree.read_bytes(root / "file"),
        lambda: tree.read_bytes(root / "folder/file"),
        lambda: tree.read_bytes(root / "a/../folder/file"),
        lambda: tree.exists(root / "file"),
        lambda: tree.write(root / "file", "x"),
        lambda: tree.write(root / "folder/new/file", "x"),
        lambda: tree.write(root / "nowhere", "x"),
        lambda: tree.open_file(root / "nowhere", "wb"),
        lambda: tree.make_folder(root / "nowhere"),
        lambda: tree.exists(root / "nowhere"),
        lambda: tree.open_file(root / "file", "wb"),
        lambda: tree.open_file(root / "folder/new", "ab"),
        lambda: tree.make_folder(root / "folder/new"),
        lambda: tree.place(root / "file", root / "a/copy"),
        lambda: tree.place(tmp_path / "outside/file", root / "file"),
        lambda: tree.move(tmp_path / "outside/file", root / "folder/moved"),
        lambda: tree.remove(root / "folder/file"),
        lambda: tree.remove_tree(root / "folder"),
        lambda: tree.files(root),
        lambda: tree.require_plain(root),
    ):
        with pytest.raises(DataError, match="is a symbolic link"):
            attempt()
    assert state(tmp_path) == known


def test_a_tree_is_removed_and_what_its_links_lead_to_is_not(tmp_path: Path) -> None:
    root = tree.settle(tmp_path / "root")
    (root / "run/deep").mkdir(parents=True)
    (tmp_path / "precious").write_text("precious")
    (root / "run/deep/link").symlink_to(tmp_path / "precious")
    (root / "run/folder").symlink_to(tmp_path)
    tree.remove_tree(root / "run")
    assert list(root.iterdir()) == []
    assert (tmp_path / "precious").read_text() == "precious"
