"""API keys: which are accepted, and how they change while the service runs.

A key is kept as its SHA-256 and compared in constant time. Nothing here logs one, quotes one in an error, or shows one
in a ``repr``; what stands for a key everywhere else is its id: its name, or a short hash of it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serve.errors import SettingsError
from serve.logs import working_for
from serve.settings import Settings

log = logging.getLogger(__name__)

SHORTEST_KEY = 16
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SECRET = re.compile(r"[!-~]+")
# No name may look like the id of a key without one.
HASHED = "key-"
# How long a key that was taken out of the file may still be accepted, and one that was added may not be yet.
LOOK_S = 1.0
MAKE_ONE = "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is accepted.

    Attributes:
        id: its name, or a hash of it: the same after a restart.
        digest: SHA-256 of the key.
    """

    id: str
    digest: bytes = field(repr=False)


def read_keys(settings: Settings) -> tuple[Key, ...]:
    """The keys of ``WW_API_KEYS`` and of ``WW_API_KEYS_FILE``; none of either set: no keys, and whoever asks is served.

    Several keys may have one name, so that a caller can change keys and keep its voices.

    Raises:
        SettingsError: an entry cannot be a key, a key is there twice, the file cannot be read, no key where one of the
            two is set, or a limit for keys without keys.
    """
    entries: list[tuple[str, str]] = []
    if settings.api_keys is not None:
        # One key of several may be left empty by a template; a list of nothing but such is a mistake.
        listed = settings.api_keys.get_secret_value().split(",")
        entries += _entries("WW_API_KEYS", "entry", listed)
    if settings.api_keys_file is not None:
        entries += _entries(f"WW_API_KEYS_FILE={settings.api_keys_file}", "line", _lines(settings.api_keys_file))
    keys = tuple(_key(where, entry) for where, entry in entries)
    if len({key.digest for key in keys}) < len(keys):
        raise SettingsError("WW_API_KEYS and WW_API_KEYS_FILE: a key is there twice", remedy="give each caller its own")
    limits = {
        "WW_KEY_REQUESTS_PER_MIN": settings.key_requests_per_min,
        "WW_KEY_CONCURRENT": settings.key_concurrent,
    }
    for name, limit in limits.items():
        if limit is not None and not keys:
            raise SettingsError(f"{name} is set, and there are no keys to limit", remedy="set WW_API_KEYS, or unset it")
    return keys


def warn_if_open(settings: Settings, keys: Sequence[Key]) -> None:
    """Say in the log, at the start, that anyone who reaches the port is served."""
    if not keys and not _is_loopback(settings.host):
        log.warning("anyone who reaches %s port %s is served: set WW_API_KEYS", settings.host, settings.port)


class Keyring:
    """The keys that are accepted now: their file is read again when it changes, so that keys rotate without a restart.

    Args:
        settings: where the keys are.
        clock: seconds.

    Raises:
        SettingsError: see ``read_keys``. Later a file that cannot be read is logged, and the keys from before stay.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._looked = clock()
        self._seen = _mark(settings.api_keys_file)
        self._keys = read_keys(settings)
        self._fault: str | None = None

    def current(self) -> tuple[Key, ...]:
        """The keys; the file is looked at once in ``LOOK_S`` at most."""
        now = self._clock()
        if self._settings.api_keys_file is not None and now - self._looked >= LOOK_S:
            self._looked = now
            with working_for(()):  # the request in whose time this falls has no part in it
                self._look()
        return self._keys

    def _look(self) -> None:
        mark = _mark(self._settings.api_keys_file)
        if mark is not None and mark == self._seen:
            return
        try:
            self._keys = read_keys(self._settings)
        except SettingsError as error:
            if error.what != self._fault:  # once, and not each second
                log.error("%s; the keys from before stay in force", error.what)  # noqa: TRY400 - one line
            self._seen, self._fault = None, error.what
            return
        self._seen, self._fault = mark, None
        owners = len({key.id for key in self._keys})
        log.info("WW_API_KEYS_FILE has changed: %s keys of %s callers are in force", len(self._keys), owners)


def find_key(keys: Sequence[Key], presented: bytes) -> str | None:
    """The id of the key, or None; takes the same time whichever it is, and whether or not it is one."""
    digest = hashlib.sha256(presented).digest()
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key.id
    return found


def _entries(where: str, unit: str, entries: Sequence[str]) -> list[tuple[str, str]]:
    """``(place, entry)`` of each that is not empty."""
    kept = [(f"{where}: {unit} {number}", entry.strip()) for number, entry in enumerate(entries, 1) if entry.strip()]
    if not kept:
        raise SettingsError(f"{where} holds no key", remedy=f"put a key there ({MAKE_ONE}), or unset it")
    return kept


def _lines(file: Path) -> list[str]:
    """The file's lines, those of comments emptied, so that the others keep their numbers."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        # A decoding error's text would quote the file.
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"WW_API_KEYS_FILE={file}: cannot be read: {reason}", remedy="one key a line") from error
    return ["" if line.lstrip().startswith("#") else line for line in text.splitlines()]


def _key(where: str, entry: str) -> Key:
    name, colon, secret = entry.rpartition(":")
    if colon and (not NAME.fullmatch(name) or name.startswith(HASHED)):
        what = f"has a name that is not of letters, digits and `_.-`, or that begins with {HASHED!r}"
        raise SettingsError(f"{where} {what}", remedy="write name:key, or only the key")
    if not SECRET.fullmatch(secret):
        raise SettingsError(f"{where} holds a blank, or a character that is not ASCII", remedy=MAKE_ONE)
    if len(secret) < SHORTEST_KEY:
        what = f"has a key of {len(secret)} characters, which can be guessed; {SHORTEST_KEY} are the least"
        raise SettingsError(f"{where} {what}", remedy=MAKE_ONE)
    hashed = hashlib.sha256(b"wheelwright key id\0" + secret.encode()).hexdigest()[:16]
    return Key(name or HASHED + hashed, hashlib.sha256(secret.encode()).digest())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _mark(file: Path | None) -> tuple[int, ...] | None:
    """What changes when the file does; through symbolic links, by which Kubernetes replaces the files of a secret."""
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
