"""TLS with a network's own certificates: a real server on the loopback, and every variable that names a bundle."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from matrix.errors import NetworkError
from wheel_resolver.fetching.fetch import fetch_unpinned
from wheel_resolver.upstream.ca_bundle import VARIABLES, ca_bundle
from wheel_resolver.upstream.github import Api, list_releases

RELEASES = [{"tag_name": "v1", "assets": [{"name": "a.whl", "state": "uploaded"}]}]


@pytest.fixture(autouse=True)
def _no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody else trusts, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "ca.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=loopback"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-out", str(made), "-keyout", str(key)],
        check=True,
        capture_output=True,
    )
    return made, key


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[str]:
    """A server that speaks TLS with that certificate; it answers every path with a list of releases."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(RELEASES).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] - a refused handshake is what some tests want
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def tags(url: str) -> list[str]:
    return [each.tag for each in list_releases(Api(url, None), "someone/wheels", timeout_s=5)]


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_bundle_of_each_variable_is_trusted_by_lists_and_downloads(
    secure: str, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with pytest.raises(NetworkError, match="set REQUESTS_CA_BUNDLE"):
        tags(secure)
    monkeypatch.setenv(variable, str(certificate[0]))
    assert tags(secure) == ["v1"]
    assert len(fetch_unpinned(f"{secure}/a.whl", "a.whl", tmp_path)) == 64


def test_a_folder_of_hashed_certificates_is_a_bundle(
    secure: str, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(certificate[0], tmp_path / "corp.pem")
    subprocess.run(["openssl", "rehash", str(tmp_path)], check=True, capture_output=True)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    assert tags(secure) == ["v1"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.write_text(""), "no certificate in PEM form"),
        (lambda path: path.write_bytes(b"\x30\x82\xff"), "no certificate in PEM form"),
        (lambda path: path.mkdir(), "the folder holds no certificate"),
    ],
)
@pytest.mark.parametrize("variable", VARIABLES)
def test_a_bundle_that_is_none_is_named_with_its_variable(
    secure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, make: Any, words: str
) -> None:
    path = tmp_path / "ca.pem"
    make(path)
    monkeypatch.setenv(variable, str(path))
    for attempt in (lambda: tags(secure), lambda: fetch_unpinned(f"{secure}/a.whl", "a.whl", tmp_path / "cache")):
        with pytest.raises(NetworkError, match=words) as caught:
            attempt()
        assert f"{variable} names {path}: " in str(caught.value)
        assert f"correct {variable}, or unset it" in str(caught.value)


def test_the_first_variable_counts_as_for_requests(certificate: tuple[Path, Path]) -> None:
    good = str(certificate[0])
    assert ca_bundle({"REQUESTS_CA_BUNDLE": good, "SSL_CERT_FILE": "/nonexistent"}) == good
    assert ca_bundle({"REQUESTS_CA_BUNDLE": "", "PATH": os.environ["PATH"]}) is None
    with pytest.raises(NetworkError, match="CURL_CA_BUNDLE names /nonexistent"):
        ca_bundle({"CURL_CA_BUNDLE": "/nonexistent", "SSL_CERT_FILE": good})
