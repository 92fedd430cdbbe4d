"""The wheel URL that flash-attn's own setup.py asks for, worked out by the code of that setup.py.

``pip install flash-attn`` gets an sdist, whose setup.py calls ``get_wheel_url`` and compiles from source when the URL
does not exist. We take that function, with the functions and constants that it needs, out of the sdist and call it
with stand-ins for torch, sys and platform: the rest of the file would import torch and start to build.
"""

from __future__ import annotations

import ast
import builtins
import email
import os
import platform
import re
import subprocess
import tarfile
import tempfile
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.specifiers import SpecifierSet
from packaging.version import Version, parse

from images.hostsettings import local_path, read_host_settings
from images.uv import uv_executable
from matrix import Cell
from matrix.errors import DataError, NetworkError
from matrix.flash_attn_facts import Sdist
from matrix.masking import mask
from wheel_resolver.fetching.fetch import cached, fetch, file_sha256

_WANTED = "get_wheel_url"
_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Setup:
    """What is taken from one sdist.

    Attributes:
        version: flash-attn's.
        requires_python: pip refuses the sdist for other Pythons, and runs nothing of it.
        code: ``get_wheel_url`` and what it needs, compiled.
        members: the text of the files that this code opens, by their path in the archive.
    """

    version: Version
    requires_python: SpecifierSet
    code: Any
    members: Mapping[str, str]

    def guess(self, cell: Cell) -> tuple[str, str]:
        """The tag and the file name of the URL that it asks for in an environment like this cell."""
        space = _stand_ins(cell, self.members)
        exec(self.code, space)  # definitions only, from bytes whose sha256 stands in compat.yaml
        url, _ = space[_WANTED]()
        *_, tag, name = urlsplit(url).path.split("/")
        return unquote(tag), unquote(name)


def read_sdist(path: Path, version: Version) -> Setup:
    """Read an sdist of flash-attn.

    Raises:
        DataError: it lacks a file, or its setup.py needs something that has no stand-in.
    """
    stem = f"flash_attn-{version}"
    wanted = {f"{stem}/{name}" for name in ("PKG-INFO", "setup.py", "flash_attn/__init__.py")}
    found: dict[str, str] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name in wanted else None
            if file is not None:
                found[member.name] = file.read().decode()
    if lacking := wanted - set(found):
        raise DataError(f"{path.name}: it holds no {', '.join(sorted(lacking))}")
    requires = email.message_from_string(found[f"{stem}/PKG-INFO"])["Requires-Python"]
    return Setup(version, SpecifierSet(requires or ""), take_out(found[f"{stem}/setup.py"]), found)


def take_out(source: str) -> Any:
    """Compile ``get_wheel_url`` and the functions and literals that it needs; nothing else of the file will run.

    Raises:
        DataError: the function is not there, or it needs a name that is neither such a thing nor has a stand-in.
    """
    offered: dict[str, ast.stmt] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            offered[node.name] = node
        elif isinstance(node, ast.Assign) and _is_literal(node.value):
            offered |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    taken: dict[str, ast.stmt] = {}
    open_names = [_WANTED]
    while open_names:
        name = open_names.pop()
        if name in _STAND_INS or name in taken:
            continue
        if name not in offered:
            raise DataError(f"setup.py: {_WANTED} needs {name}, which has no stand-in", remedy="see sdist_guess.py")
        taken[name] = offered[name]
        open_names += _names_from_outside(offered[name])
    return compile(ast.Module(list(taken.values()), type_ignores=[]), "setup.py", "exec")


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def _names_from_outside(node: ast.stmt) -> Iterator[str]:
    """The names that a statement reads and does not set itself, builtins aside."""
    names = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
    own = {each.id for each in names if isinstance(each.ctx, ast.Store)}
    for each in names:
        if isinstance(each.ctx, ast.Load) and each.id not in own and not hasattr(builtins, each.id):
            yield each.id


#: What `get_wheel_url` may reach outside itself; `_stand_ins` gives each its value for a cell.
_STAND_INS = ("IS_ROCM", "Path", "ast", "open", "os", "parse", "platform", "re", "sys", "this_dir", "torch")


def _stand_ins(cell: Cell, members: Mapping[str, str]) -> dict[str, Any]:
    machine = cell.platform.removeprefix("linux_")
    return {
        "IS_ROCM": False,
        "Path": PurePosixPath,
        "ast": ast,
        "open": lambda path, *_, **__: StringIO(members[str(path)]),
        "os": SimpleNamespace(environ={}, getenv=lambda _name, default=None: default),
        "parse": parse,
        "platform": SimpleNamespace(uname=lambda: platform.uname()._replace(machine=machine)),
        "re": re,
        "sys": SimpleNamespace(
            platform="linux", version_info=SimpleNamespace(major=cell.python.major, minor=cell.python.minor)
        ),
        "this_dir": next(iter(members)).split("/", 1)[0],
        "torch": SimpleNamespace(
            __version__=f"{cell.torch}+cu{str(cell.cuda).replace('.', '')}",
            version=SimpleNamespace(cuda=str(cell.cuda), hip=None),
            _C=SimpleNamespace(_GLIBCXX_USE_CXX11_ABI=str(cell.abi) == "TRUE"),
        ),
    }


def get_sdist(sdist: Sdist) -> Path:
    """The sdist's file, checked by the digest of ``compat.yaml``: from the cache, or from the host's package index.

    Raises:
        NetworkError: it could not be had.
        DataError: it has another digest.
    """
    if (found := cached(sdist.sha256, sdist.name)) is not None:
        return found
    place = _locate(sdist.version)
    local = local_path(place)
    if local is None:
        return fetch(place, sdist.sha256, sdist.name, size=sdist.size)
    if file_sha256(local) != sdist.sha256:
        raise DataError(f"{local}: its sha256 is not the one that compat.yaml has", remedy="look at where it came from")
    return local


def _locate(version: Version) -> str:
    """Where the host's index has the sdist: its URL, or its path on a host whose index is a folder.

    By uv, which follows the host's settings of pip. ``pip download`` would run setup.py for the sdist's metadata, and
    fail for lack of torch; uv is told the metadata, and so runs nothing.
    """
    with tempfile.TemporaryDirectory() as scratch:
        config, lock = Path(scratch, "uv.toml"), Path(scratch, "pylock.toml")
        config.write_text(f'dependency-metadata = [{{name = "flash-attn", version = "{version}", requires-dist = []}}]')
        command = [uv_executable(), "pip", "compile", "--config-file", str(config), "--no-binary", "flash-attn"]
        done = subprocess.run(
            [*command, "--quiet", "--output-file", str(lock), "-"],
            input=f"flash-attn=={version}\n",
            env=os.environ | read_host_settings().uv_environment(),
            cwd=scratch,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            said = textwrap.shorten(mask(done.stderr), 200)
            raise NetworkError(f"the package index gave no flash-attn {version}: {said}")
        [package] = tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]
        where = package["sdist"]
        return str(where["url"]) if "url" in where else str(Path(scratch, where["path"]).resolve())
