"""The coverage page: whole, self-contained, escaped; its table and its JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import guess
import pytest

from matrix import Arch, load_project
from matrix.cli import run
from matrix.compat import minor_of
from wheel_resolver import cli
from wheel_resolver.asking.coverage import Group, coverage
from wheel_resolver.asking.coverage_cli import render_html, render_text
from wheel_resolver.core.facts import Facts, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.catalogue import Catalogue, build_catalogue

PROJECT = load_project()
COMPAT = PROJECT.compat
GPUS = [(name or "", arch) for name, arch in PROJECT.matrix.axes.gpu]
VOID = {"meta", "link", "br", "img", "hr", "input"}
CELLS = {
    f"{known.minor}/{cuda}/{python}"
    for known in COMPAT.torch.values()
    for cuda in known.cuda
    for python in known.python
    if not python.free_threaded
}


def catalogue() -> Catalogue:
    return build_catalogue(
        snapshot.read().releases, repository=COMPAT.flash_attn.repository, origin="https://github.com",
        source="snapshot", as_of="2026-08-01T00:00:00Z", stale=True,
    )  # fmt: skip


def groups(known: Catalogue, **change: object) -> list[Group]:
    policy = replace(default_policy(COMPAT), **change)  # type: ignore[arg-type]
    return coverage(WheelIndex(known.wheels, Facts(COMPAT, PROJECT.known_broken), policy), GPUS, "linux_x86_64")


class Page(HTMLParser):
    """Checks that tags are balanced; collects each section's squares and reasons, and every attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[dict[str, str]] = []
        self.reasons: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        known = {name: value or "" for name, value in attrs}
        if tag == "section":
            self.sections.append({})
        if "data-cell" in known:
            assert known["tabindex"] == "0"  # the keyboard reaches what the mouse does
            assert known["data-cell"] not in self.sections[-1]
            self.sections[-1][known["data-cell"]] = known["class"]
        if known.get("class") == "why":
            self.reasons.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "td" in self.open and "span" in self.open:
            self.reasons[-1] += data


def test_the_page_holds_every_cell_once_for_every_gpu_and_nothing_from_elsewhere() -> None:
    known = catalogue()
    text = render_html(groups(known), known, "linux_x86_64")
    page = Page(text)
    assert text.startswith("<!doctype html>")
    assert len(CELLS) == 236
    compared = {f"{minor_of(cell.torch)}/{cell.cuda}/{cell.python}" for cell in guess.official_cells(COMPAT)}
    assert len(compared) == 200  # the benchmark's cells: torch 2.4 and newer
    assert compared < CELLS
    assert all(set(section) == CELLS for section in page.sections)
    assert sorted(list(section.values()).count("fa2") for section in page.sections) == [0, 24, 109, 113]
    for name, _ in GPUS:
        assert name in page.text
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert not {name for name, _ in page.attributes} & {"src", "style", "onclick"}
    names = [value for name, value in page.attributes if name == "id"]
    assert len(names) == len(set(names))
    assert {value for name, value in page.attributes if name == "href"} == {f"#{name}" for name in names}
    assert len(page.reasons) == 4 * 236
    assert any(
        reason.startswith("torch 2.9.1, CUDA 12.8, Python 3.11: sdpa (flash) no flash-attn wheel fits")
        and reason.endswith("python -m wheel_resolver --torch 2.9.1 --python 3.12 --cuda 12.8 --gpu A100")
        for reason in page.reasons
    )
    assert "url(" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text


def test_the_same_data_make_the_same_page() -> None:
    known = catalogue()
    assert render_html(groups(known), known, "x") == render_html(groups(known), known, "x")


def test_hostile_names_are_escaped() -> None:
    hostile = '"><script>alert(1)</script>{{ 7 * 7 }}'
    known = catalogue()
    known = replace(known, source=hostile, wheels=tuple(replace(each, provider=hostile) for each in known.wheels))
    index = WheelIndex(known.wheels, Facts(COMPAT), replace(default_policy(COMPAT), trust=(hostile,)))
    text = render_html(coverage(index, [(hostile, Arch(8, 0))], "linux_x86_64"), known, hostile)
    page = Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert hostile in page.text
    assert any(hostile in reason for reason in page.reasons)


def test_gpus_with_the_same_answers_share_a_group_the_best_first() -> None:
    found = groups(catalogue())
    assert [[name for name, _ in group.gpus] for group in found] == [
        ["A100", "A10G", "L4"],
        ["H100"],  # torch 2.0 for CUDA 11.7 has no code for it
        ["B200", "RTX 50"],
        ["T4"],
    ]
    assert [group.count("FA2") for group in found] == [113, 109, 24, 0]
    text = render_text(found)
    assert "2.9    12.8  .     .     sdpa  sdpa  FA2   sdpa  sdpa" in text
    assert "2.6    12.4  .     FA2   FA2   FA2   FA2   FA2   .     ." in text
    assert "T4 (sm_75): of 236 cells 236 run SDPA" in text


def test_what_can_be_compiled_and_reused_is_marked() -> None:
    built = groups(catalogue(), source_build=True)
    assert built[0].count("src") > 0
    assert built[0].count("FA2") == 113
    reused = groups(catalogue(), reuse=True)
    assert reused[0].count("FA2") > 113


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))

    def ask(*options: str) -> tuple[int, str]:
        status = run(lambda: cli.main(["coverage", "--offline", *options]))
        return status, capsys.readouterr().out

    page = tmp_path / "deep" / "coverage.html"
    assert ask("--html", str(page)) == (0, "")
    assert len(Page(page.read_text(encoding="utf-8")).sections) == 4
    status, out = ask("--json")
    data = json.loads(out)
    assert status == 0
    assert data["groups"][0]["counts"] == {"FA2": 113, "src": 0, "sdpa": 123, "none": 0}
    assert all(len(group["answers"]) == 236 for group in data["groups"])
    assert all(row["reason"] for group in data["groups"] for row in group["answers"])
    assert ask()[1].startswith("A100, A10G, L4 (sm_80, sm_86, sm_89): of 236 cells 113 have a wheel")
    assert ask("--platform", "linux_aarch64")[0] == 0
    assert ask("--platform", "win_amd64")[0] == 2
    (tmp_path / "file").write_text("")
    assert ask("--html", str(tmp_path / "file" / "page.html"))[0] == 2
