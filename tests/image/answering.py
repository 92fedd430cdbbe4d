"""What the far ends of tests share: small HTTP servers, run as programs of their own so that they can die."""

from __future__ import annotations

import http.server
import os
import time

PAUSE_S = 5
STALL_S = 600


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with whole bodies, or with half of one and then a fault."""

    protocol_version = "HTTP/1.1"

    def answer(
        self, body: bytes = b"", kind: str = "application/json", *, status: int = 200, fault: str = "", **headers: str
    ) -> None:
        """Answer.

        Args:
            body: left out for HEAD.
            kind: its media type.
            status: of HTTP.
            fault: after half of the body ``dies`` ends the process, ``stalls`` sends no more, ``pauses`` goes on later.
            headers: more of them; ``_`` in a name stands for ``-``.
        """
        self.send_response(status)
        given = {"Content_Type": kind, "Content_Length": str(len(body))} | headers
        for name, value in given.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(body) // 2 if fault else len(body)
        self.wfile.write(body[:half])
        self.wfile.flush()
        if not fault:
            return
        print("half", flush=True)
        if fault == "pauses":
            time.sleep(PAUSE_S)
            self.wfile.write(body[half:])
            return
        if fault == "stalls":
            time.sleep(STALL_S)
        os._exit(1)

    def log_message(self, *_: object) -> None:
        """Say nothing: stdout is for ``ready`` and ``half``."""


def serve(handler: type[Handler], address: str, port: int) -> None:
    """Serve until the process is ended; says ``ready`` when it listens."""
    server = http.server.ThreadingHTTPServer((address, port), handler)
    print("ready", flush=True)
    server.serve_forever()
