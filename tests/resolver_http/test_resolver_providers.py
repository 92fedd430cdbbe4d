"""Other providers than the official one: opted in, in an order of trust, left out aloud when they are not reached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from matrix import DATA_DIR
from matrix.cli import run
from wheel_resolver import cli, lock

OFFICIAL = "Dao-AILab/flash-attention"
OURS = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
COMMUNITY = "flash_attn-2.8.9+cu128torch2.9-cp312-cp312-linux_x86_64.whl"  # no ABI in the name: it follows
QUESTION = ["--torch", "2.9", "--python", "3.12", "--cuda", "12.8", "--gpu", "A10G"]
INDEX_PATH = "/simple/flash-attn/"


class Space:
    """A matrix with providers, a cache of its own, and an upstream."""

    def __init__(self, upstream: Any, folder: Path) -> None:
        self.upstream = upstream
        self.folder = folder
        self.matrix = folder / "matrix.yaml"
        self.releases(OFFICIAL, OURS)

    def trust(self, *rows: str) -> None:
        text = (DATA_DIR / "matrix.yaml").read_text(encoding="utf-8") + "\nproviders:\n"
        self.matrix.write_text(text + "".join(f"  - {{{row}, because: b, source: s}}\n" for row in rows))

    def releases(self, repository: str, *names: str, digest: str | None = "sha256:" + "c" * 64) -> None:
        assets = [{"name": name, "state": "uploaded", "size": 7, "digest": digest} for name in names]
        body = json.dumps([{"tag_name": "v1", "assets": assets}]).encode()
        self.upstream.pages[f"/repos/{repository}/releases?per_page=100"] = (200, {}, body)

    def index(self, *links: str) -> str:
        body = "".join(f'<a href="{link}">x</a><br>' for link in links)
        self.upstream.pages[INDEX_PATH] = (200, {"Content-Type": "text/html"}, f"<html>{body}</html>".encode())
        return f'name: page, kind: index, url: "{self.upstream.url}{INDEX_PATH}"'


@pytest.fixture
def space(upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Space:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    return Space(upstream, tmp_path)


GITHUB = "name: community, kind: github, repository: someone/wheels"


def ask(space: Space, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The catalogue, the one resolution, and what was said."""
    assert run(lambda: cli.main([*QUESTION, "--json", "--matrix", str(space.matrix), *options])) == 0
    said = capsys.readouterr()
    data = json.loads(said.out)
    return data["catalogue"], data["resolutions"][0], said.err


def test_trust_beats_version_and_the_reason_says_so(space: Space, capsys: pytest.CaptureFixture[str]) -> None:
    space.releases("someone/wheels", COMMUNITY)
    space.trust(GITHUB)
    catalogue, row, _ = ask(space, capsys)
    assert (row["wheel"]["provider"], row["wheel"]["version"]) == (OFFICIAL, "2.8.3")
    assert "; community has 2.8.9, and is trusted less" in row["reason"]
    assert [(each["name"], each["source"], each["wheels"]) for each in catalogue["providers"]] == [
        (OFFICIAL, "network", 1),
        ("community", "network", 1),
    ]
    assert catalogue["wheels"] == 2


def test_a_provider_gives_what_the_more_trusted_lacks(space: Space, capsys: pytest.CaptureFixture[str]) -> None:
    space.releases(OFFICIAL, OURS.replace("cp312", "cp311"))
    space.releases("someone/wheels", COMMUNITY)
    space.trust(GITHUB)
    _, row, _ = ask(space, capsys)
    assert row["wheel"]["provider"] == "community"
    assert row["wheel"]["url"].startswith("https://github.com/someone/wheels/releases/download/v1/flash_attn-2.8.9")
    assert f"; {OFFICIAL}, trusted more, has no wheel that fits" in row["reason"]
    _, row, _ = ask(space, capsys, "--abi", "FALSE")
    assert row["wheel"] is None  # the ABI of a name without one follows from torch and CUDA


