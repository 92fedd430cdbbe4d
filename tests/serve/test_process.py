"""``python -m serve`` as its own process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

SENTENCES = "A sentence that is said many times. " * 100


def body(voice, items=3):
    return {"items": [{"text": SENTENCES}] * items} | voice


def healthcheck(process):
    return subprocess.run(
        [sys.executable, "-m", "serve.healthcheck"],
        env=process.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_whole_life(launch, voice, samples):
    process = launch()
    process.wait_open()
    # The model takes seconds to import, and the socket is open long before.
    status, _, content = process.ask("GET", "/ready")
    assert status == 503
    loading = json.loads(content)
    assert loading["status"] == "loading"
    assert loading["phase"] == "import"
    assert process.ask("GET", "/health")[0] == 503
    assert process.ask("GET", "/live")[::2] == (200, b'{"status":"live"}')
    assert process.ask("POST", "/clone", {"text": "Too early."} | voice)[0] == 503
    assert healthcheck(process).returncode == 0
    process.wait_ready()
    status, headers, content = process.ask("POST", "/clone", {"text": "Hello.", "seed": 1} | voice)
    assert (status, headers["content-type"], headers["x-weights"]) == (200, "audio/wav", "random")
    assert samples(content).size > 1000
    status, seconds = process.end()
    assert (status, process.stdout()) == (0, "")
    assert seconds < 3
    assert healthcheck(process).returncode == 1
    # One line a record, no warning of any package, and nothing of what was said.
    lines = process.stderr().splitlines()
    assert all(line.startswith("20") and " INFO serve." in line for line in lines), process.stderr()
    assert any("POST '/clone' 200" in line for line in lines)
    assert "Hello" not in process.stderr()


def test_running_requests_are_finished_and_no_new_ones_taken(launch, voice):
    process = launch()
    process.wait_ready()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(process.ask("POST", "/clone-batch", body(voice))))
    thread.start()
    time.sleep(0.4)
    assert not answers
    began = time.monotonic()
    process.popen.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    status, _, content = process.ask("GET", "/ready")
    assert (status, json.loads(content)["status"]) == (503, "draining")
    assert process.ask("GET", "/live")[0] == 200
    assert process.ask("POST", "/clone", {"text": "Too late."} | voice)[0] == 503
    assert process.popen.wait(timeout=20) == 0
    assert time.monotonic() - began < 10
    thread.join()
    assert answers[0][0] == 200
    assert [item["status"] for item in json.loads(answers[0][2])["items"]] == [200] * 3


def test_an_answer_that_is_read_slowly_is_sent_to_its_end(launch, voice):
    process = launch()
    process.wait_ready()
    content = json.dumps({"items": [{"text": SENTENCES[:1800]}] * 32} | voice).encode()
    head = f"POST /clone-batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    with socket.socket() as connection, connection.makefile("rb") as answer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", process.port))
        connection.sendall(head.encode() + b"\r\n\r\n" + content)
        assert answer.readline().split()[1] == b"200"
        process.popen.send_signal(signal.SIGTERM)
        time.sleep(2.5)  # longer than what is left of the process once nothing runs
        headers = dict(line.split(b": ", 1) for line in iter(answer.readline, b"\r\n"))
        assert len(answer.read()) == int(headers[b"content-length"])
    assert process.popen.wait(timeout=20) == 0


def test_what_does_not_finish_in_time_is_told_so(launch, voice):
    process = launch(DRAIN_S="0.5")
    process.wait_ready()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(process.ask("POST", "/clone-batch", body(voice, 32))))
    thread.start()
    time.sleep(0.5)
    status, seconds = process.end()
    thread.join()
    assert status == 0
    assert seconds < 3
    # What was said in time is there; the rest tells why it is not.
    items = json.loads(answers[0][2])["items"]
    assert {item["error"]["code"] for item in items if item["status"] != 200} == {"draining"}
    assert "1 requests are cut off" in process.stderr()


def test_a_body_that_never_ends_does_not_hold_it_up(launch):
    process = launch()
    process.wait_ready()
    with socket.create_connection(("127.0.0.1", process.port)) as connection:
        head = "POST /clone HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        connection.sendall(head.encode())
        time.sleep(0.2)
        status, seconds = process.end()
        assert status == 0
        assert seconds < 3
        assert connection.recv(65_536).startswith(b"HTTP/1.1 503 ")
    assert "Traceback" not in process.stderr()


@pytest.mark.parametrize(("sig", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_while_loading_ends_it_at_once(launch, sig, code):
    process = launch()
    process.wait_open()
    assert process.ask("GET", "/ready")[0] == 503
    status, seconds = process.end(sig)
    assert status == code
    assert seconds < 3
    assert "Traceback" not in process.stderr()


def test_a_second_signal_ends_it_at_once(launch, voice):
    process = launch()
    process.wait_ready()

    def ask():
        with pytest.raises(OSError):
            process.ask("POST", "/clone-batch", body(voice, 32))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.5)
    process.popen.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert process.popen.poll() is None
    status, seconds = process.end()
    thread.join()
    assert status == 0
    assert seconds < 1


def test_a_forced_attention_that_cannot_be_had_stops_the_start(launch):
    process = launch(ATTENTION="flash_attention_2")
    process.wait_open()
    assert process.popen.wait(timeout=30) == 4
    assert "error: WW_ATTENTION=flash_attention_2 cannot run here: flash-attn is not installed" in process.stderr()
    assert "remedy: " in process.stderr()
    assert "Traceback" not in process.stderr()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PORTS": "1"}, "WW_PORTS is not a setting of this service, perhaps you meant WW_PORT"),
        ({"PORT": "x"}, "WW_PORT='x' cannot be"),
        ({"MODEL_DIR": "/nowhere"}, "WW_MODEL_DIR='/nowhere' cannot be: there is no such folder"),
        ({"MODEL_DIR": "/"}, "it holds no config.json"),
        ({"IMAGE_JSON": "/nowhere.json"}, "/nowhere.json: cannot be read"),
    ],
)
def test_a_bad_setting_exits_2_before_anything_is_imported(launch, settings, said):
    began = time.monotonic()
    process = launch(**settings)
    assert process.popen.wait(timeout=10) == 2
    assert time.monotonic() - began < 5
    assert said in process.stderr()
    assert "remedy: " in process.stderr()
    assert "Traceback" not in process.stderr()
    assert process.stdout() == ""


def test_a_port_that_is_taken(launch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = launch(PORT=str(taken.getsockname()[1]))
        assert process.popen.wait(timeout=10) == 2
        assert "Address already in use" in process.stderr()
        assert "Traceback" not in process.stderr()


def test_a_broken_checkpoint_ends_the_process_with_the_reason(launch, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    process = launch(MODEL_DIR=str(folder))
    process.wait_open()
    assert process.popen.wait(timeout=30) == 2
    assert "not a Qwen3-TTS 12 Hz Base checkpoint" in process.stderr()


def test_an_image_says_what_runs(launch, tmp_path):
    image = {
        "schema": 1, "target": "cpu", "python": "3.11", "torch": "2.13.0", "cuda": "cpu", "abi": "TRUE",
        "platform": "linux_x86_64", "flash_attn": None, "wheel_sass": [], "wheel_sha256": None, "driver_floor": None,
        "model": "Qwen/Qwen3-TTS-12Hz-0.6B-Base", "lock_hash": "0",
        "attention": {"default": "eager", "because": "a test"},
    }  # fmt: skip
    (tmp_path / "image.json").write_text(json.dumps(image))
    process = launch(IMAGE_JSON=str(tmp_path / "image.json"))
    process.wait_ready()
    health = json.loads(process.ask("GET", "/health")[2])
    assert health["image"] == image
    assert health["attention"]["running"] == "eager"
    assert "the image's default is eager (a test)" in health["attention"]["because"]
    assert set(health["attention"]["parts"].values()) == {"eager"}


def test_help_lists_every_setting(pytestconfig):
    done = subprocess.run(
        [sys.executable, "-m", "serve", "--help"],
        capture_output=True,
        text=True,
        cwd=pytestconfig.rootpath,
        check=False,
    )
    assert done.returncode == 0
    assert "WW_ATTENTION" in done.stdout
    assert "WW_MAX_WAITING" in done.stdout


def test_an_argument_is_a_usage_error(pytestconfig):
    command = [sys.executable, "-m", "serve", "--port", "1"]
    assert subprocess.run(command, capture_output=True, cwd=pytestconfig.rootpath, check=False).returncode == 2


def test_serve_needs_nothing_else_of_the_project(pytestconfig, tmp_path):
    """In an image only the folder serve/ exists: import every module of it from a copy."""
    (tmp_path / "serve").symlink_to(pytestconfig.rootpath / "serve")
    modules = sorted(f"serve.{file.stem}" for file in (tmp_path / "serve").glob("*.py") if file.stem[0] != "_")
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WW_")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *modules],
        cwd=tmp_path, env=environment | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
