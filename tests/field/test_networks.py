"""Networks, indexes and other providers, as people met them: rows 15, 29 to 34 and 40 of the log of public reports.

Unlike the other field tests these talk to a server, on the loopback and nowhere else. What private indexes, TLS and
same-named files do in every corner is in ``tests/resolver_http`` and ``tests/unit``.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import shlex
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from matrix import DATA_DIR
from matrix.cli import run
from tests.field import community
from tests.resolver_http.conftest import Upstream
from wheel_resolver import cli
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.catalogue import build_catalogue

OFFICIAL = "Dao-AILab/flash-attention"
KNOWN = "--torch 2.9 --python 3.12 --cuda 12.8 --gpu A10G"
TORCH_2_11 = "--torch 2.11 --python 3.12 --cuda 12.8 --gpu A10G"
WHEEL = "flash_attn-2.8.3+cu128torch2.11-cp312-cp312-linux_x86_64.whl"
WORDS = "third party, not built by flash-attn's makers"
SECRET = "hunter2canary"
_OF_THIS_USER = {
    "GITHUB_API_URL", "GH_TOKEN", "GITHUB_TOKEN", "NETRC", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "WHEELWRIGHT_TRUST_ORIGINS",
}  # fmt: skip
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of the folder's own fixture: the loopback may be asked, and no file of this user is read."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        assert address[0] in {"127.0.0.1", "::1"}, f"a test reached for {address}"
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in os.environ:
        if name in _OF_THIS_USER or name.startswith(("UV_", "PIP_", "WHEELWRIGHT_INDEX_")):
            monkeypatch.delenv(name)


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    def asked(question: str, *options: str, status: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert run(lambda: cli.main([*shlex.split(question), *options, "--json"])) == status
        said = capsys.readouterr()
        data: dict[str, Any] = {} if not said.out else json.loads(said.out)
        return data | {"said": said.err, "all": said.out + said.err}

    return asked


def with_provider(folder: Path, row: str) -> str:
    """An option that names a matrix with one provider more than ours."""
    path = folder / "matrix.yaml"
    text = (DATA_DIR / "matrix.yaml").read_text(encoding="utf-8")
    path.write_text(f"{text}\nproviders:\n  - {{{row}, because: b, source: s}}\n", encoding="utf-8")
    return f" --matrix {shlex.quote(str(path))}"


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> Path:
    """The list of a community's repository, written as the weekly workflow writes it, and shipped."""
    monkeypatch.setattr(snapshot, "OTHERS", tmp_path / "shipped")
    body = json.dumps(community.releases()).encode()
    upstream.pages[f"/repos/{community.REPOSITORY}/releases?per_page=100"] = (200, {}, body)
    assert run(lambda: cli.main(["snapshot", "--provider", community.REPOSITORY])) == 0
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:9")  # nobody is there from now on
    return tmp_path / "shipped" / f"{community.REPOSITORY}.json"


def test_row_15_the_wheel_that_people_use_is_named_last_and_its_command_runs(
    shipped: Path, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = ask(TORCH_2_11, "--offline")["resolutions"]
    assert (row["attention"], row["wheel"]) == ("sdpa", None)  # known is not trusted
    others, last = row["alternatives"][:-1], row["alternatives"][-1]
    assert others
    assert all((each["third_party"], each["note"], each["provider"]) == (False, None, OFFICIAL) for each in others)
    assert (last["change"], last["provider"]) == ({"provider": community.REPOSITORY}, community.REPOSITORY)
    assert (last["third_party"], last["note"]) == (True, WORDS)
    assert run(lambda: cli.main([*shlex.split(TORCH_2_11), "--offline"])) == 0
    told = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(told) if WORDS in line)
    assert told[at].strip().startswith(f"with provider {community.REPOSITORY}: flash-attn 2.8.3 (")
    assert told[at + 1].strip() == last["command"]
    assert not any("with " in line for line in told[at + 2 :])
    command = last["command"].removeprefix("python -m wheel_resolver ")
    for pasted in (command, command.replace(OFFICIAL, "official")):
        (row,) = ask(pasted, "--offline", "--require", "flash_attention_2")["resolutions"]
        assert row["wheel"]["name"] == last["wheel"]
        assert row["wheel"]["sha256"] in {community.digest(last["wheel"], build) for build in range(4)}