def test_a_provider_that_is_not_named_is_not_used(space: Space, capsys: pytest.CaptureFixture[str]) -> None:
    space.releases("someone/wheels", COMMUNITY)
    space.trust(GITHUB)
    ask(space, capsys)
    space.matrix.write_text((DATA_DIR / "matrix.yaml").read_text(encoding="utf-8"))
    catalogue, row, _ = ask(space, capsys)
    assert "providers" not in catalogue
    assert (row["wheel"]["provider"], catalogue["wheels"]) == (OFFICIAL, 1)


def test_the_same_name_of_two_providers_is_two_wheels(space: Space, capsys: pytest.CaptureFixture[str]) -> None:
    space.releases("someone/wheels", OURS, digest="sha256:" + "d" * 64)
    space.trust(GITHUB, f"name: upstream, kind: github, repository: {OFFICIAL}")
    _, row, _ = ask(space, capsys)
    assert (row["wheel"]["provider"], row["wheel"]["sha256"]) == ("community", "d" * 64)


def test_a_folder_with_and_without_digests(space: Space, capsys: pytest.CaptureFixture[str]) -> None:
    folder = space.folder / "my wheels"
    folder.mkdir()
    (folder / COMMUNITY).write_bytes(b"a wheel")
    (folder / "notes.txt").write_text("no wheel")
    (folder / "flash_attn-2.8.3-cp312-cp312-linux_x86_64.whl").write_text("built by hand: nobody knows for which torch")
    space.trust("name: shelf, kind: folder, path: my wheels", f"name: upstream, kind: github, repository: {OFFICIAL}")
    catalogue, row, _ = ask(space, capsys)
    assert (row["wheel"]["provider"], row["wheel"]["sha256"], row["wheel"]["size"]) == ("shelf", None, 7)
    assert (catalogue["unparsed"], catalogue["providers"][0]["source"]) == (1, "folder")
    sums = hashlib.sha256(b"a wheel").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{sums}  {COMMUNITY}\nnonsense\n")
    assert ask(space, capsys, "--offline")[1]["wheel"]["sha256"] == sums


def test_an_index_page(space: Space, capsys: pytest.CaptureFixture[str]) -> None:
    quoted = COMMUNITY.replace("+", "%2B")
    page = space.index(
        f"../../files/{quoted}#sha256={'e' * 64}",
        "javascript:alert(1).whl",
        "http://other.example/flash_attn-9.9.9+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl",
        "http://[broken/x.whl",
        "/index.html",
    )
    space.trust(page, f"name: upstream, kind: github, repository: {OFFICIAL}")
    catalogue, row, _ = ask(space, capsys)
    assert row["wheel"]["url"] == f"{space.upstream.url}/files/{quoted}"
    assert (row["wheel"]["sha256"], row["wheel"]["provider"], row["wheel"]["tag"]) == ("e" * 64, "page", "index")
    assert catalogue["providers"][0]["wheels"] == 1


def test_no_token_is_sent_to_an_index(
    space: Space, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GH_TOKEN", "ghp_secret")
    space.trust(space.index(f"/{COMMUNITY}"))
    ask(space, capsys)
    sent = {path: headers.get("Authorization") for path, headers in space.upstream.asked}
    assert sent[INDEX_PATH] is None
    assert sent[f"/repos/{OFFICIAL}/releases?per_page=100"] == "Bearer ghp_secret"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, b"", "status 404"),
        (302, b"", "status 302"),
        (200, b"<html>Welcome to the airport</html>", "links to no wheel"),
        (200, b"\xff\xfe<a href='x.whl", "links to no wheel"),
    ],
)
def test_a_provider_that_is_not_reached_is_said_and_left_out(
    space: Space, capsys: pytest.CaptureFixture[str], status: int, body: bytes, words: str
) -> None:
    space.trust(space.index(), f"name: upstream, kind: github, repository: {OFFICIAL}")
    space.upstream.pages[INDEX_PATH] = (status, {"Location": f"{space.upstream.url}/x.whl"}, body)
    for options in ((), ("--refresh",)):
        catalogue, row, said = ask(space, capsys, *options)
        assert row["wheel"]["provider"] == OFFICIAL
        assert catalogue["providers"][0] == {
            "name": "page",
            "source": "none",
            "as_of": None,
            "stale": True,
            "wheels": 0,
        }
        assert "note: provider page: left out" in said
        assert words in said


