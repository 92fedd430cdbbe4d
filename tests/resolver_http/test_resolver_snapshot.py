"""``snapshot``: the same releases give the same bytes, and a person reads what has changed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from matrix.cli import run
from wheel_resolver import cli
from wheel_resolver.upstream import snapshot

NAME = "flash_attn-{}+cu12torch2.9cxx11abiTRUE-cp{}-cp{}-linux_x86_64.whl"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "snapshot.json"


def asset(version: str, python: int, digest: str | None = "a", **change: Any) -> dict[str, Any]:
    row = {"name": NAME.format(version, python, python), "state": "uploaded", "size": 7}
    return {**row, "digest": digest and "sha256:" + digest * 64, "updated_at": "2026-01-01T00:00:00Z", **change}


def serve(upstream: Any, **releases: list[dict[str, Any]]) -> None:
    rows = [{"tag_name": tag.replace("_", "."), "assets": assets} for tag, assets in releases.items()]
    random.Random(3).shuffle(rows)
    upstream.releases(1, rows)


def make(place: Path, *options: str) -> int:
    return run(lambda: cli.main(["snapshot", "--output", str(place), *options]))


def test_the_same_releases_give_the_same_bytes(upstream: Any, place: Path) -> None:
    pythons = [39, 310, 313]
    serve(upstream, v2_8_3=[asset("2.8.3", python) for python in pythons], v2_6_3=[], v2_5_9=[asset("2.5.9", 39)])
    assert make(place) == 0
    first = place.read_bytes()
    data = snapshot.read(place)
    assert [release.tag for release in data.releases] == ["v2.8.3", "v2.6.3"]  # and nothing older
    assert [each.name for each in data.releases[0].assets] == [NAME.format("2.8.3", each, each) for each in pythons]
    serve(upstream, v2_6_3=[], v2_8_3=[asset("2.8.3", python) for python in reversed(pythons)])
    assert make(place) == 0
    assert place.read_bytes() == first
    assert make(place, "--check") == 0


def test_a_person_reads_what_has_changed(upstream: Any, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    serve(upstream, v2_8_2=[asset("2.8.2", 311)], v2_8_3=[asset("2.8.3", python, None) for python in (310, 311, 312)])
    assert make(place) == 0
    before = place.read_bytes()
    capsys.readouterr()
    named = [
        asset("2.8.3", 310),
        asset("2.8.3", 311, None, size=8),
        asset("2.8.3", 313),
        {**asset("2.8.3", 39), "name": "odd.whl"},
    ]
    serve(upstream, v2_8_4=[], v2_8_3=named)
    assert make(place, "--check") == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[2:] == [
        "+ v2.8.4",
        f"~ v2.8.3 {NAME.format('2.8.3', 310, 310)} unpinned -> sha256 {'a' * 64}",
        f"+ v2.8.3 {NAME.format('2.8.3', 313, 313)} sha256 {'a' * 64}",
        f"- v2.8.3 {NAME.format('2.8.3', 312, 312)} unpinned",
        "~ v2.8.3 size or date of 1 wheels",
        "- v2.8.2",
        f"- v2.8.2 {NAME.format('2.8.2', 311, 311)} sha256 {'a' * 64}",
    ]
    assert 'left out, not a wheel name that we read: "odd.whl"' in said.err
    assert "run `python -m wheel_resolver snapshot`" in said.err
    assert place.read_bytes() == before
    assert make(place, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["written"] is True
    assert report["counts"]["wheels removed"] == 2
    assert make(place, "--check") == 0


@pytest.mark.parametrize(("status", "rows"), [(500, {}), (200, []), (200, [{"tag_name": "v2.8.3", "assets": []}])])
def test_it_demands_the_network_and_wheels(upstream: Any, place: Path, status: int, rows: Any) -> None:
    place.write_text("{}")
    upstream.releases(1, rows, status=status)
    assert make(place) == 2  # what is there is no snapshot
    place.unlink()
    assert make(place) == 3
    assert not place.exists()


def test_two_digests_for_one_name_are_refused(upstream: Any, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    serve(upstream, v2_8_3=[asset("2.8.3", 310)])
    assert make(place) == 0
    before = place.read_bytes()
    serve(upstream, v2_8_3=[asset("2.8.3", 310)], v2_8_4=[asset("2.8.3", 310, "b")])
    assert make(place) == 2
    assert "has two digests" in capsys.readouterr().err
    assert place.read_bytes() == before
