"""Where the catalogue comes from: fresh cache, one refresh, old cache, snapshot; each said, none trusted blindly."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from matrix import load_project
from matrix.cli import run
from matrix.errors import NetworkError
from wheel_resolver import cli
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.github import Api
from wheel_resolver.upstream.source import Loaded, Mode, cache_path, load_catalogue

COMPAT = load_project().compat
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NEW = "flash_attn-2.8.4+cu12torch2.9cxx11abiTRUE-cp311-cp311-linux_x86_64.whl"


def serve(upstream: Any, name: str = NEW, **change: Any) -> None:
    asset = {"name": name, "state": "uploaded", "size": 7, "digest": "sha256:" + "b" * 64, **change}
    upstream.releases(1, [{"tag_name": "v2.8.4", "assets": [asset]}])


def load(folder: Path, mode: Mode = Mode.AUTO, now: datetime = NOW) -> Loaded:
    return load_catalogue(COMPAT, mode, environment=os.environ, now=now, folder=folder)


def sources(folder: Path, *steps: tuple[Mode, float]) -> list[str]:
    return [load(folder, mode, NOW + timedelta(hours=hours)).catalogue.source for mode, hours in steps]


def test_a_fresh_cache_is_used_and_an_old_one_refreshed_once(upstream: Any, tmp_path: Path) -> None:
    serve(upstream)
    steps = [(Mode.AUTO, 0), (Mode.AUTO, 23.9), (Mode.AUTO, 24), (Mode.OFFLINE, 30), (Mode.REFRESH, 30)]
    assert sources(tmp_path, *steps) == ["network", "cache", "network", "cache", "network"]
    assert len(upstream.asked) == 3


def test_when_the_network_fails_an_old_cache_beats_the_snapshot(upstream: Any, tmp_path: Path) -> None:
    serve(upstream)
    load(tmp_path)
    upstream.releases(1, {}, status=503)
    late = load(tmp_path, now=NOW + timedelta(days=9))
    assert (late.catalogue.source, late.catalogue.stale, late.catalogue.listed) == ("cache", True, 1)
    assert "status 503" in late.notes[0]
    assert "using the cache of 2026-11-21" in late.notes[1]


def test_without_cache_and_network_the_snapshot_answers(upstream: Any, tmp_path: Path) -> None:
    upstream.releases(1, {}, status=403, X_RateLimit_Remaining="0")
    loaded = load(tmp_path)
    assert (loaded.catalogue.source, loaded.catalogue.stale, loaded.catalogue.listed) == ("snapshot", True, 832)
    assert "rate limit" in loaded.notes[0]
    assert not list(tmp_path.rglob("*.json"))


def test_a_list_without_wheels_is_not_believed(upstream: Any, tmp_path: Path) -> None:
    upstream.releases(1, [])
    loaded = load(tmp_path)
    assert loaded.catalogue.source == "snapshot"
    assert "holds no wheel" in loaded.notes[0]


def test_refresh_demands_the_network(upstream: Any, tmp_path: Path) -> None:
    upstream.releases(1, {}, status=500)
    with pytest.raises(NetworkError):
        load(tmp_path, Mode.REFRESH)


def test_offline_opens_no_socket(upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    assert load(tmp_path, Mode.OFFLINE).catalogue.source == "snapshot"


def test_a_clock_that_was_wrong_makes_no_eternal_cache(upstream: Any, tmp_path: Path) -> None:
    serve(upstream)
    assert sources(tmp_path, (Mode.AUTO, 9000), (Mode.AUTO, 0)) == ["network", "network"]
    assert sources(tmp_path, (Mode.AUTO, -0.01)) == ["cache"]  # another process began a little later, and was faster


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 2}', "\x00\xff", '{"schema": 1, "repository": 1, "as_of": "x", "releases": 1}']
)
def test_a_damaged_cache_is_said_and_replaced(upstream: Any, tmp_path: Path, text: str) -> None:
    serve(upstream)
    path = cache_path(Api(upstream.url, None), COMPAT.flash_attn.repository, tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("latin-1"))
    loaded = load(tmp_path)
    assert loaded.catalogue.source == "network"
    assert "is damaged" in loaded.notes[0]
    assert snapshot.read(path).as_of == "2026-11-21T12:00:00Z"


def test_a_cache_that_cannot_be_written_still_answers(upstream: Any, tmp_path: Path) -> None:
    serve(upstream)
    (tmp_path / "catalogue").write_text("a file where the folder should be")
    loaded = load(tmp_path)
    assert loaded.catalogue.source == "network"
    assert any("could not be cached" in note for note in loaded.notes)


def test_a_cache_that_cannot_be_entered_still_answers(
    upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    serve(upstream)
    monkeypatch.setattr(Path, "exists", refuse)
    assert "cannot be read: Permission denied" in load(tmp_path).notes[0]


def test_the_cache_is_by_api_and_identity_and_hides_the_token(
    upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(upstream)
    load(tmp_path)
    monkeypatch.setenv("GH_TOKEN", "ghp_secret")
    load(tmp_path)
    files = sorted((tmp_path / "catalogue").iterdir())
    assert len(files) == 2
    for path in files:
        assert "secret" not in path.name
        assert "secret" not in path.read_text()


def test_a_url_is_kept_only_where_it_is_not_the_usual_one(
    upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = f"https://github.com/Dao-AILab/flash-attention/releases/download/v2.8.4/{NEW.replace('+', '%2B')}"
    serve(upstream, browser_download_url=usual)
    assert load(tmp_path).catalogue.wheels[0].url == usual
    (path,) = (tmp_path / "catalogue").iterdir()
    assert len(json.loads(path.read_text())["releases"][0]["assets"][0]) == 4
    monkeypatch.setenv("WHEELWRIGHT_TRUST_ORIGINS", "https://ghe.example")
    serve(upstream, browser_download_url="https://ghe.example/w.whl")
    assert load(tmp_path, Mode.REFRESH).catalogue.wheels[0].url == "https://ghe.example/w.whl"
    assert load(tmp_path).catalogue.wheels[0].url == "https://ghe.example/w.whl"


def test_the_command_tells_where_it_looked(
    upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path))
    question = ["--torch", "2.9", "--python", "3.11", "--cuda", "12.8", "--gpu", "A10G", "--json"]
    serve(upstream)
    assert cli.main(question) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["catalogue"]["source"] == "network"
    assert data["catalogue"]["stale"] is False
    assert data["resolutions"][0]["wheel"]["name"] == NEW  # uploaded after the snapshot was made
    upstream.releases(1, {}, status=500)
    assert run(lambda: cli.main([*question, "--refresh"])) == 3
    assert "status 500" in capsys.readouterr().err


def test_an_unpinned_wheel_is_fetched_once_to_lock_it(
    upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_wheel: Callable[[str], bytes]
) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path))
    name = NEW.replace("cp311", "cp312")
    serve(upstream, name, digest=None, browser_download_url=f"{upstream.url}/w.whl")
    upstream.pages["/w.whl"] = (200, {}, whole_wheel(name))
    path = tmp_path / "lock.yaml"
    for _ in range(2):
        assert cli.main(["lock", "--output", str(path)]) == 0
    text = path.read_text()
    assert "digest: computed" in text
    assert [asked for asked, _ in upstream.asked].count("/w.whl") == 2  # a10g and h100, once each; then pinned