def test_a_cache_counts_for_a_day_then_it_is_said_and_never_when_the_network_is_demanded(
    space: Space, capsys: pytest.CaptureFixture[str]
) -> None:
    space.trust(space.index(f"/{COMMUNITY}#sha256={'e' * 64}"), f"name: up, kind: github, repository: {OFFICIAL}")
    assert ask(space, capsys)[1]["wheel"]["provider"] == "page"
    space.upstream.pages[INDEX_PATH] = (404, {}, b"")
    assert ask(space, capsys, "--offline")[1]["wheel"]["provider"] == "page"
    for path in (space.folder / "cache" / "catalogue").iterdir():
        path.write_text(path.read_text().replace('"as_of": "20', '"as_of": "19'))
    _, row, said = ask(space, capsys)
    assert row["wheel"]["provider"] == "page"
    assert "provider page: cannot list the releases now" in said
    assert "provider page: using the cache of 19" in said
    assert ask(space, capsys, "--refresh")[1]["wheel"]["provider"] == OFFICIAL


def test_a_missing_folder_is_left_out(space: Space, capsys: pytest.CaptureFixture[str]) -> None:
    space.trust("name: shelf, kind: folder, path: absent")
    _, row, said = ask(space, capsys)
    assert row["wheel"]["provider"] == OFFICIAL
    assert "provider shelf: left out: " in said
    assert "No such file" in said


def test_two_digests_on_one_tag_cost_the_name_and_not_the_provider(
    space: Space, capsys: pytest.CaptureFixture[str]
) -> None:
    links = [f"/{COMMUNITY}#sha256={digit * 64}" for digit in "ef"]
    other = COMMUNITY.replace("2.8.9", "2.8.2")
    page = space.index(*links, f"/{other}#sha256={'d' * 64}")
    space.trust(page, f"name: upstream, kind: github, repository: {OFFICIAL}")
    _, row, said = ask(space, capsys)
    assert (row["wheel"]["name"], row["wheel"]["provider"]) == (other, "page")
    assert f"provider page: {COMMUNITY} has 2 digests on tag index: {'e' * 64}, {'f' * 64}; the name is" in said


@pytest.mark.parametrize("kind", ["index", "folder"])
def test_its_wheels_flow_into_the_lock(
    space: Space, capsys: pytest.CaptureFixture[str], whole_wheel: Callable[[str], bytes], kind: str
) -> None:
    content = whole_wheel(COMMUNITY)
    sha256 = hashlib.sha256(content).hexdigest()
    if kind == "index":
        row = space.index(f"/files/{COMMUNITY.replace('+', '%2B')}")
        space.upstream.pages[f"/files/{COMMUNITY.replace('+', '%2B')}"] = (200, {}, content)
    else:
        (space.folder / COMMUNITY).write_bytes(content)
        row = "name: page, kind: folder, path: ."
    space.trust(row, f"name: upstream, kind: github, repository: {OFFICIAL}")
    path = space.folder / "lock.yaml"
    command = ["lock", "--matrix", str(space.matrix), "--output", str(path)]
    assert run(lambda: cli.main(command)) == 0, capsys.readouterr().err
    wheel = lock.read(path).targets["a10g"].wheel
    assert wheel is not None
    assert (wheel.provider, wheel.sha256, wheel.digest, wheel.tag) == ("page", sha256, "computed", kind)
    assert wheel.evidence == "inspected"
    assert run(lambda: cli.main([*command, "--check"])) == 0
    space.matrix.write_text((DATA_DIR / "matrix.yaml").read_text(encoding="utf-8"))  # not opted in any more
    assert run(lambda: cli.main(command)) == 0, capsys.readouterr().err
    again = lock.read(path).targets["a10g"].wheel
    assert again is not None
    assert again.provider == OFFICIAL


