"""image.json."""

from __future__ import annotations

import json

import pytest

from serve.errors import SettingsError
from serve.image import parse_capability, read_image

CONTENT = {
    "schema": 1,
    "target": "a10g",
    "python": "3.12",
    "torch": "2.9.1",
    "cuda": "12.8",
    "abi": "TRUE",
    "platform": "linux_x86_64",
    "flash_attn": "2.8.3",
    "wheel_sass": ["8.0", "9.0", "sm_100", "12.0"],
    "wheel_sha256": "4e2f9e39",
    "driver_floor": "525.60.13",
    "model": "Qwen/Qwen3-TTS-12Hz-1.7B-Base",
    "attention": {"default": "sdpa", "because": "measured"},
    "lock_hash": "abc",
}


def test_read(tmp_path):
    file = tmp_path / "image.json"
    file.write_text(json.dumps(CONTENT))
    image = read_image(file)
    assert image is not None
    assert image.wheel_sass == ((8, 0), (9, 0), (10, 0), (12, 0))
    assert image.attention.default == "sdpa"
    assert image.format == 1


def test_a_cpu_image_and_a_field_of_a_later_version(tmp_path):
    cpu = {"flash_attn": None, "wheel_sass": [], "wheel_sha256": None, "driver_floor": None, "abi": None, "cuda": "cpu"}
    file = tmp_path / "image.json"
    file.write_text(json.dumps(CONTENT | cpu | {"later": 1}))
    image = read_image(file)
    assert image is not None
    assert image.wheel_sass == ()


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("", "content"),
        ("[]", "content"),
        ("{", "content"),
        (json.dumps({}), "target"),
        (json.dumps(CONTENT | {"schema": 2}), "schema"),
        (json.dumps(CONTENT | {"python": 3.12}), "python"),
        (json.dumps(CONTENT | {"wheel_sass": None}), "wheel_sass"),
        (json.dumps(CONTENT | {"wheel_sass": ["sm8"]}), "wheel_sass.0"),
        (json.dumps(CONTENT | {"wheel_sass": [8.0]}), "wheel_sass.0"),
        (json.dumps(CONTENT | {"attention": {"default": "fa2", "because": ""}}), "attention.default"),
    ],
)
def test_a_broken_file_is_an_error_that_names_file_and_field(tmp_path, content, where):
    file = tmp_path / "image.json"
    file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        read_image(file)
    assert str(file) in caught.value.what
    assert where in caught.value.what


def test_a_named_file_must_be_there(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        read_image(tmp_path / "none.json")


@pytest.mark.parametrize("text", ["8.6", "sm_86"])
def test_both_forms_of_a_capability(text):
    assert parse_capability(text) == (8, 6)
