"""The building host's secrets reach no image, whatever the branch that is built holds."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from package_index import PORT
from small import LARGE, SmallSpace, wait_for_half
from test_cpu_image import layer_files

from images import bake
from images.secret_folder import PREFIX, secret_folder
from matrix.errors import UsageError
from tests.security.images.checkout import linked, state

USER, PASSWORD, PROXY, AUTHORITY = "canary-user-5d1", "canary/pass:5d2+?=", "canary-proxy-5d3", "canary-authority-5d4"


def forms(canary: str) -> set[bytes]:
    """How a text may lie in a file: as it is, quoted for a URL, and in base64 from each of its three beginnings."""
    raw = canary.encode()
    found = {raw, quote(canary).encode(), quote(canary, safe="").encode()}
    for before in range(3):
        padded = b"\0" * before + raw
        whole = len(padded) - len(padded) % 3
        inner = base64.b64encode(padded[:whole])[4 if before else 0 :]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def settings(small: SmallSpace, bundle: Path) -> dict[str, str]:
    """A canary in each setting that a build gets, and that it works with."""
    host = f"{USER}:{quote(PASSWORD, safe='')}@{small.index[1]}:{PORT}"
    bundle.write_text(f"# {AUTHORITY}\n{Path('/etc/ssl/certs/ca-certificates.crt').read_text()}")
    return {
        "UV_DEFAULT_INDEX": f"http://{host}/simple",
        "SSL_CERT_FILE": str(bundle),
        "NO_PROXY": f"{PROXY}.invalid,{small.index[1]}",
        "no_proxy": f"{PROXY}.invalid,{small.index[1]}",
    }


def read_image(small: SmallSpace, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every part of an image as it is saved, its configuration and its history too, and each file of each layer."""
    archive = folder / "saved.tar"
    tag = f"{small.repository}:cpu"
    command = ["docker", "--host", small.engine.host, "save", "--output", str(archive), tag]
    subprocess.run(command, check=True)
    with tarfile.open(archive) as saved:
        for member in saved.getmembers():
            if (file := saved.extractfile(member)) is not None:
                data = file.read()
                yield member.name, data
                yield from ((f"{member.name}: {name}", content) for name, content in layer_files(data))
    inspect = ["docker", "--host", small.engine.host, "image", "inspect", tag]
    yield "inspect", subprocess.run(inspect, check=True, capture_output=True).stdout


def links_of_service(archive: Path) -> tuple[set[str], set[str]]:
    """The files, and whatever else is no folder, below ``/app/serve``."""
    files, others = set(), set()
    with tarfile.open(archive) as saved:
        for member in saved.getmembers():
            file = saved.extractfile(member)
            if file is None:
                continue
            try:
                layer = tarfile.open(fileobj=io.BytesIO(unpacked(file.read())))  # noqa: SIM115 - closed with its bytes
            except tarfile.ReadError:
                continue
            for each in layer.getmembers():
                if each.name.startswith("app/serve/") and not each.isdir():
                    (files if each.isfile() else others).add(each.name.removeprefix("app/serve/"))
    return files, others


def unpacked(data: bytes) -> bytes:
    if data[:4] != b"\x28\xb5\x2f\xfd":
        return data
    import zstandard  # noqa: PLC0415

    return bytes(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read())


@pytest.mark.engine
def test_no_secret_and_nothing_untracked_is_in_an_image(small: SmallSpace, tmp_path: Path) -> None:
    """Built, saved and searched layer by layer, with strangers' files where secrets once lay."""
    serve = small.space.root / "serve"
    for name in (".env", "run-cpu/host-env", "notes.txt", "api/.netrc", "key.pem", ".hidden.py", "README"):
        (serve / name).parent.mkdir(exist_ok=True)
        (serve / name).write_text(f"{PASSWORD}\n")
    with small.serving():
        answer = small.build(**settings(small, tmp_path / "bundle.pem"))
    (target,) = answer.json["targets"]
    assert target["status"] == "built", answer.out
    wanted = {form for canary in (USER, PASSWORD, PROXY, AUTHORITY) for form in forms(canary)}
    looked_at = 0
    for name, content in read_image(small, tmp_path):
        looked_at += 1
        assert not [form for form in wanted if form in content], name
    assert looked_at > 1000  # the layers were opened
    tracked = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "ls-files", "--full-name", ":/serve"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    files, others = links_of_service(tmp_path / "saved.tar")
    assert files == {line.removeprefix("serve/") for line in tracked.stdout.splitlines()}
    assert others == set()
    for said in (answer.out, answer.err, small.log):
        assert not any(form.decode() in said for canary in (USER, PASSWORD) for form in forms(canary))
    assert list(small.temporary.iterdir()) == []


