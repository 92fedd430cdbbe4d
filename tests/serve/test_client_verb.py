"""``python -m serve client`` and the examples of docs/client.md, against the real app over real sockets."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scripted import Script, answer, broken, error
from starlette.testclient import TestClient

from images import cloning
from images.wav import read_wav
from matrix.errors import WheelwrightError
from serve.client import Client
from serve.speech import encoders
from serve.verbs.client import main

ROOT = Path(__file__).parents[2]
SAID = "What the reference says."


@pytest.fixture
def service(url):
    with Client(url) as client:
        yield client


@pytest.fixture
def shell(url, reference, tmp_path):
    file = tmp_path / "voice.wav"
    file.write_bytes(reference)
    return ["--url", url, "--reference", str(file), "--ref-text", SAID, "--language", "en", "--seed", "1"]


def test_from_the_shell_to_a_file(shell, service, reference, tmp_path, capsys):
    out = tmp_path / "clone.wav"
    out.write_bytes(b"older")
    assert main([*shell, "--text", "Hello there.", "--out", str(out), "--wait", "5"]) == 0
    assert out.read_bytes() == service.clone("Hello there.", reference, SAID, language="en", seed=1)
    ordinary = tmp_path / "voice.wav"
    assert out.stat().st_mode == ordinary.stat().st_mode
    told = capsys.readouterr()
    assert told.out == ""
    assert "first audio after" in told.err
    assert "weights are random: this is noise, not speech" in told.err
    assert {path.name for path in tmp_path.iterdir()} == {"clone.wav", "voice.wav"}


def test_text_from_standard_input_and_audio_to_standard_output(shell, tmp_path):
    made = subprocess.run(
        [sys.executable, "-m", "serve.verbs.client", *shell, "--text", "-", "--out", "-"],
        input=b"Hello there.",
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert soundfile.info(io.BytesIO(made.stdout)).samplerate == 24_000


def test_the_reference_from_standard_input_and_json_to_standard_output(url, service, reference, tmp_path):
    shell = ["--url", url, "--reference", "-", "--x-vector-only", "--seed", "1", "--text", "Hello.", "--json"]
    made = subprocess.run(
        [sys.executable, "-m", "serve", "client", *shell, "--out", "clone.flac"],
        input=reference,
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    content = (tmp_path / "clone.flac").read_bytes()
    assert content == service.clone("Hello.", reference, x_vector_only=True, seed=1, format="flac")
    told = json.loads(made.stdout)
    assert 0 < told.pop("first_audio_s") <= told.pop("seconds")
    expected = {"out": "clone.flac", "format": "flac", "bytes": len(content), "weights": "random"}
    assert told == {"schema": 1} | expected


def test_a_reader_that_goes_away(shell):
    text = "A long story. " * 20
    command = [sys.executable, "-m", "serve", "client", *shell, "--text", text, "--stream", "--out", "-"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as process:
        assert process.stdout.read(4) == b"RIFF"
        process.stdout.close()
        told = process.stderr.read().decode()
        assert process.wait() == 0, told
    assert "Traceback" not in told


def test_a_refusal_leaves_the_file_as_it_was(shell, tmp_path, capsys):
    out = tmp_path / "clone.wav"
    out.write_bytes(b"older")
    assert main([*shell, "--text", " ", "--out", str(out)]) == 1
    assert out.read_bytes() == b"older"
    told = capsys.readouterr().err
    assert "(text) [422 no_text]" in told
    assert "remedy: " in told
    assert {path.name for path in tmp_path.iterdir()} == {"clone.wav", "voice.wav"}


def test_exit_statuses(shell, tmp_path, free_port, capsys):
    asked = ["--text", "Hello.", "--out", str(tmp_path / "x.wav")]
    away = ["--url", f"http://127.0.0.1:{free_port}"]
    assert main([*shell, *asked, *away]) == 3
    assert main([*shell, *asked, *away, "--wait", "0.01"]) == 3
    assert main([*shell, *asked, "--reference", str(tmp_path / "none.wav")]) == 2
    assert main([*shell, *asked, "--url", "nonsense"]) == 2
    assert main([*shell, "--text", "x", "--out", str(tmp_path / "none" / "x.wav")]) == 2
    assert not (tmp_path / "x.wav").exists()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", "required: --text, --out"),
        ("--text x --out x --format aiff", "invalid choice"),
        ("--text x --out x", "give --reference, or --voice"),
        ("--text x --out x --ref-text x", "give --reference, or --voice"),
        ("--text x --out x --reference x", "or --x-vector-only"),
        ("--text x --out x --reference x --ref-text x --x-vector-only", "or --x-vector-only"),
        ("--text x --out x --voice anna --ref-text x", "do not go with it"),
        ("--text x --out x --voice anna --x-vector-only", "do not go with it"),
        ("--text - --out x --reference - --ref-text x", "cannot both be standard input"),
        ("--text x --out - --voice anna --json", "--out must be a file"),
    ],
)
def test_usage(options, told, capsys):
    with pytest.raises(SystemExit) as caught:
        main(options.split())
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


def test_a_stream_to_a_file_has_its_length_or_is_no_file(tmp_path, reference):
    encoder = encoders.make_encoder("wav")
    content = encoder.write(np.zeros(2400, np.float32)) + encoder.close()
    script = Script(answer(200, content), broken)
    file = tmp_path / "voice.wav"
    file.write_bytes(reference)
    out = tmp_path / "clone.wav"
    with script.serve() as url:
        asked = ["--url", url, "--reference", str(file), "--ref-text", SAID, "--text", "x", "--stream", "--out"]
        assert main([*asked, str(out)]) == 0
        made = out.read_bytes()
        assert int.from_bytes(made[4:8], "little") == len(made) - 8
        assert int.from_bytes(made[40:44], "little") == len(made) - 44 == 4800
        assert main([*asked, str(out)]) == 3
    assert out.read_bytes() == made


@pytest.mark.parametrize(
    ("out", "options", "kind"),
    [("a.mp3", [], "mp3"), ("a.OGG", [], "opus"), ("a", [], "wav"), ("a.wav", ["--format", "flac"], "flac")],
)
def test_the_ending_tells_the_format(out, options, kind, tmp_path):
    models = json.dumps({"data": [{"id": "qwen3"}]}).encode()
    script = Script(answer(200, models), answer(200, b"sound"))
    with script.serve() as url:
        asked = ["--url", url, "--voice", "anna", "--text", "Hello.", "--out", str(tmp_path / out)]
        assert main([*asked, *options]) == 0
    expected = {"model": "qwen3", "input": "Hello.", "voice": "anna", "response_format": kind}
    assert json.loads(script.asked[1][3]) == expected


# images/cloning.py, which is what the smoke test and `make quickstart` ask with.


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "serve").symlink_to(ROOT / "serve")
    return tmp_path


def test_the_smoke_tests_clone(url, checkout):
    made = cloning.clone(checkout, checkout / "smoke/cpu", url, label="cpu", log=checkout / "log")
    assert read_wav(made.audio).faults(0.05, 60) == []
    assert made.weights == "random"
    assert "this is noise, not speech" in (checkout / "log").read_text()


def test_the_smoke_test_is_told_why_there_is_no_clone(checkout, free_port):
    script = Script(error(500, "bad_audio"))
    with script.serve() as url, pytest.raises(WheelwrightError, match=r"status 1: .*500 bad_audio.* remedy: wait"):
        cloning.clone(checkout, checkout / "smoke/cpu", url, label="cpu", log=checkout / "log")
    with pytest.raises(WheelwrightError, match=f"status 3: .*127.0.0.1:{free_port}"):
        cloning.clone(
            checkout, checkout / "smoke/cpu", f"http://127.0.0.1:{free_port}", label="cpu", log=checkout / "log"
        )


# docs/client.md.

PAGE = (ROOT / "docs/client.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path, reference, monkeypatch):
    (tmp_path / "voice.wav").write_bytes(reference)
    (tmp_path / "story.txt").write_text("A story.")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block{number}" for number in range(len(BLOCKS))])
def test_the_pages_examples(url, folder, block):
    assert "http://127.0.0.1:8000" in block
    exec(compile(block.replace("http://127.0.0.1:8000", url), "docs/client.md", "exec"), {"__name__": "example"})
    assert all(file.stat().st_size for file in folder.iterdir())


def test_the_pages_web_backend(url, service, reference):
    (block,) = (block for block in BLOCKS if "FastAPI" in block)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(block.replace("http://127.0.0.1:8000", url), "docs/client.md", "exec"), names)
    fields = {"name": "backend", "said": SAID, "language": "de", "consent": "Anna, by mail"}
    with TestClient(names["app"]) as browser:
        kept = browser.post("/voices", data=fields, files={"recording": reference}).json()
        voice = service.voices.get("backend")
        assert (voice.id, voice.ref_text, voice.language) == (kept["id"], SAID, "german")
        spoken = browser.get("/say", params={"text": "Guten Tag.", "voice": "backend"})
        assert spoken.headers["content-type"] == "audio/mpeg"
        assert soundfile.info(io.BytesIO(spoken.content)).samplerate == 24_000
        taken = browser.post("/voices", data=fields, files={"recording": reference})
        assert (taken.status_code, taken.json()["error"]["code"]) == (409, "name_taken")
        service.voices.delete("backend")
        unknown = browser.get("/say", params={"text": "Guten Tag.", "voice": "backend"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "voice_not_found")


@pytest.mark.parametrize("line", LINES)
def test_the_pages_commands(url, service, reference, folder, line, monkeypatch):
    program, _, fed = line.partition(" < ")
    words = shlex.split(program)
    assert words[:4] == ["python", "-m", "serve", "client"]
    if fed:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((folder / fed).read_bytes())))
    kept = [service.voices.create("anna", reference, SAID, consent="Anna, by mail")] if "--voice" in words else []
    assert main([*words[4:], "--url", url]) == 0
    for voice in kept:
        service.voices.delete(voice.id)
    assert (folder / words[words.index("--out") + 1]).stat().st_size > 100


def test_the_page_has_examples():
    assert (len(BLOCKS), len(LINES)) == (5, 4)


@pytest.mark.parametrize(("arguments", "missing"), [((), "pydantic"), (("client", "--help"), "httpx")])
def test_what_is_not_installed_is_named(arguments, missing, pytestconfig):
    command = [sys.executable, "-S", "-m", "serve", *arguments]  # -S: nothing is installed
    environment = {"PYTHONPATH": str(pytestconfig.rootpath)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: the package of {missing} is not installed")
    assert "remedy: " in done.stderr
    assert "Traceback" not in done.stderr
