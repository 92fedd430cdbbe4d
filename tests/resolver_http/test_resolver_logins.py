"""A login goes to the place that it is for, and to no other: by index, download, redirect, and by every setting."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matrix import DATA_DIR, Provider
from matrix.cli import run
from matrix.errors import NetworkError
from wheel_resolver import cli, lock
from wheel_resolver.fetching.fetch import fetch, fetch_unpinned
from wheel_resolver.upstream.github import api_from
from wheel_resolver.upstream.logins import Login, Logins, variables_of

SECRET = "canary/0123:45@6 %é"
BODY = b"a wheel"
SHA256 = hashlib.sha256(BODY).hexdigest()
CORP = "https://pypi.corp.example"
TRUST = {"WHEELWRIGHT_TRUST_ORIGINS": f"{CORP}, https://other.example:8443, http://127.0.0.1:8080"}


def provider(name: str, url: str = f"{CORP}/simple/flash-attn/") -> Provider:
    return Provider(name, "index", url, "b", "s")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this user's."""
    for name in os.environ:
        if name.startswith(("UV_", "PIP_", "XDG_", "WHEELWRIGHT_INDEX_")) or name in {"NETRC", "GH_TOKEN"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("name", "user"),
    [
        ("corp", "WHEELWRIGHT_INDEX_CORP_USERNAME"),
        ("my-corp.index_2", "WHEELWRIGHT_INDEX_MY_CORP_INDEX_2_USERNAME"),
        ("Über/x", "WHEELWRIGHT_INDEX__BER_X_USERNAME"),
    ],
)
def test_a_name_is_spelt_as_uv_spells_it(name: str, user: str) -> None:
    assert variables_of(name) == (user, user.replace("_USERNAME", "_PASSWORD"))


def test_a_login_is_in_no_text() -> None:
    login = Login("me", SECRET, "~/.netrc")
    assert SECRET not in repr(login) + str(login)
    assert "me" not in repr(login).replace("netrc", "")
    assert login.header == basic("me", SECRET)
    assert SECRET not in repr(api_from({"NETRC": "/nonexistent"}, "https://api.github.com"))


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example:8443/simple/",
        "https://pypi.corp.example:444/simple/",
        "http://pypi.corp.example/simple/",
        "https://pypi.corp.example.evil.example/simple/",
        "https://github.com/someone/wheels/",
        "http://127.0.0.1:8080/simple/",
        "https://[broken",
        "https://me@pypi.corp.example.org/",
    ],
)
def test_the_login_of_an_index_goes_to_its_origin_only(url: str) -> None:
    user, password = variables_of("corp")
    logins = Logins({**TRUST, user: "me", password: SECRET}, [provider("corp")])
    assert logins.of(f"{CORP}/files/a.whl") == Login("me", SECRET, f"{user} and {password}")
    assert logins.of(url) is None


def test_a_place_that_only_the_matrix_names_gets_none(tmp_path: Path) -> None:
    """The operator's word is wanted; having a login is none. github.com is known, and is nobody's private index."""
    user, password = variables_of("corp")
    (tmp_path / ".netrc").write_text(
        "machine pypi.corp.example login me password x\nmachine github.com login a password b\n"
    )
    given = {
        user: "me",
        password: SECRET,
        "HOME": str(tmp_path),
        "PIP_INDEX_URL": "https://me:x@pypi.corp.example/simple",
    }
    assert Logins(given, [provider("corp")]).of(CORP) is None
    assert Logins({**given, **TRUST}, [provider("corp")]).of(CORP) is not None
    hub = "https://github.com/someone/wheels/"
    assert Logins({**given, "GITHUB_API_URL": "https://github.com"}, [provider("corp", hub)]).of(hub) is None


@pytest.mark.parametrize(
    ("user", "password", "header"),
    [("", "p", basic("", "p")), ("t", "", basic("t", "")), ("u\n", "p\n", basic("u", "p"))],
)
def test_a_token_alone_is_a_login(user: str, password: str, header: str) -> None:
    names = variables_of("corp")
    login = Logins({**TRUST, names[0]: user, names[1]: password}, [provider("corp")]).of(CORP)
    assert login is not None
    assert login.header == header


