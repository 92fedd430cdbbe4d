"""What a word without quotes is in a YAML file: text, a number, true or false, nothing, or a surprise.

YAML 1.1 (PyYAML, and so Ansible and Compose) and YAML 1.2 (editors, JSON schema) read some words differently, and
people read them in a third way: ``no`` is false, ``010`` is 8, ``1:30`` is 90, ``2026-08-15`` is a date. Those are
refused where they stand, in words; what is left has one meaning everywhere.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache


class Kind(Enum):
    """The kinds of values; each reads as in "must be a list, and is ..."."""

    TEXT = "text"
    WHOLE = "a whole number"
    NUMBER = "a number"
    FLAG = "true or false"
    NULL = "nothing (null)"
    SURPRISE = "a surprise"
    LIST = "a list"
    MAPPING = "a mapping"


_PLAIN = (
    (Kind.NULL, re.compile(r"~|null|Null|NULL|")),
    (Kind.FLAG, re.compile(r"true|True|TRUE|false|False|FALSE")),
    (Kind.WHOLE, re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")),
    (Kind.NUMBER, re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}")),
)
#: In the order of YAML 1.1's own resolver, where two fit.
_SURPRISES = (
    ("true or false", re.compile(r"(?:y|n|yes|no|on|off)", re.IGNORECASE)),
    ("a timestamp", re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ][0-9:.Zz +-]*)?")),
    ("a number of base 60", re.compile(r"[-+]?[0-9][0-9_]*(?::[0-9_]+)+(?:\.[0-9_]*)?")),
    ("a number of base 8", re.compile(r"[-+]?0o?[0-9_]+")),
    ("a number of base 2", re.compile(r"[-+]?0b[01_]+")),
    ("a number of base 16", re.compile(r"[-+]?0x[0-9a-fA-F_]+")),
    ("no finite number", re.compile(r"[-+]?\.(?:inf|nan)", re.IGNORECASE)),
    ("a number", re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?")),
    ("a merge key", re.compile(r"<<|=")),
)
#: A number, a date or a word of YAML's; what is longer is refused for its looks, and compared with nothing.
_LONGEST = 64
_NUMERIC = re.compile(r"[-+.]?[0-9]")


@lru_cache(maxsize=2048)  # versions and words of ours stand in a file many times
def kind_of(text: str) -> tuple[Kind, str | None]:
    """The kind of a word without quotes; for a surprise also what other readers of YAML may take it for.

    >>> kind_of("sdpa")[0], kind_of("2.9")[0], kind_of("010"), kind_of("1:59:59")
    (<Kind.TEXT: 'text'>, <Kind.NUMBER: 'a number'>, (<Kind.SURPRISE: 'a surprise'>, 'a number of base 8'), \
(<Kind.SURPRISE: 'a surprise'>, 'a number of base 60'))
    """
    if len(text) > _LONGEST:
        if _NUMERIC.match(text) and not re.search(r"[^0-9_:.eE+xXoObB-]", text):
            return Kind.SURPRISE, f"a number of {len(text):,} digits"
        return Kind.TEXT, None
    for kind, pattern in _PLAIN:
        if pattern.fullmatch(text):
            return kind, None
    for what, pattern in _SURPRISES:
        if pattern.fullmatch(text):
            return Kind.SURPRISE, what
    return Kind.TEXT, None
