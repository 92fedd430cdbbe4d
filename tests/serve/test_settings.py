"""Settings: names, aliases, limits, and what a mistake is answered with."""

from __future__ import annotations

import pytest

from serve.settings import BARE_NAMES, Settings, read_settings, table, variables


def test_defaults():
    settings = read_settings()
    assert (settings.host, settings.port, settings.drain_s) == ("0.0.0.0", 8000, 8)
    assert (settings.attention, settings.dtype, settings.engine) == ("auto", "auto", "qwen")
    assert settings.max_audio_bytes == 10 * 1024 * 1024


@pytest.mark.parametrize("name", BARE_NAMES)
def test_each_bare_name_is_an_alias_and_the_own_name_wins(name, monkeypatch):
    values = {
        "HOST": ("::1", "localhost"),
        "PORT": ("8001", "8002"),
        "MODEL_ID": ("a/b", "c/d"),
        "MODEL_DIR": ("/a", "/b"),
        "ATTENTION": ("sdpa", "eager"),
        "DTYPE": ("float32", "bfloat16"),
        "ENGINE": ("qwen", "qwen"),
    }[name]
    monkeypatch.setenv(name, values[0])
    assert str(getattr(read_settings(), name.lower())) == values[0]
    monkeypatch.setenv(f"WW_{name}", values[1])
    assert str(getattr(read_settings(), name.lower())) == values[1]


def test_empty_means_unset(monkeypatch):
    monkeypatch.setenv("WW_MODEL_DIR", "")
    monkeypatch.setenv("WW_PORT", "")
    assert (read_settings().model_dir, read_settings().port) == (None, 8000)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("WW_ATENTION", "WW_ATTENTION"), ("WW_DRAIN", "WW_DRAIN_S"), ("WW_MODEL", "WW_MODEL_ID"), ("WW_ZZZZZZ", None)],
)
def test_an_unknown_variable_is_named(name, hint, monkeypatch):
    monkeypatch.setenv(name, "1")
    with pytest.raises(Exception, match=f"{name} is not a setting") as caught:
        read_settings()
    assert caught.value.exit_code == 2
    assert ("perhaps you meant" in str(caught.value)) is (hint is not None)
    assert hint is None or f"perhaps you meant {hint}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("WW_PORT", "eighty", "integer"),
        ("PORT", "99999", "less than or equal to 65535"),
        ("WW_PORT", "0", "greater than or equal to 1"),
        ("WW_ATTENTION", "flash", "'flash_attention_2', 'sdpa' or 'eager'"),
        ("DTYPE", "fp16", "'float16'"),
        *((name, "inf", "less than or equal to") for name in ("WW_PROMPT_CACHE_MIB", "WW_HANG_S", "WW_DEADLINE_S")),
        ("WW_ENGINE", "fast", "'qwen'"),
        ("WW_DRAIN_S", "-1", "greater than or equal to 0"),
        ("WW_DRAIN_S", "nan", "less than or equal to 3600"),
        ("WW_MAX_AUDIO_MIB", "0", "greater than 0"),
        ("WW_LOG_LEVEL", "loud", "'debug'"),
    ],
)
def test_a_bad_value_says_variable_value_and_why(name, value, why, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(Exception, match="cannot be") as caught:
        read_settings()
    assert f"{name}={value!r}" in caught.value.what
    assert why in caught.value.what
    assert caught.value.remedy
    assert caught.value.exit_code == 2


def test_all_mistakes_are_said_at_once(monkeypatch):
    for name in ("WW_PORT", "WW_DTYPE", "WW_NONSENSE"):
        monkeypatch.setenv(name, "x")
    with pytest.raises(Exception, match=r"WW_NONSENSE.*WW_PORT.*WW_DTYPE"):
        read_settings()


def test_limits_that_exclude_everything(monkeypatch):
    monkeypatch.setenv("WW_MIN_REF_S", "20")
    monkeypatch.setenv("WW_MAX_REF_S", "10")
    with pytest.raises(Exception, match="WW_MIN_REF_S=20 is more than WW_MAX_REF_S=10"):
        read_settings()


def test_the_document_lists_every_setting_with_its_default(pytestconfig):
    text = (pytestconfig.rootpath / "docs/service.md").read_text()
    for (name, default, meaning), field in zip(table(), Settings.model_fields, strict=True):
        bare = variables(field)[1:]
        shown = f"`{name}`{f', `{bare[0]}`' if bare else ''}"
        assert f"| {shown} | {f'`{default}`' if default else ''} | {meaning} |" in text