WITH_LOGIN = "https://me:p%40ss@pypi.corp.example/simple"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (".config/pip/pip.conf", f"[global]\nindex-url = {WITH_LOGIN}\n"),
        (".config/pip/pip.conf", f"[install]\nextra-index-url =\n    https://pypi.example/simple\n    {WITH_LOGIN}\n"),
        (".pip/pip.conf", f"[global]\nfind-links = {WITH_LOGIN}\n"),
        (".config/uv/uv.toml", f'[[index]]\nname = "corp"\nurl = "{WITH_LOGIN}"\n'),
        (".config/uv/uv.toml", f'extra-index-url = ["https://pypi.example/simple", "{WITH_LOGIN}"]\n'),
        (".config/uv/uv.toml", f'[pip]\nindex-url = "{WITH_LOGIN}"\n'),
        (".netrc", "machine other.example login x password y\nmachine PyPI.corp.example\nlogin me\npassword p@ss\n"),
    ],
)
def test_files_of_the_user_are_read(tmp_path: Path, file: str, text: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    login = Logins({**TRUST, "HOME": str(tmp_path)}).of(f"{CORP}/simple/flash-attn/")
    assert login is not None
    assert (login.user, login.password, login.source) == ("me", "p@ss", str(path))
    assert Logins({**TRUST, "HOME": str(tmp_path)}).of("https://other.example:9/simple/") is None


def test_files_of_a_checkout_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uv.toml").write_text(f'index-url = "{WITH_LOGIN}"\n')
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {WITH_LOGIN}\n")
    (tmp_path / "pyproject.toml").write_text(f'[[tool.uv.index]]\nname = "corp"\nurl = "{WITH_LOGIN}"\n')
    monkeypatch.chdir(tmp_path)
    assert Logins({**TRUST, "HOME": "/nonexistent", "UV_INDEX_CORP_PASSWORD": "x"}, [provider("corp")]).of(CORP) is None


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PIP_INDEX_URL", WITH_LOGIN),
        ("PIP_EXTRA_INDEX_URL", f"https://pypi.example/simple {WITH_LOGIN}"),
        ("UV_DEFAULT_INDEX", f"corp={WITH_LOGIN}"),
        ("UV_INDEX", f"https://pypi.example/simple corp={WITH_LOGIN}"),
        ("UV_INDEX_URL", WITH_LOGIN),
        ("UV_FIND_LINKS", f"https://pypi.example/simple,{WITH_LOGIN}"),
    ],
)
def test_variables_of_pip_and_uv_are_read(variable: str, text: str) -> None:
    login = Logins({**TRUST, variable: text}).of(f"{CORP}/simple/flash-attn/")
    assert login == Login("me", "p@ss", variable)


def test_what_is_meant_for_this_program_beats_settings_and_these_beat_netrc(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine pypi.corp.example login netrc password x\n")
    names = variables_of("corp")
    given = {**TRUST, "HOME": str(tmp_path)}

    def user(**more: str) -> str:
        login = Logins({**given, **more}, [provider("corp")]).of(f"{CORP}/simple/flash-attn/")
        assert login is not None
        return login.user

    assert user() == "netrc"
    assert user(PIP_INDEX_URL=WITH_LOGIN) == "me"
    assert user(PIP_INDEX_URL=WITH_LOGIN, **{names[0]: "own"}) == "own"
    two = f"{WITH_LOGIN.replace('me', 'other').replace('/simple', '/team')} {WITH_LOGIN}"
    assert user(PIP_EXTRA_INDEX_URL=two) == "me"  # the nearest of two on one host


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (".netrc", b"machine pypi.corp.example login"),
        (".netrc", b"machine pypi.corp.example login me password x\nnonsense\n"),
        (".netrc", b"default login me password x\n"),
        (".netrc", b"\xff\xfe"),
        (".config/uv/uv.toml", b"index-url = ["),
        (".config/uv/uv.toml", b"index = [1, {url = 2}]\nextra-index-url = [3]\npip = 4\n"),
        (".config/pip/pip.conf", b"index-url"),
        (".config/pip/pip.conf", b"[global]\nindex-url = https://[broken\n"),
    ],
)
def test_a_file_that_cannot_be_read_or_is_for_all_places_gives_none(tmp_path: Path, file: str, content: bytes) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    assert Logins({**TRUST, "HOME": str(tmp_path)}).of(CORP) is None


def test_of_two_indexes_on_one_host_each_has_its_own() -> None:
    one, two = provider("one", f"{CORP}/one/simple/"), provider("two", f"{CORP}/two/simple/")
    given = {**TRUST, variables_of("one")[0]: "1", variables_of("two")[0]: "2"}
    for order in ([one, two], [two, one]):
        logins = Logins(given, order)
        assert [login.user for each in (one, two) if (login := logins.of(each.place))] == ["1", "2"]
        assert variables_of("two")[0] in logins.how(two.place)


