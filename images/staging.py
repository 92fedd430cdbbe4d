"""What a build reads in addition to the checkout: uv, local wheels, the flash-attn wheel (in ``.build/``), secrets.

Newer buildx asks before it reads outside the working folder, and an engine on another machine cannot see this one's: so
files are linked (or copied) here, and bake gets them as named contexts. Settings of this host travel as secrets, which
no layer keeps, from a folder outside the checkout (``images.secret_folder``).
"""

from __future__ import annotations

import html.parser
import json
import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from images.hostsettings import HostSettings
from images.requirement_files import Pin
from matrix import tree
from matrix.errors import DataError
from wheel_resolver.fetching.fetch import file_sha256

MAX_SECRET = 500 * 1024  # bytes; BuildKit refuses a larger secret
# What a build reads of the checkout, and what is staged in it.
_READ = ("serve", "dockerfiles", ".dockerignore", ".build/contexts")


def require_plain_context(root: Path) -> None:
    """See that nothing which a build reads is, or holds, a link: BuildKit would follow some, and copy others.

    Raises:
        DataError: names the first one.
    """
    for name in _READ:
        tree.require_plain(root / name)


def place(source: Path, folder: Path) -> Path:
    """Put a file into a staging folder: a link where the file system allows it, else a copy."""
    target = folder / source.name
    if not (tree.exists(target) and (target.samefile(source) or _same(source, target))):
        tree.place(source, target)
    return target


def _same(one: Path, other: Path) -> bool:
    a, b = one.stat(), other.stat()
    return (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)


def place_only(source: Path, folder: Path) -> None:
    """Put a file into a staging folder of its own."""
    keep_only(folder, [place(source, folder).name])


def keep_only(folder: Path, names: Iterable[str]) -> None:
    """Remove all else from a staging folder: a file left from another lock would change the build's cache key."""
    tree.make_folder(folder)
    wanted = set(names)
    for path in tree.files(folder):
        if path.name not in wanted:
            tree.remove(path)
    for path in tree.folders(folder):
        tree.remove_tree(path)


def stage_local_files(settings: HostSettings, pins: Iterable[Pin], folder: Path) -> list[str]:
    """Stage the locked wheels (and source archives) that this host has in find-links folders and ``file://`` indexes.

    Only files whose sha256 the lock names are taken; everything else comes by the host's indexes, inside the build.

    Returns:
        The names of the staged files.
    """
    wanted = {(pin.name, pin.version): pin.hashes for pin in pins}
    names = []
    for path in _local_files(settings, {name for name, _ in wanted}):
        hashes = wanted.get(_distribution(path.name), ())
        if hashes and file_sha256(path) in hashes:
            names.append(place(path, folder).name)
    keep_only(folder, names)
    return sorted(set(names))


def _distribution(file: str) -> tuple[str, str]:
    """Name and version by a file's name; empty for one that is no distribution."""
    try:
        name, version = parse_wheel_filename(file)[:2] if file.endswith(".whl") else parse_sdist_filename(file)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return "", ""
    return name, str(version)


def _local_files(settings: HostSettings, names: set[str]) -> Iterator[Path]:
    for folder in settings.local_folders():
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz")))
    for index in settings.local_indexes():
        for page in sorted(index.glob("*/index.html")):
            if canonicalize_name(page.parent.name) in names:
                yield from (path for path in _links(page) if path.is_file())


class _Anchors(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.hrefs += [value for key, value in attrs if key == "href" and value]


def _links(page: Path) -> Iterator[Path]:
    """The local files that a page of a Simple-API index links to (PEP 503)."""
    anchors = _Anchors()
    anchors.feed(tree.read_text(page, errors="replace"))
    for href in anchors.hrefs:
        yield Path(os.path.normpath(page.parent / unquote(urldefrag(href).url)))


def stage_secrets(settings: HostSettings, origins: Iterable[str], folder: Path) -> list[str]:
    """Write the host's settings as build secrets, readable by the owner only, into a folder outside the checkout.

    Args:
        settings: of this host.
        origins: further indexes that a stack needs (PyTorch's own), after the host's.
        folder: where the files go.

    Returns:
        Their names: each is a file in the folder, and the secret's id.

    Raises:
        DataError: the CA bundle is larger than BuildKit takes.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # No bytecode: it differs from run to run, and a Python that only helps would leave its own.
    env = {"UV_CONFIG_FILE": "/run/secrets/uv-config", "PYTHONDONTWRITEBYTECODE": "1"}
    # pip builds flash-attn from source; it reads no uv.toml.
    env |= {"PIP_INDEX_URL": settings.index} if settings.index else {}
    env |= {"PIP_EXTRA_INDEX_URL": " ".join(settings.remote_indexes())} if settings.remote_indexes() else {}
    for name, value in settings.proxies:
        env |= {name: value, name.lower(): value}
    entries = ["host-env", "uv-config"]
    if settings.ca_bundle:
        bundle = settings.ca_bundle.read_bytes()
        if len(bundle) > MAX_SECRET:
            raise DataError(
                f"{settings.ca_bundle}: {len(bundle)} bytes, and a build secret holds {MAX_SECRET}",
                remedy="point SSL_CERT_FILE at a bundle with only the authorities that the package indexes need",
            )
        env |= dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT"), "/run/secrets/ca")
        _write_secret(folder / "ca", bundle)
        entries.append("ca")
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())
    _write_secret(folder / "host-env", exports.encode())
    _write_secret(folder / "uv-config", _uv_toml(settings, origins).encode())
    return entries


def _uv_toml(settings: HostSettings, origins: Iterable[str]) -> str:
    # A TOML basic string and a JSON string are written alike.
    extra = [*settings.remote_indexes(), *origins]
    rows = [f"index-url = {json.dumps(settings.index)}"] if settings.index else []
    rows += [f"extra-index-url = {json.dumps(extra)}", 'index-strategy = "unsafe-best-match"'] if extra else []
    rows += [f"find-links = {json.dumps(settings.remote_find_links())}"] if settings.remote_find_links() else []
    return "\n".join(rows) + "\n"


def _write_secret(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(content)
