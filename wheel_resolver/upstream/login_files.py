"""Read the logins that pip, uv and netrc have on this machine: of the environment, the user and the machine.

A file that lies in a checkout (``uv.toml``, ``pyproject.toml``, a virtual environment's ``pip.conf``) is not read: it
comes by pull requests. What cannot be read holds no login; its content stands in no error.

Sources: https://pip.pypa.io/en/stable/topics/configuration/, https://docs.astral.sh/uv/concepts/configuration-files/,
https://www.gnu.org/software/inetutils/manual/html_node/The-_002enetrc-file.html
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from matrix.origins import Origin, origin_of

_UV_VARIABLES = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")
_KEYS = ("index-url", "extra-index-url", "find-links")
_MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class IndexUrl:
    """An index of pip's or uv's settings. ``name``: uv's name of it; ``source``: where it stands."""

    origin: Origin
    path: str
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)
    name: str | None
    source: str


def index_urls(environment: Mapping[str, str]) -> list[IndexUrl]:
    """The indexes of uv's and pip's settings: variables before files, the user's files before the machine's."""
    found = [*_of_variables(environment), *_of_uv_files(environment), *_of_pip_files(environment)]
    return [each for each in found if each is not None]


def netrc_login(environment: Mapping[str, str], host: str) -> tuple[str, str, str] | None:
    """User, password and file of a host's entry in ``$NETRC``, else in ``~/.netrc`` or ``~/_netrc``."""
    for path in _netrc_files(environment):
        if not path.is_file():
            continue
        import netrc  # noqa: PLC0415 - most machines have no such file

        try:
            entries = netrc.netrc(str(path)).hosts
        except (netrc.NetrcParseError, OSError, ValueError):
            return None
        for name, (user, _, password) in entries.items():
            if name != "default" and name.lower() == host and (user or password):
                return user or "", password or "", str(path)
        return None
    return None


def _netrc_files(environment: Mapping[str, str]) -> list[Path]:
    if named := environment.get("NETRC"):
        return [Path(named).expanduser()]
    home = environment.get("HOME")
    return [Path(home) / ".netrc", Path(home) / "_netrc"] if home else []


def _index_url(word: str, source: str, name: str | None = None) -> IndexUrl | None:
    """Read one URL; None where it is none."""
    before, mark, rest = word.partition("=")
    if mark and "/" not in before and "://" in rest:  # uv: NAME=URL
        name, word = before, rest
    origin = origin_of(word)
    if origin is None:
        return None
    parts = urlsplit(word)
    user, password = (None if each is None else unquote(each) for each in (parts.username, parts.password))
    return IndexUrl(origin, parts.path, user, password, name, source)


def _of_variables(environment: Mapping[str, str]) -> Iterator[IndexUrl | None]:
    for variable in (*_UV_VARIABLES, *_PIP_VARIABLES):
        text = environment.get(variable, "")
        for word in (text.replace(",", " ") if variable == "UV_FIND_LINKS" else text).split():
            yield _index_url(word, variable)


def _of_uv_files(environment: Mapping[str, str]) -> Iterator[IndexUrl | None]:
    if environment.get("UV_NO_CONFIG"):
        return
    named = environment.get("UV_CONFIG_FILE")
    for path in [Path(named)] if named else [folder / "uv" / "uv.toml" for folder in _folders(environment, "/etc")]:
        if (text := _text(path)) is None:
            continue
        import tomllib  # noqa: PLC0415 - most machines have no such file

        with contextlib.suppress(tomllib.TOMLDecodeError, RecursionError):
            yield from _of_uv_table(tomllib.loads(text), str(path))


def _of_uv_table(data: Mapping[str, Any], source: str) -> Iterator[IndexUrl | None]:
    for entry in _list(data.get("index")):
        if isinstance(entry, dict) and isinstance(url := entry.get("url"), str):
            name = entry.get("name")
            yield _index_url(url, source, name if isinstance(name, str) else None)
    pip = data.get("pip")
    for table in (data, pip if isinstance(pip, dict) else {}):
        for key in _KEYS:
            yield from (_index_url(url, source) for url in _list(table.get(key)) if isinstance(url, str))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _of_pip_files(environment: Mapping[str, str]) -> Iterator[IndexUrl | None]:
    """Of all sections: a login is for its origin, whichever command it was written for."""
    for path in _pip_files(environment):
        if (text := _text(path)) is None:
            continue
        import configparser  # noqa: PLC0415 - most machines have no such file

        parser = configparser.RawConfigParser()
        with contextlib.suppress(configparser.Error):
            parser.read_string(text)
        for section in parser.sections():
            for key in _KEYS:
                for word in parser.get(section, key, fallback="").split():
                    yield _index_url(word, str(path))


def _pip_files(environment: Mapping[str, str]) -> list[Path]:
    """The strongest first. ``PIP_CONFIG_FILE`` comes on top, and ``os.devnull`` switches files off."""
    named = environment.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = environment.get("HOME")
    folders = [folder / "pip" / "pip.conf" for folder in _folders(environment, "/etc/xdg")]
    return [
        *([Path(named)] if named else []),
        *folders[:1],
        *([Path(home) / ".pip" / "pip.conf"] if home else []),
        *folders[1:],
        Path("/etc/pip.conf"),
    ]


def _folders(environment: Mapping[str, str], usual: str) -> list[Path]:
    """The user's configuration folder, then the machine's."""
    home = environment.get("HOME")
    own = environment.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    machine = (environment.get("XDG_CONFIG_DIRS") or usual).split(":")
    return [Path(folder) for folder in (own, *machine, *([usual] if usual not in machine else [])) if folder]


def _text(path: Path) -> str | None:
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return None
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
