"""The seal of a generated file: a comment that holds the digest of the file's own content.

It shows that a file is what was written, whole: an edit by hand, a merge that mixed two versions and a cut file do not
fit it. It is no signature: who means to deceive can write a new one. Against that stand the grammars that each file is
read by, the check of its inputs, and the review of its difference.
"""

from __future__ import annotations

import hashlib
import re

_LINE = re.compile(r"^# content: sha256:([0-9a-f]{64})\n", re.MULTILINE)


def sealed(text: str) -> str:
    """A text with its seal below the comments that it begins with; one that it had is replaced."""
    bare = _LINE.sub("", text)
    head = re.match(r"(?:#.*\n)*", bare)
    end = head.end() if head else 0
    return f"{bare[:end]}# content: sha256:{_digest(bare)}\n{bare[end:]}"


def broken_seal(text: str) -> str | None:
    """What is wrong with a text's seal, as the end of a sentence; None where it fits."""
    found = _LINE.findall(text)
    if len(found) != 1:
        return "carries no digest of its own content (`# content:`)" if not found else "carries two digests of itself"
    if found[0] != _digest(_LINE.sub("", text)):
        return "is not what its own digest says (`# content:`): it was edited by hand, or only a part of it is there"
    return None


def _digest(bare: str) -> str:
    return hashlib.sha256(bare.encode()).hexdigest()
