"""A package index with a folder's wheels, run as a program of its own so that it can die: FOLDER ADDRESS [DIES_IN].

``DIES_IN``: the file in the middle of whose transfer the process ends; ``stalls:FILE``: it stops sending there;
``pauses:FILE``: it goes on after 5 s.
"""

from __future__ import annotations

import sys
from pathlib import Path

import answering
from answering import Handler

PORT = 8090


def serve(folder: Path, address: str, fault: str) -> None:
    """Serve PEP 503 pages and files until the process is ended."""
    way, _, name = fault.rpartition(":")

    class Index(Handler):
        def do_GET(self) -> None:  # noqa: N802 - http.server calls it so
            parts = self.path.strip("/").split("/")
            if parts[0] == "simple":
                project = parts[-1].replace("-", "_")
                names = [path.name for path in sorted(folder.glob(f"{project}-*.whl"))]
                links = "".join(f'<a href="/files/{name}">{name}</a>' for name in names)
                self.answer(links.encode(), "text/html")
            elif (folder / parts[-1]).is_file():
                broken = (way or "dies") if parts[-1] == name else ""
                self.answer((folder / parts[-1]).read_bytes(), "application/octet-stream", fault=broken)
            else:
                self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - as above

    answering.serve(Index, address, PORT)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], (sys.argv[3:] or [""])[0])
