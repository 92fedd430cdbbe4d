"""A registry with one image, that of an OCI layout's folder, under every name: FOLDER ADDRESS [FAULT].

``FAULT``: ``dies`` ends the process in the middle of the image's largest blob; ``stalls`` stops sending there.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

PORT = 5000


def serve(folder: Path, address: str, fault: str) -> None:
    """Serve the registry's API until the process is ended."""
    (image,) = json.loads((folder / "index.json").read_text())["manifests"]
    blobs = folder / "blobs" / "sha256"
    largest = max(blobs.iterdir(), key=lambda path: path.stat().st_size)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # What tells an engine that tries TLS first to fall back: an answer with a status line, whatever was asked.
        default_request_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = re.fullmatch(r"/v2/.+/(manifests|blobs)/(?:sha256:)?(.+)", self.path)
            if asked is None:
                self._answer(b"{}", "application/json")
                return
            digest = asked[2] if (blobs / asked[2]).is_file() else image["digest"].removeprefix("sha256:")
            body = (blobs / digest).read_bytes()
            kind = _media_type(json.loads(body)) if asked[1] == "manifests" else "application/octet-stream"
            self._answer(body, kind, digest)

        do_HEAD = do_GET  # noqa: N815 - the name that the base class calls

        def _answer(self, body: bytes, kind: str, digest: str = "") -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if digest:
                self.send_header("Docker-Content-Digest", f"sha256:{digest}")
            self.end_headers()
            if self.command == "HEAD":
                return
            if not fault or digest != largest.name:
                self.wfile.write(body)
                return
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            print("half", flush=True)
            if fault == "stalls":
                time.sleep(600)
            os._exit(1)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((address, PORT), Handler)
    print("ready", flush=True)
    server.serve_forever()


def _media_type(manifest: dict[str, Any]) -> str:
    usual = "application/vnd.oci.image.index.v1+json" if "manifests" in manifest else ""
    return str(manifest.get("mediaType") or usual or "application/vnd.oci.image.manifest.v1+json")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], (sys.argv[3:] or [""])[0])
