"""The tiny checkpoint."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from serve.checkpoint import weights_of
from serve.errors import SettingsError
from serve.tiny import write_tiny


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_same_seed_same_bytes_and_small(tiny, tmp_path):
    again = write_tiny(tmp_path / "deep" / "again")
    assert digests(again) == digests(tiny)
    other = write_tiny(tmp_path / "other", seed=1)
    differing = {name for name, digest in digests(other).items() if digests(tiny)[name] != digest}
    assert differing == {"model.safetensors", "speech_tokenizer/model.safetensors"}
    assert sum(file.stat().st_size for file in tiny.rglob("*")) < 1_200_000


def test_it_says_that_it_is_random(tiny):
    config = json.loads((tiny / "config.json").read_text())
    assert weights_of(config) == "random"
    del config["wheelwright_weights"]
    assert weights_of(config) == "released"


def test_it_replaces_an_empty_folder_and_an_earlier_one(tiny, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    write_tiny(folder, seed=1)
    (folder / "stray").write_text("")
    write_tiny(folder)
    assert digests(folder) == digests(tiny)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("content", [{"notes.txt": "mine"}, {"config.json": '{"model_type": "qwen3_tts"}'}])
def test_it_never_replaces_something_else(content, tmp_path):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError, match="not a tiny checkpoint"):
        write_tiny(tmp_path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == content


def test_it_never_replaces_a_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(SettingsError, match="not a folder"):
        write_tiny(file)
    assert file.read_text() == "mine"


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("serve.tiny._save", full)
    with pytest.raises(SettingsError, match="No space left"):
        write_tiny(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_command(tiny, tmp_path, pytestconfig):
    command = [sys.executable, "-W", "error", "-m", "serve.tiny"]
    done = subprocess.run(
        [*command, tmp_path / "m"], capture_output=True, text=True, cwd=pytestconfig.rootpath, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / 'm'}\n", "")
    assert digests(tmp_path / "m") == digests(tiny)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("")
    done = subprocess.run(
        [*command, tmp_path / "mine"], capture_output=True, text=True, cwd=pytestconfig.rootpath, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
