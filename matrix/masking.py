"""Hide secrets in a text that others wrote: what uv, pip, buildx and an engine say of indexes and proxies.

One function for all of it. It hides too much rather than too little, since it cannot know where a password ends:

    a user and password    all before the last ``@`` of a URL, or of a word such as ``user:pass@proxy:3128``
    a query or fragment    all of it, but ``#sha256=...`` of a file
    a path                 every part that is not a known word, file or package; a path on a public host stays
    a header or setting    what follows ``Authorization:``, ``Bearer``, ``token=``, ``password:`` and their like
    a token by its form    GitHub's, GitLab's, PyPI's, Hugging Face's, AWS's, a JWT

Where the secrets are known (``Masker``), they are hidden verbatim too, wherever they stand and however they are quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

MARK = "***"
#: Less than this is no secret, and would be found in every other word.
_LEAST = 4

# Hosts whose paths name public things. Everything else may be somebody's private index, with a token in its path.
_PUBLIC_HOSTS = frozenset(
    {
        "github.com", "api.github.com", "raw.githubusercontent.com", "docs.github.com", "download.pytorch.org",
        "docker.io", "registry-1.docker.io", "auth.docker.io", "hub.docker.com", "docs.docker.com", "docs.astral.sh",
        "huggingface.co",
    }
)  # fmt: skip
# These schemes name things of this machine or of an image, which hold no tokens.
_LOCAL_SCHEMES = frozenset({"file", "unix", "npipe", "fd", "docker-image", "oci-layout"})
_WORDS = frozenset(
    {
        "-", "api", "artifactory", "content", "cpu", "download", "downloads", "file", "files", "group", "groups",
        "index", "index.html", "json", "legacy", "nexus", "nightly", "package", "packages", "pip", "projects", "pypi",
        "python", "release", "releases", "repos", "repositories", "repository", "root", "simple", "stable", "v1", "v2",
        "v3", "v4", "web", "wheels", "whl",
    }
)  # fmt: skip
_FILE = re.compile(
    r"[A-Za-z0-9_.]+-[A-Za-z0-9_.+!%]+(?:-[A-Za-z0-9_.]+){3,4}\.whl(?:\.metadata)?"
    r"|[A-Za-z0-9_.-]+-\d[A-Za-z0-9_.+!]*\.(?:tar\.gz|zip)",
    re.ASCII,
)
_CUDA = re.compile(r"cu\d{2,3}|rocm\d\.\d")
_PACKAGE = re.compile(r"[a-z]{1,15}(?:[-_.][a-z0-9]{1,12}){0,3}|[a-z]{1,12}\d{0,2}", re.ASCII)
# What a package index has in its path before the name of a package.
_BEFORE_PACKAGE = frozenset({"simple", "pypi", "cpu"})

_WORD = re.compile(r"\S+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\Z")
_HOST = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d*)?\W*")
_PINNED_IMAGE = re.compile(r"[\w./:-]+@sha256:[0-9a-f]{64}\W*", re.ASCII)
_BARE_QUERY = re.compile(r"\?[\w.\-%\[\]]+=\S*")
_HEADER = re.compile(r"(?i)\b((?:proxy-)?authorization[\"']?\s*[:=]\s*)[^\n]*")
_SCHEME_TOKEN = re.compile(
    r"(?i:\b(bearer|token)\s+)(?=\S*[\d_=.~+/-])[\w.~+/=:-]{4,}|(?i:\b(basic)\s+)(?=\S*[A-Z\d=])[\w+/=-]{6,}"
)
_SETTING = re.compile(
    r"(?i)((?:\b|_|-)(?:auth[_-]?token|token|secret|passw(?:or)?d|passwd|passphrase|pwd|api[_-]?key|"
    r"access[_-]?key(?:[_-]?id)?|private[_-]?key|credentials?|signature|sig)[\"']?\s*[=:]\s*)(?!//)"
    r"(\"[^\"\n]*\"?|'[^'\n]*'?|\S+)"
)
_TOKENS = re.compile(
    r"gh[oprsu]_\w{4,}|github_pat_\w{4,}|gl[a-z]{2,6}-[\w.-]{8,}|pypi-Ag[\w-]{8,}|hf_\w{8,}|npm_\w{8,}|"
    r"dckr_(?:pat|oat)_[\w-]{8,}|xox[a-z]-[\w-]{8,}|sk-[\w-]{16,}|A[KS]IA[A-Z0-9]{12,}|"
    r"(?<![\w-])eyJ[\w-]{8,}(?:\.[\w-]*){1,2}",
    re.ASCII,
)


def mask(text: str) -> str:
    """Hide what may be a secret in ``text``.

    >>> mask("https://user:p/ss@index.example/simple/torch/?token=x")
    'https://***@index.example/simple/torch/?***'
    """
    text = _HEADER.sub(rf"\g<1>{MARK}", text)
    text = _TOKENS.sub(MARK, text)
    text = _WORD.sub(lambda found: _word(found[0]), text)
    text = _BARE_QUERY.sub(f"?{MARK}", text)
    text = _SCHEME_TOKEN.sub(lambda found: f"{found[1] or found[2]} {MARK}", text)
    return _SETTING.sub(rf"\g<1>{MARK}", text)


def _word(word: str) -> str:
    """A word by itself: no pattern looks across words, so a line of any length costs what it is long."""
    at = word.find("://")
    if at < 0:
        plain = "@" not in word or word == "@"  # `name @ https://...`
        return word if plain or _PINNED_IMAGE.fullmatch(word) else _place(word, begun=False)
    scheme = _SCHEME.search(word[max(0, at - 40) : at])
    start = at - len(scheme[0]) if scheme else at
    before, name, rest = word[:start], word[start:at], word[at + 3 :]
    local = name.lower() in _LOCAL_SCHEMES and ("@" not in rest or _PINNED_IMAGE.fullmatch(rest) is not None)
    return (MARK if "@" in before else before) + f"{name}://{rest if local else _place(rest)}"


def _place(rest: str, *, begun: bool = True) -> str:
    """What stands behind a scheme: ``[user[:password]@]host[:port][/path][?query][#fragment]``.

    People write passwords that hold ``/``, ``?``, ``#`` and ``@``, and queries that hold ``@``: where it cannot be told
    which it is, all of it is hidden. ``begun``: a scheme stood before it, so that it is known where a host begins.
    """
    authority, mark, tail = _split(rest, "/?#")
    if "@" in tail:
        user, _, after = rest.rpartition("@")
        if not begun or "@" in user or _HOST.fullmatch(authority):
            return rest if _plain_public(authority, mark, tail) else MARK
        return f"{MARK}@{_place(after)}"  # `user:pa` is no host and port, so the one @ ends a password
    user, at, host = authority.rpartition("@")
    shown = (f"{MARK}@" if at else user) + (host if _HOST.fullmatch(host) else MARK)
    if mark != "/":
        return shown + _tail(mark, tail)
    path, mark, tail = _split(tail, "?#")
    public = re.sub(r":\d*$", "", host).lower() in _PUBLIC_HOSTS
    return f"{shown}/{_path(path, public=public)}{_tail(mark, tail)}"


def _plain_public(authority: str, mark: str, tail: str) -> bool:
    """Whether it is the address of a public thing, as in ``https://github.com/actions/checkout@v4``."""
    return authority.lower() in _PUBLIC_HOSTS and mark == "/" and not set(tail) & set("?#")


def _split(text: str, marks: str) -> tuple[str, str, str]:
    found = re.search(f"[{marks}]", text)
    return (text, "", "") if found is None else (text[: found.start()], found[0], text[found.end() :])


def _tail(mark: str, tail: str) -> str:
    if not mark:
        return ""
    kept = re.match(r"sha256=[0-9a-f]{64}(?![\w%=&-])", tail) if mark == "#" else None
    return f"#{kept[0]}" + tail[kept.end() :] if kept and "=" not in tail[kept.end() :] else mark + MARK


def _path(path: str, *, public: bool) -> str:
    if public:
        return path
    parts = path.split("/")
    shown = []
    for index, part in enumerate(parts):
        before = parts[index - 1] if index else ""
        bare = part.rstrip(".,;:)]}'\"`>")
        package = (before in _BEFORE_PACKAGE or _CUDA.fullmatch(before)) and _PACKAGE.fullmatch(bare)
        known = not bare or bare in _WORDS or _CUDA.fullmatch(bare) or _FILE.fullmatch(bare) or package
        shown.append(part if known else MARK + part[len(bare) :])
    return "/".join(shown)


@dataclass(frozen=True, slots=True)
class Masker:
    """Masks what ``mask`` does, and the secrets that are known, wherever they stand."""

    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, places: Iterable[str], environment: Mapping[str, str] | None = None) -> Masker:
        """Know the secrets of URLs and proxies, and of the variables whose names say that they hold one."""
        found = {secret for place in places for secret in secrets_of(place)}
        for name, value in (environment or {}).items():
            if re.search(r"TOKEN|SECRET|PASSW|API_?KEY|ACCESS_KEY|CREDENTIAL", name.upper()) and len(value) >= 8:  # noqa: PLR2004
                found |= {value, value.strip()}
            elif re.search(r"PROXY|INDEX|URL|FIND_LINKS|ORIGIN|WHEELS", name.upper()):
                found |= {secret for word in re.split(r"[\s,]+", value) for secret in secrets_of(word)}
        spelt = {form for secret in found for form in _spellings(secret) if len(form) >= _LEAST}
        return cls(tuple(sorted(spelt, key=lambda form: (-len(form), form))))

    def __call__(self, text: str) -> str:
        """Hide what is known, then what may be a secret."""
        for secret in self.secrets:
            text = text.replace(secret, MARK)
        return mask(text)


