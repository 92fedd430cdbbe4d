"""The ``cpu`` target, built for real from the committed locks: what is in it, and what is not."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import tarfile
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from space import REPOSITORY, Space

from images.cloning import CLONE, VOICE
from images.engine import Engine
from images.hostsettings import read_host_settings
from images.quickstart import by_hand
from images.wav import read_wav, reference_voice

pytestmark = pytest.mark.engine
CANARY = "wheelwright-canary-7f3a9c"


@pytest.fixture(scope="module")
def built(engine: Engine, make_space: Callable[[str], Space], tmp_path_factory: pytest.TempPathFactory) -> Space:
    """Built without cache, with a canary in every setting that reaches a build: the search below can find it."""
    space = make_space("")
    settings = read_host_settings()
    bundle = tmp_path_factory.mktemp("ca") / "bundle.pem"
    own = (
        settings.ca_bundle.read_text() if settings.ca_bundle else Path("/etc/ssl/certs/ca-certificates.crt").read_text()
    )
    bundle.write_text(f"# {CANARY}-ca\n{own}")
    answer = space.images(
        "build", "cpu", "--no-cache", "--smoke", "--json",
        SSL_CERT_FILE=str(bundle), NO_PROXY=f"{CANARY}-proxy.invalid", no_proxy=f"{CANARY}-proxy.invalid",
    )  # fmt: skip
    (space.root / "answer.json").write_text(answer.out)
    assert answer.status == 0, answer.out
    return space


def report(space: Space) -> dict[str, object]:
    return json.loads((space.root / "answer.json").read_text())["targets"][0]


def test_it_is_built_proven_and_tagged(built: Space, engine: Engine) -> None:
    target = report(built)
    assert target["status"] == "built"
    assert target["smoke"]["verdict"] == "passed"
    assert target["smoke"]["attention"] == "sdpa"
    image = engine.client.images.get(f"{REPOSITORY}:cpu")
    tags = {tag.partition(":")[2] for tag in image.tags}
    assert {"cpu", "py3.11-torch2.13.0-cpu-sdpa"} < tags
    assert any(tag.startswith("0.1.0-") for tag in tags)
    assert image.labels["org.opencontainers.image.created"] == "2026-09-21T14:13:20+00:00"


def test_no_setting_of_the_host_is_in_a_layer_or_the_history(built: Space, engine: Engine) -> None:
    image = engine.client.images.get(f"{REPOSITORY}:cpu")
    history = json.dumps(image.history()) + json.dumps(image.attrs)
    assert CANARY not in history
    archive = io.BytesIO(b"".join(image.save()))
    found, files = [], 0
    with tarfile.open(fileobj=archive) as outer:
        for member in outer.getmembers():
            content = outer.extractfile(member)
            if content is None:
                continue
            data = content.read()
            assert CANARY.encode() not in data, member.name
            for inner in layer_files(data):
                files += 1
                if CANARY.encode() in inner[1]:
                    found.append(inner[0])
    assert files > 5000  # the layers were really opened
    assert found == []


def layer_files(data: bytes) -> list[tuple[str, bytes]]:
    """The regular files of a layer (tar, gzip or zstd); nothing for a file that is no layer."""
    if data[:4] == b"\x28\xb5\x2f\xfd":
        import zstandard  # noqa: PLC0415

        data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as layer:
            files = [member for member in layer.getmembers() if member.isfile()]
            return [(member.name, handle.read()) for member in files if (handle := layer.extractfile(member))]
    except tarfile.ReadError:
        return []


def test_the_last_layer_is_the_service_and_image_json_and_small(built: Space, engine: Engine) -> None:
    history = engine.client.images.get(f"{REPOSITORY}:cpu").history()
    last = next(row for row in history if row["Size"] > 0)
    assert "/app/image.json" in last["CreatedBy"]
    assert "/app/serve" in last["CreatedBy"]
    assert last["Size"] < 1_000_000  # in blocks of the file system


def test_the_same_locks_give_the_same_layers(built: Space, engine: Engine, make_space: Callable[[str], Space]) -> None:
    """Built a second time without cache, from another folder, with other dates and modes, at another time."""
    other = make_space("")
    for path in (other.root / "serve").rglob("*"):
        path.chmod(path.stat().st_mode | 0o020)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    answer = other.images("build", "cpu", "--no-cache", "--json", REGISTRY=f"{REPOSITORY}-again", SOURCE_DATE_EPOCH="1")
    assert answer.status == 0, answer.out
    first, second = (
        engine.client.images.get(f"{name}:cpu").attrs["RootFS"]["Layers"]
        for name in (REPOSITORY, f"{REPOSITORY}-again")
    )
    assert first == second
    assert len(first) == 6


def test_a_second_build_takes_every_layer_from_the_cache(built: Space) -> None:
    before = report(built)["image"]
    answer = built.images("build", "cpu", "--json")
    assert answer.status == 0
    log = Path(answer.json["targets"][0]["log"]).read_text()
    assert "CACHED" in log
    assert "uv pip install" not in "".join(line for line in log.splitlines() if " DONE " in line)
    assert answer.json["targets"][0]["image"] != ""
    assert before


def test_what_it_weighs_is_told_and_an_image_over_its_budget_is_a_failure(built: Space, engine: Engine) -> None:
    weight = report(built)["weight"]
    assert weight["layers"] == 6
    assert 300e6 < weight["unpacked"] < 2000e6
    assert (weight["packed"] is not None) == engine.containerd_store
    matrix = built.root / "matrix" / "matrix.yaml"
    before = {path: path.read_text() for path in (matrix, matrix.with_name("lock.yaml"))}
    matrix.write_text(re.sub(r"unpacked_mb: \d+(?=, layers: \d+}  # cpu)", "unpacked_mb: 7", before[matrix]))
    assert matrix.read_text() != before[matrix]
    try:
        built.lock()
        answer = built.images("build", "cpu")
    finally:
        for path, text in before.items():
            path.write_text(text)
    assert answer.status == 1
    assert "over budget: unpacked" in " ".join(answer.out.split())
    assert "budget 7 MB" in answer.err


def test_a_healthcheck_asks_for_live(built: Space, engine: Engine) -> None:
    config = engine.client.images.get(f"{REPOSITORY}:cpu").attrs["Config"]
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "serve.healthcheck"]
    assert config["User"] == "10001:10001"


def test_any_user_of_group_0_may_write_the_volumes(built: Space) -> None:
    """As a platform runs it that gives each project users of its own (OpenShift)."""
    own = f"wheelwright-test-{uuid.uuid4().hex}"
    volumes = [f"{own}-data:/data", f"{own}-models:/models"]
    command = ["docker", "run", "--rm", "--user", "1234567:0", *(part for volume in volumes for part in ("-v", volume))]
    shell = "touch /data/x /models/x; stat -c '%u %g %a' /data /models"
    try:
        done = subprocess.run(
            [*command, f"{REPOSITORY}:cpu", "sh", "-ec", shell], capture_output=True, text=True, check=False, timeout=60
        )
    finally:
        subprocess.run(
            ["docker", "volume", "rm", "--force", *(volume.partition(":")[0] for volume in volumes)], check=True
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["10001 0 2770"] * 2


def test_what_was_built_is_smoked_again_by_its_own_verb(built: Space) -> None:
    answer = built.images("smoke", "cpu")
    assert answer.status == 0
    assert "passed" in answer.out


def test_the_lines_that_the_quickstart_prints_clone_a_voice(built: Space, engine: Engine) -> None:
    out = built.root / "out"
    out.mkdir()
    (out / VOICE).write_bytes(reference_voice())
    lines = "\n".join(by_hand(built.root, f"{REPOSITORY}:cpu", out, gpu=engine.gpu_runtime))
    own = f"wheelwright-test-{uuid.uuid4().hex}"  # nothing of the user's
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for theirs, ours in {
        "models:/models": f"{own}:/models",
        "speech": own,
        "127.0.0.1:8000:": f"127.0.0.1:{port}:",
        "serve client": f"serve client --url http://127.0.0.1:{port}",
    }.items():
        assert theirs in lines
        lines = lines.replace(theirs, ours)
    try:
        subprocess.run(["sh", "-ec", lines], cwd=built.root, check=True, timeout=180)
    finally:
        subprocess.run(["docker", "logs", own], check=False)
        subprocess.run(["docker", "rm", "--force", own], check=False)
        subprocess.run(["docker", "volume", "rm", "--force", own], check=True)
    assert read_wav((out / CLONE).read_bytes()).faults(0.05, 60) == []


def test_a_broken_service_fails_its_smoke_and_keeps_its_log(built: Space) -> None:
    (built.root / "serve" / "__main__.py").write_text("raise SystemExit('broken on purpose')\n")
    answer = built.images("build", "cpu", "--smoke", "--json", REGISTRY="wheelwright-test-broken")
    target = answer.json["targets"][0]
    assert answer.status == 1
    assert target["smoke"]["verdict"] == "failed"
    assert "broken on purpose" in Path(target["smoke"]["log"]).read_text()
    assert any("broken on purpose" in check["detail"] for check in target["smoke"]["checks"] if not check["ok"])
