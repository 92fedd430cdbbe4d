"""What in a wheel does more than lie there once it is installed, or is not what it seems. It is told, and refused.

No release of flash-attn holds any of it: its wheels are two packages, an extension and their metadata.
"""

from __future__ import annotations

import stat
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator

#: Modules that Python imports at every start, where they are found.
_AT_START = ("sitecustomize", "usercustomize")
#: Folders of ``NAME.data`` whose content lands in site-packages; the others' lands elsewhere.
_SITE = ("purelib", "platlib")


def dangers(members: Iterable[zipfile.ZipInfo]) -> tuple[str, ...]:
    """All that is dangerous, in words."""
    members = list(members)
    return tuple([text for member in members for text in _of_member(member)] + list(_alike(members)))


def _of_member(member: zipfile.ZipInfo) -> Iterator[str]:
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        kind = "a link" if stat.S_ISLNK(mode) else "a device or a pipe"
        yield f"{member.filename} is {kind}: a wheel holds files, and what becomes of it depends on who unpacks it"
    place, name = _installed(member.filename)
    first = name.split("/")[0].casefold()
    if first.endswith(".pth") and "/" not in name:
        yield f"{member.filename} runs at every start of Python, whatever is imported"
    elif first.split(".")[0] in _AT_START:
        yield f"{member.filename} is imported at every start of Python"
    if place is not None:
        yield f"{member.filename} is installed outside of site-packages, into {place}"


def _installed(name: str) -> tuple[str | None, str]:
    """The folder beside site-packages that a member is installed into, None for site-packages; its path in there."""
    folder, _, rest = name.partition("/")
    if not folder.casefold().endswith(".data") or not rest:
        return None, name
    scheme, _, inner = rest.partition("/")
    if scheme.casefold() in _SITE:
        return None, inner
    return scheme, inner.rsplit("/", 1)[-1]  # lib/python3.12/site-packages/x.pth lies in `data`, too


def _alike(members: Iterable[zipfile.ZipInfo]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for member in members:
        name = member.filename.rstrip("/")
        known = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if known != name:
            yield f"{name} differs from {known} in case or spelling only: on some disks one replaces the other"
