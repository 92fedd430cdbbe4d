"""A package index with a folder's wheels, run as a program of its own so that it can die: FOLDER ADDRESS [DIES_IN].

``DIES_IN``: the file in the middle of whose transfer the process ends; ``stall:FILE``: it stops sending there;
``pause:FILE``: it goes on after 5 s.
"""

from __future__ import annotations

import http.server
import os
import sys
import time
from pathlib import Path

PORT = 8090


def serve(folder: Path, address: str, fault: str) -> None:
    """Serve PEP 503 pages and files until the process is ended."""
    way, _, name = fault.rpartition(":")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = self.path.strip("/").split("/")
            if parts[0] == "simple":
                project = parts[-1].replace("-", "_")
                names = [path.name for path in sorted(folder.glob(f"{project}-*.whl"))]
                self._answer("".join(f'<a href="/files/{name}">{name}</a>' for name in names).encode(), "text/html")
            elif (folder / parts[-1]).is_file():
                self._answer((folder / parts[-1]).read_bytes(), "application/octet-stream", broken=parts[-1] == name)
            else:
                self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - the name that the base class calls

        def _answer(self, body: bytes, kind: str, *, broken: bool = False) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if not broken:
                self.wfile.write(body)
                return
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            print("half", flush=True)
            if way == "pause":
                time.sleep(5)
                self.wfile.write(body[len(body) // 2 :])
                return
            if way == "stall":
                time.sleep(600)
            os._exit(1)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((address, PORT), Handler)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], (sys.argv[3:] or [""])[0])