@pytest.mark.engine
def test_the_search_finds_what_is_in_an_image(small: SmallSpace, tmp_path: Path) -> None:
    """What is let in is found: the search above can fail."""
    (small.space.root / "serve/leak.py").write_text(f"# {base64.b64encode(f'x:{PASSWORD}'.encode()).decode()}\n")
    with small.serving():
        assert small.build().json["targets"][0]["status"] == "built"
    found = [name for name, content in read_image(small, tmp_path) if any(form in content for form in forms(PASSWORD))]
    assert [name.rpartition("/")[2] for name in found if ": " in name] == ["leak.py"]


@pytest.mark.engine
@pytest.mark.parametrize("to", ["serve", "dockerfiles/rendered"])
def test_a_link_where_a_build_works_is_refused(small: SmallSpace, tmp_path: Path, to: str) -> None:
    """The name of our working folder, as a link into what an image takes."""
    (small.space.root / ".build").symlink_to(to)
    known = state(small.space.root / to)
    answer = small.build(**settings(small, tmp_path / "bundle.pem"))
    assert answer.status == 2
    assert f".build is a symbolic link to '{to}'" in answer.err
    assert state(small.space.root / to) == known
    assert not small.engine.has(f"{small.repository}:cpu")


@pytest.mark.engine
def test_no_path_that_a_build_writes_or_reads_leads_out(small: SmallSpace, tmp_path: Path) -> None:
    """A link at each path that a build makes, found by watching one, and at those of its context."""
    root = small.space.root
    before = set(root.rglob("*"))
    with small.serving(f"stalls:{LARGE}") as index:
        build = small.start_build()
        wait_for_half(index)
        made = {path.relative_to(root) for path in set(root.rglob("*")) - before} - {Path("cpu.out"), Path("cpu.err")}
        build.kill()
        build.wait()
    names = {str(path) for path in made}
    assert names >= {".build", ".build/run-cpu", ".build/locks/cpu.lock", ".build/logs/cpu.build.log"}
    assert any(name.endswith("/uv/uv") for name in names)
    read = {Path(name) for name in ("serve", "serve/server.py", "serve/api", "dockerfiles/docker-bake.json")}
    for path in sorted(made | read | {Path(".dockerignore"), Path("out/cpu.oci.tar")}):
        with linked(root / path, tmp_path / "outside") as elsewhere:
            known = state(elsewhere)
            answer = small.build("--export", str(root / "out"))
            assert answer.status in {1, 2}, path
            assert f"{path} is a symbolic link to '" in answer.err, (path, answer.err)
            assert state(elsewhere) == known, path
        assert not small.engine.has(f"{small.repository}:cpu")


def test_the_folder_is_its_owners_and_outside_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "checkout"
    (root / "tmp").mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(root / "tmp"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with secret_folder(root) as folder:
        assert not folder.is_relative_to(root)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.stat().st_uid == os.geteuid()
        (folder / "host-env").write_text("secret")
    assert not folder.exists()


def test_a_link_to_the_checkout_is_no_place_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "checkout"
    (root / "tmp").mkdir(parents=True)
    (tmp_path / "link").symlink_to(root / "tmp")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "link"))
    with secret_folder(root) as folder:
        assert not folder.is_relative_to(root)


def test_a_folder_that_everybody_may_change_is_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)  # without the sticky bit
    monkeypatch.setenv("TMPDIR", str(tmp_path / "open"))
    with secret_folder(tmp_path / "checkout") as folder:
        assert folder.parent != tmp_path / "open"


def test_without_a_place_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no folder outside of / for the secrets") as caught, secret_folder(Path("/")):
        pass
    assert "TMPDIR" in str(caught.value)


