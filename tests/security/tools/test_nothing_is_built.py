"""Locking runs no code of what it locks: no folder, no source archive, no configuration of the checkout."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from pathlib import Path

import pytest

from images.lock_inputs import asked
from images.planned import Workspace
from images.requirements_in import parse_requirement, read_requirements
from matrix.errors import DataError
from tests.running import Done, tool


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A folder whose ``setup.py`` leaves a file when it runs."""
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "setup.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'RAN')!r}).write_text('')\n"
        "from setuptools import setup\nsetup(name='evil', version='1.0')\n"
    )
    return folder


def lock(checkout: Path, links: Path, *arguments: str, **environment: str) -> Done:
    """``images lock`` from the files of one folder, and no index."""
    links.mkdir(exist_ok=True)
    environment = {"UV_FIND_LINKS": str(links), "UV_NO_INDEX": "1", "UV_OFFLINE": "1"} | environment
    return tool(checkout, "images", "lock", *arguments, **environment)


@pytest.mark.parametrize(
    "line",
    [
        "evil @ file://{folder}",
        "evil@file://{folder}",
        "evil[x] @ file://{folder} ; python_version > '3'",
        "{folder}",
        "-e {folder}",
        "--editable={folder}",
        "./evil",
        "../evil",
        ".",
        "file://{folder}",
        "git+file://{folder}",
        "evil @ git+file://{folder}",
        "-r {folder}/setup.py",
        "--requirement {folder}/setup.py",
        "-c {folder}/setup.py",
        "--find-links {folder}",
        "--index-url https://evil.example",
        "--no-binary :all:",
        "evil-1.0.tar.gz",
        "evil.zip",
        "evil.whl",
        "${{HOME}}/evil",
        "evil \\",
        "evil --hash=sha256:00",
        "evil\x0b",
        "evil ; python_version\u00a0> '3'",
    ],
)
@pytest.mark.parametrize("name", ["requirements.in", "overrides.txt"])
def test_a_line_that_names_a_place_is_refused_before_uv_sees_it(
    checkout: Path, evil: Path, tmp_path: Path, line: str, name: str
) -> None:
    path = checkout / "serve" / name
    path.write_text(f"{line.format(folder=evil)}\n{path.read_text()}")
    with pytest.raises(DataError, match=rf"{name}:1 "):
        read_requirements(path)
    if line == "evil @ file://{folder}":
        for verb in (["lock"], ["lock", "--check"], ["environment"], ["render"]):
            done = tool(checkout, "images", *verb)
            assert done.status == 2, (verb, done.said)
            assert f"serve/{name}:1 " in done.err
            assert "Traceback" not in done.err
    assert not (tmp_path / "RAN").exists()


def pack(folder: Path, links: Path) -> Path:
    links.mkdir()
    with tarfile.open(links / "evil-1.0.tar.gz", "w:gz") as archive:
        archive.add(folder, "evil-1.0")
        meta = folder.parent / "PKG-INFO"
        meta.write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
        archive.add(meta, "evil-1.0/PKG-INFO")
    return links


def test_a_source_archive_is_named_and_not_built(checkout: Path, evil: Path, tmp_path: Path) -> None:
    """In the reproduction's form: the requirements name a package of which an index has a source archive alone."""
    links = pack(evil, tmp_path / "links")
    for name in ("requirements.in", "requirements-gpu.in"):
        (checkout / "serve" / name).write_text("evil\n")
    make_wheel(links, "torch", "2.13.0+cpu")
    make_wheel(links, "torch", "2.9.1")
    make_wheel(links, "torch", "2.13.0")
    before = {path: path.read_bytes() for path in (checkout / "dockerfiles/locks").rglob("*.txt")}
    done = lock(checkout, links)
    assert done.status == 2, done.said
    assert "evil: there is only a source archive, and none is built here" in done.err
    assert "python -m images lock --allow-build evil" in done.err
    assert not (tmp_path / "RAN").exists()
    assert {path: path.read_bytes() for path in (checkout / "dockerfiles/locks").rglob("*.txt")} == before