@pytest.mark.parametrize("kind", ["index", "folder"])
def test_what_is_no_wheel_inside_is_refused_in_the_lock(
    space: Space, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    if kind == "index":
        row = space.index(f"/files/{COMMUNITY.replace('+', '%2B')}")
        space.upstream.pages[f"/files/{COMMUNITY.replace('+', '%2B')}"] = (200, {}, b"a wheel of somebody else")
    else:
        (space.folder / COMMUNITY).write_bytes(b"a wheel of somebody else")
        row = "name: page, kind: folder, path: ."
    space.trust(row, f"name: upstream, kind: github, repository: {OFFICIAL}")
    path = space.folder / "lock.yaml"
    assert run(lambda: cli.main(["lock", "--matrix", str(space.matrix), "--output", str(path)])) == 0
    assert f"{COMMUNITY} is refused: not a whole wheel" in capsys.readouterr().err
    target = lock.read(path).targets["a10g"]
    assert target.wheel is not None
    assert target.wheel.provider == OFFICIAL
    assert [each.name for each in target.refused] == [COMMUNITY]


def test_a_question_may_name_its_providers(space: Space, capsys: pytest.CaptureFixture[str]) -> None:
    space.releases("someone/wheels", COMMUNITY)
    space.matrix.write_text((DATA_DIR / "matrix.yaml").read_text(encoding="utf-8"))
    _, row, _ = ask(space, capsys, "--provider", f"{OFFICIAL},someone/wheels")
    assert (row["wheel"]["provider"], row["wheel"]["version"]) == (OFFICIAL, "2.8.3")
    assert "; someone/wheels has 2.8.9, and is trusted less" in row["reason"]
    catalogue, row, _ = ask(space, capsys, "--provider", "someone/wheels")
    assert (row["wheel"]["provider"], row["rejected"]["provider"]) == ("someone/wheels", 1)
    assert [each["name"] for each in catalogue["providers"]] == ["someone/wheels", OFFICIAL]


def test_an_alternative_lists_nobody_anew(space: Space, capsys: pytest.CaptureFixture[str]) -> None:
    """What is in the cache is told; a provider of the matrix that the question leaves out is not asked for its list."""
    space.releases("someone/wheels", COMMUNITY.replace("cp312", "cp311"))
    space.trust(GITHUB, space.index(COMMUNITY.replace("cp312", "cp311")))
    elsewhere = ["--python", "3.11", "--provider", OFFICIAL]
    _, row, _ = ask(space, capsys, *elsewhere)
    assert {path for path, _ in space.upstream.asked} == {f"/repos/{OFFICIAL}/releases?per_page=100"}
    assert [each["change"] for each in row["alternatives"]] == [{"python": "3.12"}]
    ask(space, capsys)
    asked = len(space.upstream.asked)
    _, row, _ = ask(space, capsys, *elsewhere)
    assert len(space.upstream.asked) == asked
    assert [each["change"] for each in row["alternatives"]] == [{"python": "3.12"}, {"provider": "community"}]
    assert row["alternatives"][1]["command"].endswith(f"--provider {OFFICIAL},community")


def test_a_provider_that_a_question_names_and_that_is_not_reached_is_said(
    space: Space, capsys: pytest.CaptureFixture[str]
) -> None:
    space.matrix.write_text((DATA_DIR / "matrix.yaml").read_text(encoding="utf-8"))
    _, row, said = ask(space, capsys, "--provider", "someone/nothing")
    assert "note: provider someone/nothing: left out: someone/nothing: not reached" in said
    assert row["reason"] == "no flash-attn wheel exists from a trusted provider"
    assert row["alternatives"][0]["change"] == {"provider": OFFICIAL}
