"""The far end of the road, local: a server with GitHub's REST API, and a wheel under a real asset's name."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.extension import MEMBER, compile_extension
from tests.packing import members, pack

REPOSITORY = "Dao-AILab/flash-attention"
WHEEL = "flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl"


def make_wheel(folder: Path) -> Path:
    """A wheel as the official ones are: ``+cu12...`` in the file name, plain ``2.8.3`` in the metadata.

    Its extension is compiled here, for the Python 3.11 of these tests: it imports, and its kernels are empty.
    """
    return pack(
        folder / WHEEL, members({MEMBER: compile_extension(folder / "extension")}, tag="cp311-cp311-linux_x86_64")
    )


@dataclass
class GitHub:
    """What the server serves; ``served`` counts the downloads of each asset."""

    url: str
    wheel: bytes
    served: list[str] = field(default_factory=list)

    def releases(self) -> list[dict[str, object]]:
        asset = {
            "name": WHEEL,
            "state": "uploaded",
            "size": len(self.wheel),
            "digest": f"sha256:{hashlib.sha256(self.wheel).hexdigest()}",
            "updated_at": "2025-08-14T00:00:00Z",
            "browser_download_url": f"{self.url}/download/{WHEEL.replace('+', '%2B')}",
        }
        return [{"tag_name": "v2.8.3", "draft": False, "prerelease": False, "assets": [asset]}]


@contextmanager
def serve_github(wheel: Path) -> Iterator[GitHub]:
    """Run the server for the time of a block, on a free port of the loopback."""
    github = GitHub("", wheel.read_bytes())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith(f"/repos/{REPOSITORY}/releases"):
                self._answer(json.dumps(github.releases()).encode(), "application/json")
            elif self.path.startswith("/download/"):
                github.served.append(self.path)
                self._answer(github.wheel, "application/octet-stream")
            else:
                self.send_error(404)

        def do_HEAD(self) -> None:  # uv asks so before it downloads
            self.send_response(200)
            self.send_header("Content-Length", str(len(github.wheel)))
            self.end_headers()

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    github.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield github
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
