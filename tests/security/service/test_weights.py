"""Damaged weights: what is noticed at each start, what when all bytes are read, and in which words."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from serve.digests import FILE, checked_files, digest_of, read_digests, write_digests
from serve.errors import SettingsError
from tests.serve.conftest import ROOT
from tests.serve.test_download import BIG, hub, record_of, serve  # noqa: F401 - fixtures

WEIGHTS = ("model.safetensors", "speech_tokenizer/model.safetensors")


@pytest.fixture
def model(tiny, tmp_path):
    """A checkpoint of this test's own."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


@pytest.fixture
def listed(model):
    """The same, with its digests."""
    write_digests(model, {name: digest_of(model / name) for name in checked_files(model)})
    return model


def flip(file, at=-100, bit=1):
    content = bytearray(file.read_bytes())
    content[at] ^= bit
    file.write_bytes(content)


def put(file, value, name=None):
    """Set one value of a tensor; the name of that tensor."""
    tensors = load_file(file)
    chosen = name or max(tensors, key=lambda key: tensors[key].numel())
    tensors[chosen].view(-1)[7] = value
    save_file(tensors, file, metadata={"format": "pt"})
    return chosen


def verify(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "serve", "verify", *map(str, arguments)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HF_HOME": "/nowhere"} | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def failure_of(make_client, **settings):
    """Why a start fails; the service is this process."""
    with make_client(**settings) as client:
        service = client.app_state["service"]
        deadline = time.monotonic() + 120
        while service.state.failure is None:
            assert client.get("/ready").status_code == 503
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return service.state.failure


@pytest.mark.parametrize("file", WEIGHTS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_no_number_is_named(make_client, model, file, value):
    name = put(model / file, value)
    failure = failure_of(make_client, MODEL_DIR=str(model))
    assert isinstance(failure, SettingsError)
    assert f"{model / file}: {name} holds values that are not finite numbers" in failure.what
    assert "python -m serve verify" in failure.remedy


def test_the_process_ends_with_status_2_and_no_traceback(launch, model):
    put(model / WEIGHTS[0], float("nan"))
    process = launch(MODEL_DIR=str(model))
    assert process.popen.wait(timeout=120) == 2
    assert "holds values that are not finite numbers" in process.stderr()
    assert "remedy: " in process.stderr()
    assert "Traceback" not in process.stderr()
    assert "defect" not in process.stderr()


def test_a_value_that_does_not_fit_the_precision_is_told_from_damage(make_client, model):
    name = put(model / WEIGHTS[0], 1e6)
    failure = failure_of(make_client, MODEL_DIR=str(model), DTYPE="float16")
    assert isinstance(failure, SettingsError)
    assert f"{name} is finite, but not in float16" in failure.what
    assert "WW_DTYPE" in failure.remedy


def test_values_that_overflow_on_the_way_are_no_defect(make_client, model):
    """A flipped exponent is a number, and makes none of every number after it."""
    tensors = load_file(model / WEIGHTS[0])
    for name, tensor in tensors.items():
        if name.endswith("codec_head.weight"):
            tensor.fill_(3e38)
    save_file(tensors, model / WEIGHTS[0], metadata={"format": "pt"})
    failure = failure_of(make_client, MODEL_DIR=str(model))
    assert isinstance(failure, SettingsError), failure
    assert "is not finite: its weights or its dtype are at fault" in failure.what


@pytest.mark.parametrize("file", WEIGHTS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: b"",
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: content[:9] + b"\xff" + content[10:],
        lambda content: content.replace(b'"F32"', b'"F64"', 1),
    ],
    ids=["cut", "longer", "empty", "header of 16 EiB", "header is no text", "another dtype"],
)
def test_size_and_header_are_always_checked(make_client, model, file, damage):
    path = model / file
    path.write_bytes(damage(path.read_bytes()))
    failure = failure_of(make_client, MODEL_DIR=str(model))
    assert isinstance(failure, SettingsError)
    assert "the checkpoint cannot be loaded" in failure.what


def test_a_size_that_is_listed_is_always_checked(make_client, listed):
    """A whole file of another checkpoint has a header that fits it."""
    tensors = load_file(listed / WEIGHTS[0])
    save_file(tensors | {"more": torch.zeros(9)}, listed / WEIGHTS[0], metadata={"format": "pt"})
    failure = failure_of(make_client, MODEL_DIR=str(listed))
    assert isinstance(failure, SettingsError)
    assert f"{WEIGHTS[0]} has " in failure.what
    assert "bytes and not" in failure.what


@pytest.mark.parametrize("file", [*WEIGHTS, "config.json", "vocab.json"])
def test_a_flipped_bit_is_found_when_all_bytes_are_read(make_client, listed, file):
    assert verify(listed).returncode == 0
    flip(listed / file, -3 if file.endswith(".json") else -100)
    done = verify("--json", listed)
    assert done.returncode == 1, done.stderr
    assert {name for name, what in json.loads(done.stdout)["files"].items() if what != "same"} == {file}
    assert f"1 of {len(checked_files(listed))} files are not what" in done.stderr
    failure = failure_of(make_client, MODEL_DIR=str(listed), VERIFY_WEIGHTS="1")
    assert isinstance(failure, SettingsError)
    assert f"{file} differs" in failure.what
    assert "python -m serve download --to" in failure.remedy
    # The list is one that everybody's tool can read.
    others = subprocess.run(["sha256sum", "--check", FILE], cwd=listed, capture_output=True, text=True, check=False)
    assert others.returncode == 1
    assert f"{file}: FAILED" in others.stdout


def test_whole_weights_start_when_all_bytes_are_read(make_client, ready, listed, voice):
    with make_client(MODEL_DIR=str(listed), VERIFY_WEIGHTS="1") as client:
        ready(client)
        assert "verify" in [phase["name"] for phase in client.get("/ready").json()["phases"]]
        assert client.post("/clone", json={"text": "Hello."} | voice).status_code == 200


def test_a_file_more_or_less_is_found(listed):
    (listed / "generation_config.json").unlink()
    (listed / "model.safetensors.index.json").write_text("{}")
    done = verify(listed)
    assert done.returncode == 1
    said = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert said["generation_config.json"] == "missing"
    assert said["model.safetensors.index.json"] == "not listed"


def test_without_digests_it_says_so(make_client, model):
    done = verify(WW_MODEL_DIR=str(model))
    assert done.returncode == 2
    assert f"holds no {FILE}" in done.stderr
    failure = failure_of(make_client, MODEL_DIR=str(model), VERIFY_WEIGHTS="1")
    assert isinstance(failure, SettingsError)
    assert "WW_VERIFY_WEIGHTS=1 cannot be met" in failure.what
    assert verify("--write", model).returncode == 0
    assert verify(model).returncode == 0
    again = verify("--write", model)
    assert again.returncode == 2
    assert "is there already" in again.stderr
    assert verify(model / "nowhere").returncode == 2


@pytest.mark.parametrize(
    "line",
    [
        f"{'0' * 64}  ../outside", f"{'0' * 64}  /etc/passwd", f"{'0' * 64}  a/../../b", f"{'0' * 63}  config.json",
        "nonsense", f"{'0' * 64}  a\x1b[2J.json", "\xff", f"{'0' * 64}  x\n{'1' * 64}  x",
    ],
)  # fmt: skip
def test_a_broken_list_is_refused(model, line):
    (model / FILE).write_bytes(line.encode("latin-1") + b"\n")
    with pytest.raises(SettingsError, match=FILE):
        read_digests(model)
    done = verify(model)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr


def test_download_writes_digests_and_mends_what_differs(hub, serve, tmp_path):  # noqa: F811
    folder = tmp_path / "to"
    ask = ("download", "--model", "test/tiny", "--to", str(folder))
    assert serve(*ask).returncode == 0
    digests = read_digests(folder)
    assert set(digests) == set(record_of(folder)["files"])
    assert serve("verify", str(folder)).returncode == 0
    flip(folder / BIG)
    flip(folder / WEIGHTS[0])
    assert serve("verify", str(folder)).returncode == 1
    done = serve(*ask)
    assert done.returncode == 0, done.stderr
    assert f"{BIG} differs, so it is fetched again" in done.stderr
    assert all((folder / name).read_bytes() == hub.files[name] for name in digests)
    assert serve("verify", str(folder)).returncode == 0


def test_the_hubs_cache_has_digests_too(hub, serve):  # noqa: F811
    ask = ("download", "--model", "test/tiny")
    done = serve(*ask)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.split()[2])
    assert set(read_digests(folder)) == {
        name for name in hub.files if name.endswith((".json", ".safetensors", "merges.txt"))
    }
    flip(folder / BIG)
    assert serve("verify", WW_MODEL_ID="test/tiny", HF_HUB_OFFLINE="1").returncode == 1
    assert serve(*ask).returncode == 0
    assert serve("verify", WW_MODEL_ID="test/tiny", HF_HUB_OFFLINE="1").returncode == 0
    assert (folder / BIG).read_bytes() == hub.files[BIG]


def test_a_link_to_a_file_elsewhere_is_not_followed_to_be_deleted(hub, serve, tmp_path):  # noqa: F811
    folder, precious = tmp_path / "to", tmp_path / "blobs" / "precious"
    ask = ("download", "--model", "test/tiny", "--to", str(folder))
    assert serve(*ask).returncode == 0
    precious.parent.mkdir()
    precious.write_bytes(b"mine")
    (folder / BIG).unlink()
    (folder / BIG).symlink_to(precious)
    assert serve(*ask).returncode == 0
    assert precious.read_bytes() == b"mine"
    assert (folder / BIG).read_bytes() == hub.files[BIG]
