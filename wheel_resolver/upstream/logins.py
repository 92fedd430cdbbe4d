"""Whose user and password a place gets: each is for one origin, and goes to that origin only.

    WHEELWRIGHT_INDEX_<NAME>_USERNAME, _PASSWORD   for the matrix's index of that name
    an index URL with a user in pip's or uv's own settings (``login_files``), and UV_INDEX_<NAME>_USERNAME, _PASSWORD
    ``$NETRC``, else ``~/.netrc``: the host's own entry, never ``default``, which would fit every place

The first that has one for a place wins. The matrix says which indexes there are, and it comes by pull requests: a login
is given to a place that the operator names, and to no other; and having a login makes no place trusted.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from matrix import Provider
from matrix.origins import GITHUB, Origin, operator, origin_of
from wheel_resolver.upstream.login_files import IndexUrl, index_urls, netrc_login
from wheel_resolver.upstream.urls import is_safe

if TYPE_CHECKING:
    import requests


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password. ``source``: where they were found, as a person is told."""

    user: str = field(repr=False)
    password: str = field(repr=False)
    source: str

    @property
    def header(self) -> str:
        """The value of ``Authorization`` (RFC 7617)."""
        import base64  # noqa: PLC0415 - most places need no login

        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")


def variables_of(name: str) -> tuple[str, str]:
    """The variables of an index's user and password; its name is spelt as uv spells it in ``UV_INDEX_<NAME>_...``.

    >>> variables_of("my-corp.index")
    ('WHEELWRIGHT_INDEX_MY_CORP_INDEX_USERNAME', 'WHEELWRIGHT_INDEX_MY_CORP_INDEX_PASSWORD')
    """
    return _variables("WHEELWRIGHT", name)


def _variables(tool: str, name: str) -> tuple[str, str]:
    spelt = re.sub(r"[^A-Z0-9]", "_", name.upper())
    return f"{tool}_INDEX_{spelt}_USERNAME", f"{tool}_INDEX_{spelt}_PASSWORD"


class Logins:
    """Finds the login of a place; files are read when the first place asks.

    Args:
        environment: the operator's.
        providers: those of the matrix, by whose names variables are spelt.

    Raises:
        UsageError: ``WHEELWRIGHT_TRUST_ORIGINS`` holds something else than origins.
    """

    def __init__(self, environment: Mapping[str, str], providers: Iterable[Provider] = ()) -> None:
        self._environment = environment
        self._providers = [each for each in providers if each.kind == "index"]
        operators = operator(environment)
        self._named = frozenset({*([operators.api] if operators.api else []), *operators.trusted} - {GITHUB})

    def of(self, url: str) -> Login | None:
        """The login for a URL; None where there is none, or where the operator does not name the place."""
        origin = origin_of(url)
        if origin is None or origin not in self._named or not is_safe(url):
            return None
        return self._of_variables(url, origin) or self._of_settings(url, origin) or self.of_netrc(origin)

    def of_netrc(self, origin: Origin) -> Login | None:
        """The login that ``.netrc`` has for a host; it knows no ports."""
        if not origin.is_safe:
            return None
        found = netrc_login(self._environment, origin.host)
        return None if found is None else Login(*found)

    def how(self, url: str) -> str:
        """How to give a place a login, in words."""
        origin = origin_of(url)
        names = [each.name for each in self._of_origin(origin) if each.place == url] or ["NAME"]
        user, password = variables_of(names[0])
        words = f"set {user} and {password}, or write the host into ~/.netrc"
        if origin is not None and origin not in self._named:
            words += f"; it is sent where WHEELWRIGHT_TRUST_ORIGINS names {origin}"
        return words

    def _of_variables(self, url: str, origin: Origin) -> Login | None:
        found = [(urlsplit(each.place).path, self._pair("WHEELWRIGHT", each.name)) for each in self._of_origin(origin)]
        return _nearest(found, url)

    def _of_origin(self, origin: Origin | None) -> list[Provider]:
        return [each for each in self._providers if origin_of(each.place) == origin]

    def _pair(self, tool: str, name: str) -> Login | None:
        variables = _variables(tool, name)
        user, password = (self._environment.get(each, "").strip("\r\n") for each in variables)
        return Login(user, password, " and ".join(variables)) if user or password else None

    def _of_settings(self, url: str, origin: Origin) -> Login | None:
        found = [(each.path, self._login_in(each)) for each in self._settings if each.origin == origin]
        return _nearest(found, url)

    def _login_in(self, place: IndexUrl) -> Login | None:
        if place.name is not None and (found := self._pair("UV", place.name)) is not None:
            return found
        return None if place.user is None else Login(place.user, place.password or "", place.source)

    @cached_property
    def _settings(self) -> list[IndexUrl]:
        return index_urls(self._environment)


def _nearest(found: Iterable[tuple[str, Login | None]], url: str) -> Login | None:
    """Of the logins of one origin, each with its index's path, the one that shares most of its path with a URL."""
    wanted = urlsplit(url).path.strip("/").split("/")

    def shared(path: str) -> int:
        pairs = zip(path.strip("/").split("/"), wanted, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    logins = [(shared(path), login) for path, login in found if login is not None]
    return max(logins, key=lambda each: each[0], default=(0, None))[1]


def only_for(url: str, login: Login | None) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """What ``requests`` calls to authorize: it gives the login to requests of the URL's own origin, redirects included.

    Being there at all, it also keeps ~/.netrc's ``default`` out.
    """
    origin = origin_of(url)

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if login is not None and origin is not None and origin_of(request.url or "") == origin:
            request.headers["Authorization"] = login.header
        return request

    return authorize
