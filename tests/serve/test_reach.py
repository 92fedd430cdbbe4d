"""Nothing is installed that the service never imports, and all that it reaches imports."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from images.inside import LAZY, unimportable
from images.requirement_files import read_stack_lock

COMMIT = "0" * 40
# torch says so of parts of its own that its compiler imports.
deprecations = pytest.mark.filterwarnings("ignore::DeprecationWarning")

# The service as it is started, with a client in a thread of it. What is imported when all is done is the last line.
SERVICE = """
import json, os, sys, threading, time, urllib.error, urllib.request

def ask(path, body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{os.environ['WW_PORT']}{path}", body)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request) as answer:
        return answer.read()

def drive():
    for _ in range(600):
        try:
            ask("/ready")
            break
        except OSError:
            time.sleep(0.1)
    assert ask("/clone", sys.stdin.buffer.read())[:4] == b"RIFF"
    import torch
    from serve import Client  # `python -m serve client`, which runs in an image as well
    with Client(f"http://127.0.0.1:{os.environ['WW_PORT']}") as client:
        assert client.languages()
    from serve.checkpoint import download
    from serve.errors import NetworkError
    try:
        download("test/xet")
    except NetworkError:
        pass
    with torch.inference_mode():
        torch.compile(torch.nn.Linear(8, 8))(torch.ones(3, 8))
    print(json.dumps([getattr(module, "__file__", None) for module in [*sys.modules.values()]]), flush=True)

def run():
    try:
        drive()
    finally:
        os._exit(0)

threading.Thread(target=run).start()
from serve.__main__ import main
main()
"""


@pytest.fixture
def hub(tiny: Path) -> Iterator[str]:
    """The routes of a model hub that a download takes: ``test/tiny``, and ``test/xet`` with its file in Xet's store."""
    files = {str(path.relative_to(tiny)): path.read_bytes() for path in tiny.rglob("*") if path.is_file()}

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            headers = {"X-Repo-Commit": COMMIT}
            _, _, name = self.path.partition(f"/resolve/{COMMIT}/")
            content = files.get(name)
            if self.path.startswith("/api/models/") and "/revision/" in self.path:
                names = ["model.safetensors"] if "xet" in self.path else files
                siblings = [{"rfilename": name} for name in names]
                content = json.dumps({"id": "test/model", "sha": COMMIT, "siblings": siblings}).encode()
            if "test/xet" in self.path and name:
                headers |= {"X-Xet-Hash": "0" * 64, "X-Xet-Refresh-Route": "/no-such-route"}
            self.send_response(404 if content is None else 200)
            content = content or b""
            for key, value in (headers | {"ETag": f'"{len(content)}"', "Content-Length": str(len(content))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_service_imports_of_every_locked_package(hub, voice, tmp_path, pytestconfig, free_port):
    environment = os.environ | {
        "PYTHONPATH": str(pytestconfig.rootpath),
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path / "hub"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),  # what is in a cache need not be compiled
        "WW_MODEL_ID": "test/tiny",
        "WW_HOST": "127.0.0.1",
        "WW_PORT": str(free_port),
    }
    done = subprocess.run(
        [sys.executable, "-c", SERVICE],
        input=json.dumps({"text": "Hello."} | voice),
        capture_output=True, text=True, env=environment, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    loaded = {Path(file).resolve() for file in json.loads(done.stdout.splitlines()[-1]) if file}
    pins = read_stack_lock(pytestconfig.rootpath / "dockerfiles/locks/py3.11-torch2.13.0-cpu").pins()
    unused = [pin.name for pin in pins if not loaded & installed_files(pin.name)]
    assert unused == []


def installed_files(package: str) -> set[Path]:
    distribution = importlib.metadata.distribution(package)
    return {Path(str(distribution.locate_file(file))).resolve() for file in distribution.files or []}


@deprecations
def test_all_that_the_service_reaches_imports(pytestconfig):
    """The look inside an image does the same there."""
    assert unimportable(str(pytestconfig.rootpath / "serve")) == {}
    assert all(name in sys.modules for name in ("serve.engines.qwen_package", "serve.server", *LAZY))


@deprecations
def test_what_does_not_import_is_told(tmp_path):
    (tmp_path / "no_such_module.py").touch()
    found = unimportable(str(tmp_path))
    assert list(found) == ["serve.no_such_module"]
    assert "ModuleNotFoundError" in found["serve.no_such_module"]