FRAGMENTS = [
    "[global]",
    "index-url",
    "=",
    "extra-index-url",
    "[[index]]",
    "name",
    '"',
    "[",
    "]",
    "machine",
    "login",
    "\n",
    " ",
]
WORDS = st.sampled_from(
    [*FRAGMENTS, "password", "default", "macdef", WITH_LOGIN, "https://[", "corp", "\x00", "é", "%(x)s"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.lists(WORDS, max_size=12).map("".join),
    file=st.sampled_from([".netrc", ".config/uv/uv.toml", ".pip/pip.conf"]),
)
def test_whatever_a_file_holds_it_is_a_login_of_that_place_or_none(tmp_path: Path, text: str, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    logins = Logins({**TRUST, "HOME": str(tmp_path)})
    assert logins.of("https://other.example:8443/simple/") is None
    found = logins.of(f"{CORP}/simple/")
    assert found is None or (found.user, found.password, found.source) == ("me", "p@ss", str(path))
    path.unlink()


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str | None]]]:
    """Another server on the loopback: another port is another origin."""
    asked: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_carries_it_and_a_redirect_to_another_place_does_not(
    upstream: Any, elsewhere: tuple[str, list[str | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, asked = elsewhere
    monkeypatch.setenv("WHEELWRIGHT_TRUST_ORIGINS", f"{upstream.url},{place}")
    user, password = variables_of("corp")
    logins = Logins({**os.environ, user: "me", password: SECRET}, [provider("corp", f"{upstream.url}/simple/")])
    upstream.pages["/a.whl"] = (302, {"Location": f"{upstream.url}/b.whl"}, b"")
    upstream.pages["/b.whl"] = (302, {"Location": f"{place}/c.whl"}, b"")
    found = fetch(f"{upstream.url}/a.whl", SHA256, "a.whl", tmp_path / "cache", logins=logins)
    assert found.read_bytes() == BODY
    assert [headers["Authorization"] for _, headers in upstream.asked] == [basic("me", SECRET)] * 2
    assert asked == [None]
    assert fetch_unpinned(f"{place}/d.whl", "d.whl", tmp_path / "cache", logins=logins) == SHA256
    assert asked == [None, None]


@pytest.mark.parametrize(
    ("sent", "words"), [(False, "asks for credentials, and none were given"), (True, "not accepted")]
)
def test_a_download_that_is_refused_is_told_as_that(
    upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bool, words: str
) -> None:
    monkeypatch.setenv("WHEELWRIGHT_TRUST_ORIGINS", upstream.url)
    if sent:
        (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login me password {SECRET.replace(' ', '')}\n")
    upstream.pages["/a.whl"] = (401, {}, b"")
    with pytest.raises(NetworkError, match=words) as caught:
        fetch(f"{upstream.url}/a.whl", SHA256, "a.whl", tmp_path / "cache")
    assert ("WHEELWRIGHT_INDEX_<NAME>_USERNAME" in str(caught.value)) is not sent
    assert SECRET.replace(" ", "") not in str(caught.value)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_login_is_told_with_where_it_stands_and_never_shown(
    upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    user, password = variables_of("corp")
    monkeypatch.setenv(user, "me")
    monkeypatch.setenv(password, SECRET)
    upstream.pages["/simple/"] = (status, {}, b"")
    matrix = tmp_path / "matrix.yaml"
    row = f"  - {{name: corp, kind: index, url: '{upstream.url}/simple/', because: b, source: s}}\n"
    matrix.write_text((DATA_DIR / "matrix.yaml").read_text(encoding="utf-8") + f"\nproviders:\n{row}")
    upstream.releases(1, [{"tag_name": "v1", "assets": [{"name": "a.whl", "state": "uploaded"}]}])
    for option in ("--refresh", "--json"):
        assert run(lambda option=option: cli.main(["--torch", "2.9", "--matrix", str(matrix), option])) == 0  # type: ignore[misc]
        said = "".join(capsys.readouterr())
        assert f"status {status}" in said
        assert user in said
        assert SECRET not in said
        assert basic("me", SECRET) not in said
    assert [headers["Authorization"] for path, headers in upstream.asked if path == "/simple/"] == [
        basic("me", SECRET)
    ] * 2


def test_a_private_indexs_wheel_is_locked_and_fetched(
    upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_wheel: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "flash_attn-2.8.9+cu128torch2.9-cp312-cp312-linux_x86_64.whl"
    path = f"/files/{name.replace('+', '%2B')}"
    user, password = variables_of("corp")
    monkeypatch.setenv(user, "me")
    monkeypatch.setenv(password, SECRET)

    def only_for_me(body: bytes) -> Any:
        return lambda: (200 if upstream.asked[-1][1].get("Authorization") == basic("me", SECRET) else 401, {}, body)

    upstream.pages["/simple/"] = only_for_me(f'<a href="{path}">x</a>'.encode())
    upstream.pages[path] = only_for_me(whole_wheel(name))
    upstream.releases(1, [{"tag_name": "v1", "assets": [{"name": "a.whl", "state": "uploaded"}]}])
    matrix = tmp_path / "matrix.yaml"
    row = f"  - {{name: corp, kind: index, url: '{upstream.url}/simple/', because: b, source: s}}\n"
    matrix.write_text((DATA_DIR / "matrix.yaml").read_text(encoding="utf-8") + f"\nproviders:\n{row}")
    assert run(lambda: cli.main(["lock", "--matrix", str(matrix)])) == 0, capsys.readouterr().err
    wheel = lock.read(tmp_path / "lock.yaml").targets["a10g"].wheel
    assert wheel is not None
    assert (wheel.name, wheel.provider, wheel.digest) == (name, "corp", "computed")
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "another cache"))
    command = ["fetch", "--lock", str(tmp_path / "lock.yaml"), "a10g"]
    assert run(lambda: cli.main(command)) == 0, capsys.readouterr().err
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "third cache"))
    monkeypatch.delenv(password)
    assert run(lambda: cli.main(command)) == 3
    said = capsys.readouterr()
    assert "the credentials are not accepted (status 401)" in said.err
    assert SECRET not in (tmp_path / "lock.yaml").read_text() + said.out + said.err