def test_row_15_a_table_names_it_where_nothing_official_fits(
    shipped: Path, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    question = "--torch 2.11,2.12 --gpu A10G"
    rows = ask(question, "--offline")["resolutions"]
    for row in rows:
        third = [each["third_party"] for each in row["alternatives"]]
        assert third == sorted(third)
        assert len(third) <= 5
    last = next(each for row in rows for each in row["alternatives"] if each["third_party"])
    assert run(lambda: cli.main([*shlex.split(question), "--offline"])) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[told.index(f"  {WORDS}:") + 1].strip().startswith("python -m wheel_resolver --torch 2.11.0")
    assert last["command"] in {line.strip() for line in told}


def test_row_15_a_name_stands_for_its_newest_upload(shipped: Path, ask: Ask) -> None:
    known = snapshot.read(shipped)
    catalogue = build_catalogue(
        known.releases, repository=known.repository, origin="https://x.example", source="snapshot",
        as_of=known.as_of, stale=False, rebuilds=True,
    )  # fmt: skip
    linux = [name for name in community.names() if "win" not in name]
    assert {wheel.filename for wheel in catalogue.wheels} == set(linux)
    last = {name: max(build for build in range(4) if _listed(known, community.digest(name, build))) for name in linux}
    assert {wheel.filename: wheel.sha256 for wheel in catalogue.wheels} == {
        name: community.digest(name, build) for name, build in last.items()
    }
    assert len(catalogue.superseded) == sum(last.values()) > 500
    data = ask(f"{TORCH_2_11} --provider official,{community.REPOSITORY}", "--offline", "--explain")
    assert len(data["catalogue"]["superseded"]) == sum(last.values())
    (row,) = data["resolutions"]
    older = [each for each in row["trace"] if each["rule"] == "superseded" and each["wheel"] == row["wheel"]["name"]]
    assert len(older) == last[row["wheel"]["name"]]
    for build, each in enumerate(older):
        assert community.digest(row["wheel"]["name"], build) in each["detail"]
        assert row["wheel"]["sha256"] in each["detail"]


def _listed(known: snapshot.Snapshot, digest: str) -> bool:
    return any(asset.sha256 == digest for release in known.releases for asset in release.assets)


def test_row_29_a_wheel_that_wget_saved_is_read(tmp_path: Path, ask: Ask) -> None:
    folder = tmp_path / "carried"
    folder.mkdir()
    (folder / WHEEL.replace("+", "%2B")).write_bytes(b"a wheel")
    (folder / "SHA256SUMS").write_text(f"{'a' * 64}  {WHEEL.replace('+', '%2B')}\n")
    data = ask(TORCH_2_11 + with_provider(tmp_path, "name: carried, kind: folder, path: carried"), "--offline")
    wheel = data["resolutions"][0]["wheel"]
    assert (wheel["name"], wheel["provider"], wheel["sha256"]) == (WHEEL, "carried", "a" * 64)
    assert wheel["url"] == (folder / WHEEL.replace("+", "%2B")).as_uri()
    assert data["catalogue"]["unparsed"] == 0
    assert "note: provider carried: 1 wheels have %2B for + in their file names" in data["said"]


@pytest.mark.parametrize(
    ("answer", "token", "words"),
    [
        ((403, {"X-RateLimit-Remaining": "0"}, b"{}"), "", ["the rate limit is used up", "set GH_TOKEN"]),
        ((401, {}, b"{}"), SECRET, ["the credentials are not accepted (status 401)", "GH_TOKEN or GITHUB_TOKEN"]),
        ((401, {}, b"{}"), "", ["it asks for credentials, and none were given (status 401)", "set GH_TOKEN"]),
        ((403, {}, b"{}"), SECRET, ["the credentials may not read this", "(status 403)"]),
    ],
)
def test_row_30_a_refusal_of_github_is_told_as_that(
    upstream: Upstream,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    token: str,
    words: list[str],
) -> None:
    upstream.pages[f"/repos/{OFFICIAL}/releases?per_page=100"] = answer
    monkeypatch.setenv("GH_TOKEN", token)
    demanded = ask(KNOWN, "--refresh", status=3)
    offered = ask(KNOWN)
    for data in (demanded, offered):
        assert all(word in data["said"] for word in words), data["said"]
        assert SECRET not in data["all"]
        assert "not reached" not in data["said"]
    assert offered["catalogue"]["source"] == "snapshot"
    assert offered["resolutions"][0]["wheel"] is not None


@pytest.mark.parametrize("given", ["token", "netrc"])
def test_row_31_a_github_of_ones_own_gets_its_own_credentials(
    upstream: Upstream,
    ask: Ask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
) -> None:
    monkeypatch.setenv("GITHUB_API_URL", f"{upstream.url}/api/v3/")
    assets = [{"name": WHEEL.replace("2.11", "2.9"), "state": "uploaded", "digest": None}]
    body = json.dumps([{"tag_name": "v2.8.3", "assets": assets}]).encode()
    upstream.pages[f"/api/v3/repos/{OFFICIAL}/releases?per_page=100"] = (200, {}, body)
    if given == "token":
        monkeypatch.setenv("GH_TOKEN", SECRET)
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    assert ask(KNOWN)["catalogue"]["source"] == "network"
    basic = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert upstream.asked[-1][1]["Authorization"] == (f"Bearer {SECRET}" if given == "token" else basic)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("content", [None, "no certificate", "folder"])
def test_row_32_a_ca_bundle_that_is_none_is_told_and_the_snapshot_answers(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, content: str | None
) -> None:
    bundle = tmp_path / "ca.pem"
    if content == "folder":
        bundle.mkdir()
    elif content is not None:
        bundle.write_text(content)
    monkeypatch.setenv(variable, str(bundle))
    monkeypatch.setenv("GITHUB_API_URL", "https://127.0.0.1:9")
    said = ask(KNOWN, "--refresh", status=3)["said"]
    assert f"{variable} names {bundle}: " in said
    assert f"correct {variable}, or unset it" in said
    data = ask(KNOWN)
    assert f"{variable} names {bundle}: " in data["said"]
    assert data["catalogue"]["source"] == "snapshot"
    assert data["resolutions"][0]["attention"] == "flash_attention_2"


def test_row_33_a_proxys_password_is_not_shown(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "https://ghe.example/api/v3")
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://me:{SECRET}@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    data = ask(KNOWN)
    assert "check HTTPS_PROXY" in data["said"]
    assert SECRET not in data["all"]


def test_row_34_a_password_in_the_matrix_is_refused_and_not_shown(tmp_path: Path, ask: Ask) -> None:
    option = with_provider(tmp_path, f'name: corp, kind: index, url: "https://me:{SECRET}@pypi.corp.example/simple/"')
    data = ask(KNOWN + option, "--offline", status=2)
    assert "providers[0].url" in data["said"]
    assert "WHEELWRIGHT_INDEX_<NAME>_USERNAME and WHEELWRIGHT_INDEX_<NAME>_PASSWORD" in data["said"]
    assert SECRET not in data["all"]


@pytest.mark.parametrize("given", ["variables", "netrc", "pip", "uv"])
def test_row_34_a_private_index_is_read_with_its_credentials(
    upstream: Upstream,
    ask: Ask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
) -> None:
    basic = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
    page = f'<a href="../../files/{WHEEL.replace("+", "%2B")}#sha256={"a" * 64}">x</a>'.encode()

    def answer() -> tuple[int, dict[str, str], bytes]:
        sent = upstream.asked[-1][1].get("Authorization")
        return (200, {}, page) if sent == basic else (401, {"WWW-Authenticate": "Basic"}, b"")

    upstream.pages["/simple/flash-attn/"] = answer
    monkeypatch.setenv("WHEELWRIGHT_TRUST_ORIGINS", upstream.url)
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:9")
    row = f'name: my-corp, kind: index, url: "{upstream.url}/simple/flash-attn/"'
    question = TORCH_2_11 + with_provider(tmp_path, row)
    data = ask(question)
    assert data["resolutions"][0]["attention"] == "sdpa"
    assert "note: provider my-corp: left out: " in data["said"]
    assert "it asks for credentials, and none were given (status 401)" in data["said"]
    assert "set WHEELWRIGHT_INDEX_MY_CORP_USERNAME and WHEELWRIGHT_INDEX_MY_CORP_PASSWORD" in data["said"]
    assert "not reached" not in data["said"]
    with_login = f"http://me:{SECRET}@{upstream.url.removeprefix('http://')}/simple/"
    if given == "variables":
        monkeypatch.setenv("WHEELWRIGHT_INDEX_MY_CORP_USERNAME", "me")
        monkeypatch.setenv("WHEELWRIGHT_INDEX_MY_CORP_PASSWORD", SECRET)
    elif given == "netrc":
        monkeypatch.setenv("NETRC", str(tmp_path / "my netrc"))
        (tmp_path / "my netrc").write_text(f"machine 127.0.0.1\n  login me\n  password {SECRET}\n")
    elif given == "pip":
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", with_login)
    else:
        monkeypatch.setenv("UV_INDEX", f"corp={upstream.url}/simple/")
        monkeypatch.setenv("UV_INDEX_CORP_USERNAME", "me")
        monkeypatch.setenv("UV_INDEX_CORP_PASSWORD", SECRET)
    data = ask(question)
    assert data["resolutions"][0]["wheel"]["name"] == WHEEL
    assert SECRET not in data["all"]
    assert not any(SECRET in path.read_text("latin-1") for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_row_40_a_full_disk_costs_the_cache_and_not_the_answer(
    upstream: Upstream,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("wheel_resolver.upstream.ladder.write_atomic", full)
    upstream.releases(
        1, [{"tag_name": "v2.8.3", "assets": [{"name": WHEEL.replace("2.11", "2.9"), "state": "uploaded"}]}]
    )
    data = ask(KNOWN)
    assert "could not be cached" in data["said"]
    assert "No space left on device" in data["said"]
    assert data["resolutions"][0]["wheel"]["name"] == WHEEL.replace("2.11", "2.9")