def make_wheel(links: Path, name: str, version: str) -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(links / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


def only_cpu(checkout: Path) -> None:
    """A matrix of one target, so that three wheels lock it."""
    path = checkout / "matrix" / "matrix.yaml"
    text = path.read_text()
    head, _, targets = text.partition("\ntargets:\n")
    kept = targets.partition("\n  cpu:\n")[2]
    rest = kept.partition("\n  devel:")[0]
    path.write_text(f"{head}\ntargets:\n  cpu:\n{rest}\n")


def test_a_package_is_built_where_it_was_asked_for_by_name(checkout: Path, evil: Path, tmp_path: Path) -> None:
    """The other side: ``--allow-build`` does what it says, with a warning, and for the named package alone."""
    links = pack(evil, tmp_path / "links")
    make_wheel(links, "torch", "2.13.0+cpu")
    (checkout / "serve" / "requirements.in").write_text("evil\n")
    only_cpu(checkout)
    other = lock(checkout, links, "--allow-build", "other")
    assert other.status == 2
    assert not (tmp_path / "RAN").exists()
    done = lock(checkout, links, "--allow-build", "evil")
    assert "warning: --allow-build evil: its code may run on this machine" in done.err
    # Building needs setuptools, which no index gives here: that uv tries is what is asked for.
    assert "there is only a source archive" not in done.err
    assert lock(checkout, links, "--allow-build", "--index-url=x").status == 2


def test_a_lock_is_written_from_wheels_alone_and_uv_reads_no_setting_of_the_checkout(
    checkout: Path, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    make_wheel(links, "torch", "2.13.0+cpu")
    make_wheel(links, "good", "1.0")
    (checkout / "serve" / "requirements.in").write_text("good  # what we want\n")
    only_cpu(checkout)
    settings = 'index-url = "http://127.0.0.1:9/evil"\nno-index = false\n[pip]\nno-build = false\n'
    (checkout / "uv.toml").write_text(settings)
    text = (checkout / "pyproject.toml").read_text()
    (checkout / "pyproject.toml").write_text(text + '\n[tool.uv]\noverride-dependencies = ["good==99"]\n')
    done = lock(checkout, links)
    assert done.status == 0, done.said
    written = (checkout / "dockerfiles/locks/py3.11-torch2.13.0-cpu/model.txt").read_text()
    digest = hashlib.sha256((links / "good-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    assert f"good==1.0 \\\n    --hash=sha256:{digest}\n    # via -r serve/requirements.in\n" in written
    again = lock(checkout, links, "--check")
    assert again.status == 0, again.said


def test_a_poisoned_lock_is_not_read_by_uv_as_what_is_pinned(checkout: Path, tmp_path: Path) -> None:
    """``-r`` of a file in a lock made uv read that file, and print its first line."""
    links, secret = tmp_path / "links", tmp_path / "secret"
    links.mkdir()
    secret.write_text("canary-of-a-private-key\n")
    make_wheel(links, "torch", "2.13.0+cpu")
    make_wheel(links, "good", "1.0")
    (checkout / "serve" / "requirements.in").write_text("good\n")
    only_cpu(checkout)
    path = checkout / "dockerfiles/locks/py3.11-torch2.13.0-cpu/model.txt"
    path.write_text(f"{path.read_text()}-r {secret}\n")
    done = lock(checkout, links)
    assert done.status == 0, done.said
    assert "canary" not in done.said
    assert "model.txt is not what was written, so its pins are not kept" in done.err
    assert "canary" not in path.read_text()


def test_the_facts_cannot_ask_for_a_folder_either(checkout: Path, evil: Path) -> None:
    """``compat.yaml: bases.cuda_devel.*.packages`` is handed to uv, too."""
    path = checkout / "matrix" / "compat.yaml"
    text = path.read_text()
    wanted = "cuda-toolkit[nvcc,cudart,cccl]==13.0.*"
    assert wanted in text
    path.write_text(text.replace(wanted, f"evil @ file://{evil}"))
    done = tool(checkout, "images", "lock", "--check")
    assert done.status == 2
    assert "bases.cuda_devel.13.0.packages" in done.err


def test_our_own_requirements_are_read_as_they_are() -> None:
    workspace = Workspace.load()
    for target in workspace.project.matrix.targets.values():
        for path in asked(target):
            lines = [line.partition("#")[0].strip() for line in (workspace.root / path).read_text().splitlines()]
            assert [str(each) for each in read_requirements(workspace.root / path)] == [line for line in lines if line]
    with pytest.raises(DataError, match="x: evil"):
        parse_requirement("evil @ https://evil.example/x.whl", "x:")
