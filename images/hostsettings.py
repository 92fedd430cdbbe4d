"""The package settings of this host (index, find-links, CA bundle, proxies), read so that builds can use them.

uv reads no pip configuration, and a build sees neither; so both are read here once and handed on, to uv on the
host as environment variables and to a build as secrets (see ``images.staging``). uv's own settings win over pip's.
"""

from __future__ import annotations

import ast
import os
import re
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from matrix.errors import DataError
from matrix.masking import NOTHING_KNOWN, Masker
from matrix.origins import PYTORCH_VARIABLE

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
_CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What pip and uv on this host are set to.

    Attributes:
        index: the default index URL, or None for the client's own default.
        extra_indexes: further index URLs, http(s) or ``file://`` folders in the Simple-API layout.
        find_links: folders (or URLs of pages) with wheels.
        ca_bundle: PEM file of the certificate authorities to trust, or None for the client's own.
        proxies: HTTP_PROXY and its like, by upper-case name.
        uv_config: the uv.toml of this user or machine; uv reads that one, and none that lies in a checkout.
        masker: hides what is secret in all of these, and in the environment.
    """

    index: str | None = None
    extra_indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    ca_bundle: Path | None = None
    proxies: tuple[tuple[str, str], ...] = ()
    uv_config: Path | None = None
    masker: Masker = NOTHING_KNOWN

    def local_folders(self) -> tuple[Path, ...]:
        """The folders of ``find_links`` on this host."""
        return tuple(path for path in map(local_path, self.find_links) if path is not None)

    def local_indexes(self) -> tuple[Path, ...]:
        """The ``file://`` indexes: folders on this host, which no build can reach by URL."""
        return tuple(path for path in map(local_path, self.extra_indexes) if path is not None)

    def remote_indexes(self) -> tuple[str, ...]:
        """The extra indexes that a build can reach by URL."""
        return tuple(url for url in self.extra_indexes if local_path(url) is None)

    def remote_find_links(self) -> tuple[str, ...]:
        """The find-links pages that a build can reach by URL."""
        return tuple(url for url in self.find_links if local_path(url) is None)

    def uv_environment(self) -> dict[str, str]:
        """Environment variables that make uv on this host follow these settings, and none of the folder that it is in.

        Indexes may hold passwords: the environment is the owner's alone, a command line is everybody's.
        """
        env = dict(self.proxies)
        env |= {"UV_CONFIG_FILE": str(self.uv_config)} if self.uv_config else {"UV_NO_CONFIG": "1"}
        if self.index:
            env["UV_DEFAULT_INDEX"] = self.index
        if self.extra_indexes:
            env["UV_INDEX"] = " ".join(self.extra_indexes)
            # pip takes the best version of all indexes; hashes make that safe for us.
            env["UV_INDEX_STRATEGY"] = "unsafe-best-match"
        if self.find_links:
            env["UV_FIND_LINKS"] = ",".join(map(_absolute, self.find_links))
        if self.ca_bundle:
            env["SSL_CERT_FILE"] = str(self.ca_bundle)
        return env

    def describe(self) -> str:
        """One line for the log, without credentials."""
        parts = [f"index {self.index or 'default'}"]
        parts += [f"extra index {url}" for url in self.extra_indexes]
        parts += [f"find-links {place}" for place in self.find_links]
        parts += [f"CA bundle {self.ca_bundle}"] if self.ca_bundle else []
        parts += [f"{name} set" for name, _ in self.proxies]
        return self.masked("; ".join(parts))

    def masked(self, text: str) -> str:
        """A text that something said which knows these settings, without their secrets."""
        return self.masker(text)


def local_path(place: str) -> Path | None:
    """The folder that ``place`` names (a path or a ``file://`` URL), or None for an URL of another host."""
    parts = urlsplit(place)
    if parts.scheme in ("http", "https"):
        return None
    return Path(unquote(parts.path) if parts.scheme == "file" else place).expanduser()


def _absolute(place: str) -> str:
    """A find-links place that means the same in every folder."""
    path = local_path(place)
    return place if path is None or place.startswith("file:") else str(path.absolute())


