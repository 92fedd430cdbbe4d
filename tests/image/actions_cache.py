"""GitHub's Actions cache as BuildKit speaks to it (its REST API, version 1), run as a program: FOLDER ADDRESS.

The archives lie in the folder, named by their keys: a test may look which there are.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

import answering
from answering import Handler

PORT = 8091
_API = "/_apis/artifactcache"


def token() -> str:
    """A runtime token, unsigned: it says which caches its job may read and write."""
    scopes = json.dumps([{"Scope": "refs/heads/main", "Permission": 3}])
    parts = ({"alg": "none"}, {"ac": scopes, "nbf": 1_700_000_000, "exp": 4_000_000_000})
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return ".".join([*encoded, "none"])


class Cache(Handler):
    """The API, on the archives of a folder."""

    folder: Path
    reserved: ClassVar[list[str]] = []

    def do_GET(self) -> None:  # noqa: N802 - http.server calls it so
        url = urlsplit(self.path)
        if url.path.startswith("/archives/"):
            self._archive(self.folder / unquote(url.path.rpartition("/")[2]))
            return
        for key in parse_qs(url.query)["keys"][0].split(","):
            found = sorted(self.folder.glob(f"{quote(key, safe='')}*"), key=lambda path: path.stat().st_mtime_ns)
            if found:
                name = found[-1].name
                at = f"http://{self.headers['Host']}/archives/{quote(name)}"
                said = {"cacheKey": unquote(name), "scope": "refs/heads/main", "archiveLocation": at}
                self.answer(json.dumps(said).encode())
                return
        self.answer(status=204)

    def do_POST(self) -> None:  # noqa: N802 - http.server calls it so
        content = json.loads(self._body())
        if self.path == f"{_API}/caches":
            self.reserved.append(quote(content["key"], safe=""))
            self.answer(json.dumps({"cacheId": len(self.reserved)}).encode(), status=201)
        else:  # all has arrived
            self._part().rename(self.folder / self.reserved[int(self.path.rpartition("/")[2]) - 1])
            self.answer(status=204)

    def do_PATCH(self) -> None:  # noqa: N802 - http.server calls it so
        start = int(self.headers["Content-Range"].removeprefix("bytes ").partition("-")[0])
        with self._part().open("r+b" if self._part().exists() else "wb") as file:
            file.seek(start)
            file.write(self._body())
        self.answer(status=204)

    def _part(self) -> Path:
        return self.folder / f".{self.path.rpartition('/')[2]}.part"

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _archive(self, path: Path) -> None:
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        content = path.read_bytes()
        part = content[int(first) : int(last) + 1 if last else None]
        at = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        self.answer(part, "application/octet-stream", status=206, Content_Range=at)


def serve(folder: Path, address: str) -> None:
    """Serve until the process is ended."""
    Cache.folder = folder
    answering.serve(Cache, address, PORT)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
