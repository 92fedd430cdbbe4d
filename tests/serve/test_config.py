"""``python -m serve config``: what is in force, from where, and what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from serve.image import Image
from serve.inforce import MASK, SECRET, InForce, in_force
from serve.settings import Settings, read_settings, variables
from serve.verbs import VERBS
from serve.verbs.config import main

IMAGE = {
    "schema": 1, "target": "cpu", "python": "3.11", "torch": "2.13.0", "cuda": "cpu", "abi": "TRUE",
    "platform": "linux_x86_64", "flash_attn": None, "wheel_sass": [], "wheel_sha256": None, "driver_floor": None,
    "model": "Qwen/Qwen3-TTS-12Hz-0.6B-Base", "lock_hash": "0", "attention": {"default": "sdpa", "because": "a test"},
}  # fmt: skip


def printed(capsys, *arguments):
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def test_every_setting_and_its_source(monkeypatch, capsys, tmp_path):
    (tmp_path / "image.json").write_text(json.dumps(IMAGE))
    monkeypatch.setenv("WW_IMAGE_JSON", str(tmp_path / "image.json"))
    monkeypatch.setenv("WW_MAX_ITEMS", "7")
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("HOST", "::1")
    monkeypatch.setenv("WW_HOST", "127.0.0.1")
    monkeypatch.setenv("WW_DRAIN_S", "")  # empty is unset
    status, out, err = printed(capsys, "--json")
    document = json.loads(out)
    assert (status, err, document["problems"], document["image"]) == (0, "", [], "cpu")
    settings = {entry["variable"]: entry for entry in document["settings"]}
    assert [*settings] == [variables(name)[0] for name in Settings.model_fields]
    found = {
        name: (entry["value"], entry["source"], entry["set_by"])
        for name, entry in settings.items()
        if entry["source"] != "default"
    }
    assert found == {
        "WW_HOST": ("127.0.0.1", "environment", "WW_HOST"),
        "WW_PORT": (9000, "alias", "PORT"),
        "WW_MODEL_ID": ("Qwen/Qwen3-TTS-12Hz-0.6B-Base", "image.json", None),
        "WW_IMAGE_JSON": (str(tmp_path / "image.json"), "environment", "WW_IMAGE_JSON"),
        "WW_LOG_FORMAT": ("json", "image.json", None),
        "WW_MAX_ITEMS": (7, "environment", "WW_MAX_ITEMS"),
    }
    assert settings["WW_DRAIN_S"]["value"] == 8


def test_the_table(monkeypatch, capsys):
    monkeypatch.setenv("PORT", "9000")
    status, out, err = printed(capsys)
    assert (status, err) == (0, "")
    rows = {line.split()[0]: line.split() for line in out.splitlines()}
    assert rows["WW_PORT"] == ["WW_PORT", "9000", "alias", "PORT"]
    assert rows["WW_MODEL_ID"] == ["WW_MODEL_ID", "Qwen/Qwen3-TTS-12Hz-1.7B-Base", "default"]
    assert rows["WW_LOG_FORMAT"] == ["WW_LOG_FORMAT", "text", "default"]


def test_all_problems_at_once(monkeypatch, capsys):
    for name in ("WW_PORT", "WW_DTYPE", "WW_NONSENSE"):
        monkeypatch.setenv(name, "x")
    status, out, err = printed(capsys, "--json")
    assert status == 2
    problems = json.loads(out)["problems"]
    assert [next(name for name in ("NONSENSE", "PORT", "DTYPE") if name in problem) for problem in problems] == [
        "NONSENSE", "PORT", "DTYPE",
    ]  # fmt: skip
    assert [line.removeprefix("error: ") for line in err.splitlines()] == problems


def test_files_that_the_settings_name_are_looked_at(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WW_MODEL_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("WW_IMAGE_JSON", str(tmp_path / "none.json"))
    status, out, err = printed(capsys)
    assert status == 2
    assert "there is no such folder" in err
    assert "none.json: cannot be read" in err
    assert "WW_MODEL_DIR" in out


@pytest.mark.parametrize(("name", "secret"), [
    ("api_keys", True), ("hub_token", True), ("admin_password", True), ("client_secret", True), ("key", True),
    ("max_text_chars", False), ("keyboard", False), ("key_concurrent", False), ("monkey", False),
])  # fmt: skip
def test_which_names_are_secret(name, secret):
    assert (SECRET.search(name) is not None) is secret


def test_a_key_that_cannot_be_is_a_problem_and_is_not_shown(monkeypatch, capsys):
    monkeypatch.setenv("WW_API_KEYS", "short-one")
    status, out, err = printed(capsys)
    assert status == 2
    assert MASK in out
    assert "WW_API_KEYS" in err
    assert "short-one" not in out + err


def test_a_limit_for_keys_without_keys_is_a_problem(monkeypatch, capsys):
    monkeypatch.setenv("WW_KEY_CONCURRENT", "1")
    status, _, err = printed(capsys)
    assert status == 2
    assert "WW_KEY_CONCURRENT is set, and there are no keys to limit" in err


def test_a_secret_is_masked():
    entry = InForce("WW_API_KEYS", "hunter2", "environment", "WW_API_KEYS", True, "")
    assert entry.shown == MASK
    assert InForce("WW_API_KEYS", "", "default", None, True, "").shown is None
    assert InForce("WW_API_KEYS", (), "default", None, True, "").shown is None


def test_an_image_decides_only_what_is_left_open(monkeypatch):
    monkeypatch.setenv("WW_MODEL_ID", "a/b")
    monkeypatch.setenv("WW_LOG_FORMAT", "text")
    entries = {
        entry.variable: entry for entry in in_force(read_settings(), Image.model_validate_json(json.dumps(IMAGE)))
    }
    assert (entries["WW_MODEL_ID"].value, entries["WW_LOG_FORMAT"].value) == ("a/b", "text")


def run(root, *arguments):
    command = [sys.executable, "-X", "importtime", "-m", "serve", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [("config",), ("--help",), ("config", "--help"), ("download", "--help")])
def test_no_verb_waits_for_torch(pytestconfig, arguments):
    done = run(pytestconfig.rootpath, *arguments)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert not imported & {"torch", "transformers", "fastapi", "huggingface_hub"}


def test_help_lists_the_verbs(pytestconfig):
    shown = run(pytestconfig.rootpath, "--help").stdout
    assert all(f"  {name}" in shown and verb.meaning in shown for name, verb in VERBS.items())


def test_an_unknown_verb_is_named_with_the_known_ones(pytestconfig):
    done = run(pytestconfig.rootpath, "serve-it")
    assert done.returncode == 2
    assert "'client', 'config', 'download', 'verify', 'voices'" in done.stderr