def read_host_settings(
    environment: Mapping[str, str] | None = None,
    *,
    pip_config: Callable[[Mapping[str, str]], str] | None = None,
    uv_files: Iterable[Path] | None = None,
) -> HostSettings:
    """Read what uv (environment, then uv.toml) and pip (``pip config list``) are set to, uv first, setting by setting.

    Raises:
        DataError: a ``uv.toml`` that cannot be parsed.
    """
    env = os.environ if environment is None else environment
    pip = _parse_pip_config((pip_config or _run_pip_config)(env))
    uv_files = list(_uv_files(env) if uv_files is None else uv_files)
    uv = _read_uv_files(uv_files)
    bundle = next((env[name] for name in _CA_VARIABLES if env.get(name)), pip.get("cert"))
    found = HostSettings(
        index=env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL") or uv.index or pip.get("index-url"),
        extra_indexes=_words(env.get("UV_INDEX"), env.get("UV_EXTRA_INDEX_URL"))
        or uv.extra_indexes
        or _words(pip.get("extra-index-url")),
        find_links=_words((env.get("UV_FIND_LINKS") or "").replace(",", " "))
        or uv.find_links
        or _words(pip.get("find-links")),
        ca_bundle=Path(bundle) if bundle and Path(bundle).is_file() else _system_bundle(env),
        proxies=tuple((name, value) for name in PROXY_VARIABLES if (value := env.get(name.lower()) or env.get(name)))
        or (_pip_proxy(pip)),
        uv_config=next((path.absolute() for path in uv_files if path.is_file()), None),
    )
    places = (found.index or "", *found.extra_indexes, *found.find_links, *(value for _, value in found.proxies))
    return replace(found, masker=Masker.of((*places, env.get(PYTORCH_VARIABLE, "")), env))


def _words(*texts: str | None) -> tuple[str, ...]:
    # UV_INDEX may name its entries: name=URL; the name means nothing here.
    return tuple(re.sub(r"^[\w.-]+=(?=\w+:)", "", word) for text in texts if text for word in text.split())


def _pip_proxy(pip: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    proxy = pip.get("proxy")
    return (("HTTP_PROXY", proxy), ("HTTPS_PROXY", proxy)) if proxy else ()


def _system_bundle(env: Mapping[str, str]) -> Path | None:
    """The host's own bundle, when an administrator added to it (a TLS-inspecting proxy) and no variable says so."""
    if not any(Path("/usr/local/share/ca-certificates").rglob("*.crt")) and not env.get("SSL_CERT_DIR"):
        return None
    found = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    return Path(found) if Path(found).is_file() else None


def _run_pip_config(environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        env={**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else ""


def _parse_pip_config(listing: str) -> dict[str, str]:
    """``global.index-url='...'`` lines to a mapping: install's section wins over global's, the environment over both"""
    ranks = {"global": 0, "install": 1, "download": 1, ":env:": 2}
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        match = re.fullmatch(r"(global|install|:env:)\.([\w-]+)=(.*)", line)
        if not match:
            continue
        section, key, literal = match.groups()
        try:
            value = str(ast.literal_eval(literal))
        except (ValueError, SyntaxError):
            continue
        if key not in found or ranks[section] >= found[key][0]:
            found[key] = (ranks[section], value)
    return {key: value for key, (_, value) in found.items() if value}


def _uv_files(env: Mapping[str, str]) -> list[Path]:
    if env.get("UV_NO_CONFIG"):
        return []
    if explicit := env.get("UV_CONFIG_FILE"):
        return [Path(explicit)]
    home = Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME", "~")).expanduser() / ".config")
    return [home / "uv" / "uv.toml", Path("/etc/uv/uv.toml")]


def _read_uv_files(files: Iterable[Path]) -> HostSettings:
    """The indexes of the first uv.toml that exists (the user's wins over the system's)."""
    for path in files:
        if not path.is_file():
            continue
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not valid TOML: {error}", remedy="correct it, or set UV_NO_CONFIG=1") from error
        tables = [entry for entry in data.get("index", []) if isinstance(entry, dict) and "url" in entry]
        defaults = [str(entry["url"]) for entry in tables if entry.get("default")]
        extra = [str(entry["url"]) for entry in tables if not entry.get("default")]
        return HostSettings(
            index=defaults[0] if defaults else data.get("index-url"),
            extra_indexes=(*extra, *map(str, data.get("extra-index-url", []))),
            find_links=tuple(map(str, data.get("find-links", []))),
        )
    return HostSettings()
