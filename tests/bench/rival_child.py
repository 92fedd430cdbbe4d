"""Ask one other tool about many cells, by its own command line; `rivals.py` runs this in a process of its own.

That process has the tool's packages and no other, an empty PATH and home, and no network: what the tool asks of
GitHub is answered from the releases on stdin, and any other address is noted and refused.

stdin: {"tool", "told", "version", "repository", "releases", "cells": [{"python", "torch", "cuda", "abi"}, ...]}
stdout: {"answers": [[wheel or null, whether it compiles], ...], "refused": [address, ...], "first": number or null}

``first``: where the tool reads the list of releases, how many of them at most.

``told``: the tool's options are given what it does not find out by itself: the C++ ABI and, to qifa, ``version``.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import platform
import socket
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, unquote, urlsplit

Cell = dict[str, str]
#: The file name of the wheel that the tool would install, and whether it compiles one instead.
Said = tuple[str | None, bool]
_API = "api.github.com"
_PER_PAGE = 30  # GitHub's default


class Wire:
    """What the tool's HTTP library gets for an URL."""

    def __init__(self, repository: str, releases: list[dict[str, Any]]) -> None:
        self.root = f"/repos/{repository}/releases"
        self.releases = releases
        self.refused: set[str] = set()
        self.first: int | None = None

    def answer(self, url: str) -> tuple[int, bytes]:
        """Status and body.

        Raises:
            ConnectionError: the address is not the repository's list of releases; it is noted.
        """
        parts = urlsplit(url)
        if parts.netloc != _API or not parts.path.startswith(self.root):
            self.refused.add(parts.netloc + parts.path)
            raise ConnectionError(f"{parts.netloc}: not part of the comparison")
        tag = parts.path.removeprefix(self.root).removeprefix("/tags/")
        if tag:
            found = [release for release in self.releases if release["tag_name"] == tag]
            return (200, json.dumps(found[0]).encode()) if found else (404, b"{}")
        query = parse_qs(parts.query)
        count, page = int(query.get("per_page", [_PER_PAGE])[0]), int(query.get("page", [1])[0])
        self.first = max(self.first or 0, page * count)
        return 200, json.dumps(self.releases[(page - 1) * count : page * count]).encode()


def _requests_by(wire: Wire) -> None:
    requests: Any = importlib.import_module("requests")

    def send(_adapter: object, request: Any, **_: object) -> Any:
        answer = requests.Response()
        answer.request, answer.url = request, request.url
        try:
            answer.status_code, body = wire.answer(request.url)
        except ConnectionError as error:
            raise requests.exceptions.ConnectionError(error) from None
        answer.raw = io.BytesIO(body)
        return answer

    requests.adapters.HTTPAdapter.send = send


def _httpx_by(wire: Wire) -> None:
    httpx: Any = importlib.import_module("httpx")
    plain = httpx.Client.__init__

    def respond(request: Any) -> Any:
        try:
            status, body = wire.answer(str(request.url))
        except ConnectionError as error:
            raise httpx.ConnectError(str(error), request=request) from None
        return httpx.Response(status, content=body)

    def init(client: Any, **settings: Any) -> None:
        plain(client, **settings | {"transport": httpx.MockTransport(respond)})

    httpx.Client.__init__ = init


def _torch(cell: Cell) -> ModuleType:
    """As much of torch as a tool reads to find out where it is."""
    torch: Any = ModuleType("torch")
    torch.__version__ = f"{cell['torch']}+cu{cell['cuda'].replace('.', '')}"
    torch.version = SimpleNamespace(cuda=cell["cuda"])
    torch.cuda = SimpleNamespace(is_available=lambda: True)
    torch._C = SimpleNamespace(_GLIBCXX_USE_CXX11_ABI=cell["abi"] == "TRUE")
    return torch  # type: ignore[no-any-return]


