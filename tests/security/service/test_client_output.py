"""The client's terminal does nothing that a service tells it to: whoever answers may be anybody."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from serve.verbs.client import REFUSED, main
from tests.security.tools.canary import TAME, WILD, assert_inert


@pytest.fixture(params=[WILD, TAME, WILD * 100_000], ids=["wild", "tame", "long"])
def hostile(request: pytest.FixtureRequest) -> Iterator[str]:
    """A service whose every answer is an error that holds the text wherever it may."""
    body = json.dumps({"error": dict.fromkeys(("code", "message", "field", "remedy"), request.param)}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(422)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - the names of http.server

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_error_of_a_service_is_shown_and_not_obeyed(
    hostile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clone.wav"
    assert main(["--url", hostile, "--voice", "anna", "--text", "Hello.", "--out", str(out)]) == REFUSED
    said = capsys.readouterr()
    assert_inert(said.out + said.err)
    assert "wild" in said.err or "tame" in said.err
    assert len(said.err.splitlines()) == 2  # what is wrong, and what to do
    assert len(said.err) < 50_000
    assert not out.exists()
