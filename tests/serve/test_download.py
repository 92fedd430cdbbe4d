"""``python -m serve download`` against a hub on loopback: whole or marked unfinished, and no byte twice."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from serve.fetching import RECORD, lacking

COMMIT, NEXT = "1" * 40, "2" * 40
# The hub's client writes what it gets in steps of this size, and asks for what comes after the last whole one.
STEP = 10 << 20
BIG = "extra.safetensors"


class Hub:
    """What a download asks a hub: ``test/tiny``, with a file of some size; it can stop in the middle of that."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.commit = COMMIT
        self.big = BIG
        self.sent: dict[str, int] = {}
        self.stall_at: int | None = None
        self.lie = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.over = threading.Event()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        if path.startswith("/api/models/"):
            content = self.listing() if path in {f"/api/models/test/tiny/revision/{n}" for n in ("main", "v1", self.commit)} else None  # noqa: E501  # fmt: skip
            self.send(request, "", content, {} if content else {"X-Error-Code": "RepoNotFound"})
            return
        name = path.partition(f"/resolve/{self.commit}/")[2]
        self.send(request, name, self.files.get(name), {})

    def listing(self) -> bytes:
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": hashlib.sha1(content).hexdigest()}
            | (
                {"lfs": {"size": len(content), "sha256": self.digest(content), "pointerSize": 1}}
                if name == self.big
                else {}
            )
            for name, content in self.files.items()
        ]
        return json.dumps({"id": "test/tiny", "sha": self.commit, "siblings": siblings}).encode()

    def digest(self, content: bytes) -> str:
        return hashlib.sha256(b"" if self.lie else content).hexdigest()

    def send(self, request: BaseHTTPRequestHandler, name: str, content: bytes | None, headers: dict[str, str]) -> None:
        body = content or b""
        begin = int((re.match(r"bytes=(\d+)-", request.headers.get("Range", "")) or [0, 0])[1])
        request.send_response(404 if content is None else 206 if begin else 200)
        tag = hashlib.sha1(body).hexdigest() if name != self.big else hashlib.sha256(body).hexdigest()
        headers |= {"X-Repo-Commit": self.commit, "ETag": f'"{tag}"', "Content-Length": str(len(body) - begin)}
        for key, value in headers.items():
            request.send_header(key, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        end = len(body) if self.stall_at is None or name != self.big else self.stall_at
        try:
            request.wfile.write(body[begin:end])
            request.wfile.flush()
        except OSError:
            return
        self.sent[name] = self.sent.get(name, 0) + end - begin
        if end < len(body):
            self.over.wait(60)


@pytest.fixture
def hub(tiny: Path) -> Iterator[Hub]:
    files = {str(path.relative_to(tiny)): path.read_bytes() for path in tiny.rglob("*") if path.is_file()}
    files |= {BIG: os.urandom(1 << 20) * 12, "README.md": b"# Hello", "onnx/model.onnx": b"other weights"}
    made = Hub(files)
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.over.set()
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def serve(tmp_path, pytestconfig, hub):
    """Run ``python -m serve ...``: the finished process, or with ``wait=False`` the running one."""

    def run(*arguments, wait=True, **environment):
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("WW_", "HF_"))}
        variables |= {"PYTHONPATH": str(pytestconfig.rootpath), "HF_ENDPOINT": hub.address} | environment
        process = subprocess.Popen(
            [sys.executable, "-m", "serve", *arguments],
            env={"HF_HOME": str(tmp_path / "home")} | variables,
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if not wait:
            return process
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run


def record_of(folder):
    return json.loads((folder / RECORD).read_text())


def size_of(path):
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a file that is complete takes its own name
        return None


def wait_for_half(process, folder, pattern):
    deadline = time.monotonic() + 30
    while not any(size_of(path) == STEP for path in folder.rglob(pattern)):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_an_interrupted_download_goes_on_and_then_starts_offline(hub, serve, tmp_path, launch, voice):
    folder = tmp_path / "models" / "tiny"
    hub.stall_at = STEP
    process = serve("download", "--model", "test/tiny", WW_MODEL_DIR=str(folder), wait=False)
    wait_for_half(process, folder, "*.incomplete")
    process.kill()
    process.communicate()
    assert record_of(folder)["complete"] is False

    # A start, and `config`, say so instead of loading half a model.
    for verb in ((), ("config",)):
        early = serve(*verb, WW_MODEL_DIR=str(folder))
        assert early.returncode == 2
        assert "the download of test/tiny into it was not finished" in early.stderr

    hub.over.set()
    hub.stall_at = None
    done = serve("download", "--model", "test/tiny", "--to", str(folder))
    assert (done.returncode, done.stdout) == (0, f"test/tiny {COMMIT} {folder}\n"), done.stderr
    assert hub.sent[BIG] == len(hub.files[BIG])
    record = record_of(folder)
    assert (record["model"], record["commit"], record["complete"]) == ("test/tiny", COMMIT, True)
    assert all((folder / name).read_bytes() == hub.files[name] for name in record["files"])
    assert BIG in record["files"]
    assert not {"README.md", "onnx/model.onnx"} & hub.sent.keys()
    # A progress bar in a log would be lines without end.
    assert "\r" not in done.stderr

    # Again: nothing is fetched.
    before = dict(hub.sent)
    assert serve("download", "--model", "test/tiny", "--to", str(folder)).returncode == 0
    assert {name: n for name, n in hub.sent.items() if name} == {name: n for name, n in before.items() if name}

    service = launch(MODEL_DIR=str(folder), IMAGE_JSON="")
    service.wait_ready()
    assert service.ask("POST", "/clone", {"text": "Hello."} | voice)[0] == 200


def test_an_implicit_download_is_the_same(hub, serve, tmp_path, free_port):
    cache = tmp_path / "home" / "hub"
    settings = {"WW_MODEL_ID": "test/tiny", "WW_HOST": "127.0.0.1", "WW_PORT": str(free_port)}
    # A file that no start can do without; what is in it does not matter to the hub.
    hub.big = "model.safetensors"
    hub.files[hub.big] = hub.files.pop(BIG)
    hub.stall_at = STEP
    process = serve(**settings, wait=False)
    wait_for_half(process, cache, "*.incomplete")
    process.kill()
    process.communicate()
    # Without a network the half is not taken for the whole.
    early = serve(**settings, HF_HUB_OFFLINE="1")
    assert early.returncode == 3
    assert "the copy of test/tiny in its cache is unfinished" in early.stderr
    hub.over.set()
    hub.stall_at = None
    done = serve("download", WW_MODEL_ID="test/tiny")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == COMMIT
    assert hub.sent[hub.big] == len(hub.files[hub.big])
    assert "README.md" not in hub.sent
    assert lacking(Path(done.stdout.split()[2])) == []


def test_an_interrupt_ends_it_at_once(hub, serve, tmp_path):
    hub.stall_at = STEP
    process = serve("download", "--model", "test/tiny", "--to", str(tmp_path / "to"), wait=False)
    wait_for_half(process, tmp_path / "to", "*.incomplete")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "run it again: it goes on where it stopped" in err


def test_a_commit_is_pinned_and_the_next_one_replaces_it(hub, serve, tmp_path):
    folder = tmp_path / "to"
    hub.files["old.json"] = b"{}"
    assert serve("download", "--model", "test/tiny", "--revision", COMMIT, "--to", str(folder)).returncode == 0
    big = hub.sent[BIG]
    hub.commit = NEXT
    del hub.files["old.json"]
    hub.files["generation_config.json"] += b"\n"
    done = serve("download", "--model", "test/tiny", "--revision", "v1", "--to", str(folder))
    assert done.returncode == 0, done.stderr
    assert record_of(folder)["commit"] == NEXT
    assert (folder / "generation_config.json").read_bytes() == hub.files["generation_config.json"]
    assert not (folder / "old.json").exists()
    assert hub.sent[BIG] == big  # unchanged, so not fetched


def test_what_differs_from_what_was_announced_is_not_kept(hub, serve, tmp_path):
    hub.lie = True
    done = serve("download", "--model", "test/tiny", "--to", str(tmp_path / "to"))
    assert done.returncode == 3
    assert f"{BIG} is not what the hub announced" in done.stderr
    assert record_of(tmp_path / "to")["complete"] is False
    assert not (tmp_path / "to" / BIG).exists()


@pytest.mark.parametrize(("arguments", "environment", "status", "said"), [
    (("--model", "test/none"), {}, 2, "test/none is not on the hub"),
    (("--model", "test/tiny", "--revision", "none"), {}, 2, "test/tiny at none is not on the hub"),
    (("--model", "a/b/c"), {}, 2, "a/b/c is not on the hub"),
    (("--model", "test/tiny"), {"HF_HUB_OFFLINE": "1"}, 3, "cannot be fetched"),
    (("--model", "test/tiny"), {"HF_ENDPOINT": "http://127.0.0.1:9"}, 3, "cannot be fetched"),
    (("--bogus",), {}, 2, "--bogus"),
    ((), {"WW_PORT": "x"}, 2, "WW_PORT='x' cannot be"),
])  # fmt: skip
def test_what_cannot_be_fetched(serve, tmp_path, arguments, environment, status, said):
    done = serve("download", *arguments, "--to", str(tmp_path / "to"), **environment)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "to").exists()


def test_someone_elses_checkpoint_is_not_written_into(serve, tmp_path, hub):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.json").write_text("{}")
    done = serve("download", "--model", "test/tiny", "--to", str(tmp_path / "own"))
    assert done.returncode == 2
    assert "was not fetched by this command" in done.stderr
    assert hub.sent == {}


def test_sharded_weights_are_looked_for_by_their_index(tiny, tmp_path):
    assert lacking(tiny) == []
    assert lacking(tmp_path) == [
        "config.json", "generation_config.json", "speech_tokenizer/config.json", "model.safetensors",
        "speech_tokenizer/model.safetensors",
    ]  # fmt: skip
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").touch()
    assert "model-2.safetensors" in lacking(tmp_path)
    assert not {"model.safetensors", "model-1.safetensors"} & {*lacking(tmp_path)}
