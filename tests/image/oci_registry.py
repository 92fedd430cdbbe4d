"""A registry with one image, that of an OCI layout's folder, under every name: FOLDER ADDRESS [FAULT].

``FAULT``: ``dies`` ends the process in the middle of the image's largest blob; ``stalls`` stops sending there.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import answering
from answering import Handler

PORT = 5000


def serve(folder: Path, address: str, fault: str) -> None:
    """Serve the registry's API until the process is ended."""
    (image,) = json.loads((folder / "index.json").read_text())["manifests"]
    blobs = folder / "blobs" / "sha256"
    largest = max(blobs.iterdir(), key=lambda path: path.stat().st_size)

    class Registry(Handler):
        # What tells an engine that tries TLS first to fall back: an answer with a status line, whatever was asked.
        default_request_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802 - http.server calls it so
            asked = re.fullmatch(r"/v2/.+/(manifests|blobs)/(?:sha256:)?(.+)", self.path)
            if asked is None:
                self.answer(b"{}")
                return
            digest = asked[2] if (blobs / asked[2]).is_file() else image["digest"].removeprefix("sha256:")
            body = (blobs / digest).read_bytes()
            kind = _media_type(json.loads(body)) if asked[1] == "manifests" else "application/octet-stream"
            broken = fault if digest == largest.name else ""
            self.answer(body, kind, fault=broken, Docker_Content_Digest=f"sha256:{digest}")

        do_HEAD = do_GET  # noqa: N815 - as above

    answering.serve(Registry, address, PORT)


def _media_type(manifest: dict[str, Any]) -> str:
    usual = "application/vnd.oci.image.index.v1+json" if "manifests" in manifest else ""
    return str(manifest.get("mediaType") or usual or "application/vnd.oci.image.manifest.v1+json")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], (sys.argv[3:] or [""])[0])