@contextlib.contextmanager
def _host(cell: Cell, module: ModuleType) -> Iterator[None]:
    """A machine like the cell, as seen by ``module``; only its own ``sys`` is replaced, so that no library stumbles."""
    major, minor = map(int, cell["python"].split("."))
    there = SimpleNamespace(
        version_info=SimpleNamespace(major=major, minor=minor),
        platform="linux",
        executable=sys.executable,
        exit=sys.exit,
    )
    with (
        mock.patch.dict(sys.modules, torch=_torch(cell)),
        mock.patch.object(module, "sys", there),
        mock.patch.object(platform, "system", return_value="Linux"),
        mock.patch.object(platform, "machine", return_value="x86_64"),
    ):
        yield


def _command(main: Callable[[], object], *arguments: str) -> tuple[int, str]:
    """Run a tool's ``main``: its exit status, and what it printed."""
    printed = io.StringIO()
    with mock.patch.object(sys, "argv", ["tool", *arguments]), contextlib.redirect_stdout(printed):
        try:
            status = main()
        except SystemExit as end:
            status = end.code
    return int(status or 0) if isinstance(status, int | None) else 1, printed.getvalue()


def _name(url: str) -> str:
    return unquote(urlsplit(url).path.rsplit("/", 1)[-1])


def ask_qifa(cell: Cell, told: bool, version: str) -> Said:
    """``qifa install --dry-run``: it ends in the URL; status 3 says that there is none."""
    cli = importlib.import_module("qifa.cli")
    options = ["--version", version, "--abi", cell["abi"]] if told else []
    with _host(cell, cli):
        status, printed = _command(cli.main, "install", "--dry-run", *options)
    if status == 3:
        return None, False
    last = printed.splitlines()[-1]
    if status or not last.startswith("[dry-run] "):
        raise RuntimeError(f"qifa ended with {status}: {printed[-300:]}")
    return _name(last), False


def ask_gpkg(cell: Cell, told: bool, version: str) -> Said:
    """``gpkg add flash-attn``, without its last step, which edits pyproject.toml and syncs.

    `add` is the plain command with `--build-missing`. What it finds out by itself (torch, CUDA, Python) is given to it
    as options; the ABI is none of that. What it would compile is noted and not compiled.
    """
    cli: Any = importlib.import_module("gpkg.cli")
    builds: list[str] = []
    cli.console.quiet = True  # it prints to stdout, where the JSON goes
    cli.detect_gpu_arch = lambda: "8.0"
    cli.ensure_ninja = lambda: True
    cli.build_wheel = lambda package, *_, **__: builds.append(package)
    options = ["--torch", cell["torch"], "--cuda", cell["cuda"].replace(".", ""), "--python", cell["python"]]
    options += ["--cxx11-abi", cell["abi"]] if told else []
    options += ["--platform", "linux_x86_64", "--build-missing", "--json"]
    status, printed = _command(cli.main, *options, "flash-attn")
    if status == 0:
        return str(json.loads(printed)["flash-attn"]["filename"]), False
    return None, bool(builds)


def ask_mlwheels(cell: Cell, told: bool, version: str) -> Said:
    """``mlwheels flash-attn --url``: status 1 says that there is none."""
    cli = importlib.import_module("mlwheels.cli")
    with _host(cell, importlib.import_module("mlwheels.detector")):
        status, printed = _command(cli.main, "flash-attn", "--url")
    return (None, False) if status else (_name(printed.strip()), False)


TOOLS = {"qifa": (ask_qifa, _requests_by), "gpkg": (ask_gpkg, _httpx_by), "mlwheels": (ask_mlwheels, None)}


def main() -> None:
    """Answer what stands on stdin."""
    question = json.load(sys.stdin)

    def barred(*_: object) -> None:
        raise OSError("no network in this comparison")

    socket.socket.connect = barred  # type: ignore[method-assign]
    wire = Wire(question["repository"], question["releases"])
    ask, connect = TOOLS[question["tool"]]
    if connect is not None:
        connect(wire)
    answers = [ask(cell, question["told"], question["version"]) for cell in question["cells"]]
    json.dump({"answers": answers, "refused": sorted(wire.refused), "first": wire.first}, sys.stdout)


if __name__ == "__main__":
    main()