def test_what_killed_runs_left_is_removed_and_what_runs_hold_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    left = tmp_path / f"{PREFIX}left"
    left.mkdir(mode=0o700)
    (left / "host-env").write_text("secret")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("precious")
    (tmp_path / f"{PREFIX}link").symlink_to("precious")
    (left / "link").symlink_to(tmp_path / "precious")
    with secret_folder(tmp_path / "checkout") as first, secret_folder(tmp_path / "checkout") as second:
        assert first != second
        assert first.exists()
        assert not left.exists()
    assert (tmp_path / "precious/file").read_text() == "precious"
    assert not first.exists()
    assert not second.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_what_is_another_users_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    theirs = tmp_path / f"{PREFIX}theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 12345, 12345)
    with secret_folder(tmp_path / "checkout"):
        pass
    assert theirs.exists()


@pytest.mark.parametrize(
    ("buildx", "asks"),
    [
        ("0.13.1+ds1", False),
        ("v0.17.1", False),
        ("v0.18.0", False),
        ("v0.19.0", True),
        ("0.19.3+ds1", True),
        ("v0.20.0", True),
        ("v0.30.1-desktop.1", True),
        ("v1.0.0", True),
        ("v0.0.0+unknown", True),
        ("", True),
    ],
)
def test_a_buildx_that_asks_for_paths_is_given_those_of_the_build(tmp_path: Path, buildx: str, asks: bool) -> None:
    options = bake.BuildOptions(
        buildx=buildx,
        cache_from=(f"type=local,path={tmp_path}/not/there", "type=gha"),
        cache_to=(f"type=local,path={tmp_path}", "type=local,path=in/the/workspace"),
    )
    override = Path("/dev/shm") / f"{PREFIX}x" / "bake.json"
    wanted = [f"--allow=fs.read={override.parent}", f"--allow=fs.read={tmp_path}", f"--allow=fs.write={tmp_path}"]
    root = tmp_path / "checkout"
    (root / "in").mkdir(parents=True)
    assert bake.allowed(options, root, override) == (wanted if asks else [])


_FAKE_DOCKER = """#!/bin/sh
for argument; do printf '%s\\n' "$argument"; done > "$SAID"
"""


@pytest.mark.parametrize(("buildx", "flags"), [("0.13.1+ds1", 0), ("v0.29.1", 1)])
def test_the_whole_command_line_of_both_kinds(
    small_workspace: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buildx: str, flags: int
) -> None:
    """As docker gets it: the bake file and its folder outside the checkout, and no secret."""
    from images.planned import Workspace  # noqa: PLC0415

    workspace = Workspace.load(small_workspace())
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(_FAKE_DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    override = tmp_path / "secrets/bake.json"
    override.parent.mkdir()
    override.write_text("{}")
    options = bake.BuildOptions(buildx=buildx)
    bake.bake(workspace, "cpu", override, tmp_path / "log", output="type=docker", options=options)
    said = (tmp_path / "said").read_text().splitlines()
    assert said[:3] == ["buildx", "bake", "--progress=plain"]
    assert [word for word in said if word.startswith("--allow")] == [f"--allow=fs.read={override.parent}"] * flags
    assert said[said.index(str(override)) - 1] == "--file"


@pytest.fixture
def small_workspace(tmp_path: Path) -> Callable[[], Path]:
    """A function that makes the root of a workspace with a matrix and no more."""

    def make() -> Path:
        own = Path(__file__).resolve().parents[3]
        (tmp_path / "checkout/matrix").mkdir(parents=True)
        shutil.copy(own / "matrix/matrix.yaml", tmp_path / "checkout/matrix")
        return tmp_path / "checkout"

    return make


@pytest.mark.parametrize("folder", ["plain", 'a,b"c', "${HOME}x", "with space"])
def test_bake_reads_the_secret_that_is_meant(tmp_path: Path, folder: str) -> None:
    """Through the real bake, whose strings are templates, and whose entries are lines of CSV."""
    from images.inputs import secret_entry  # noqa: PLC0415
    from images.quoting import bake_value  # noqa: PLC0415

    if shutil.which("docker") is None:
        pytest.skip("no docker command")
    place = tmp_path / folder
    place.mkdir()
    (place / "host-env").write_text("x")
    entry = bake_value(secret_entry("host-env", place))
    (tmp_path / "bake.json").write_text(json.dumps({"target": {"x": {"secret": [entry]}}}))
    command = ["docker", "buildx", "bake", "--file", "bake.json", "--print", "x"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (secret,) = json.loads(done.stdout)["target"]["x"]["secret"]
    shown = secret if isinstance(secret, str) else f"id={secret['id']},src={secret['src']}"
    assert shown.replace('"', "") == f"id=host-env,src={place / 'host-env'}".replace('"', "")