#: Hides what may be a secret, where none is known.
NOTHING_KNOWN = Masker()


def secrets_of(place: str) -> set[str]:
    """The secrets of one URL or proxy: its password (its user, where it has none), its query, and hidden parts of its
    path."""
    scheme, separator, rest = place.partition("://")
    if not separator:
        scheme, rest = "", place
    user, at, rest = rest.rpartition("@")
    found = set()
    if at:
        name, colon, password = user.partition(":")
        found |= {password if colon and password else name}
    if scheme.lower() in _LOCAL_SCHEMES or not (separator or at):
        return found
    try:
        parts = urlsplit(f"//{rest}")
    except ValueError:
        return found
    if parts.query or parts.fragment.partition("=")[0] not in {"", "sha256"}:
        found |= {parts.query, parts.fragment}
        found |= {value for pair in re.split(r"[&;]", parts.query) if (value := pair.partition("=")[2])}
    if (parts.hostname or "") not in _PUBLIC_HOSTS:
        shown = _path(parts.path.lstrip("/"), public=False).split("/")
        found |= {part for part, seen in zip(parts.path.lstrip("/").split("/"), shown, strict=True) if part != seen}
    return {each for each in found if len(each) >= _LEAST}


def _spellings(secret: str) -> set[str]:
    plain = unquote(secret)
    return {
        secret,
        plain,
        unquote_plus(secret),
        quote(plain, safe=""),
        quote(plain),
        quote_plus(plain),
        repr(plain)[1:-1],
    }
