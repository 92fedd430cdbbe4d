"""Which images this checkout built: all checkouts of one engine share the names of its tags.

Nothing in an image says which checkout it is of: the same inputs give the same digest everywhere. So each checkout
keeps the ids that it built.
"""

from __future__ import annotations

import json
from pathlib import Path

from matrix import tree

#: Of each tag so many ids are kept: a build that gives an older one again replaces nobody's.
_KEPT = 20


def is_ours(build: Path, tag: str, image: str) -> bool:
    """Whether this checkout built that image.

    Args:
        build: the checkout's scratch folder.
        tag: the name under which it is.
        image: its id.
    """
    return image in _read(build).get(tag, [])


def remember(build: Path, tag: str, image: str) -> None:
    """Note an image that this checkout has built."""
    known = _read(build)
    ids = [each for each in known.get(tag, []) if each != image]
    known[tag] = [*ids, image][-_KEPT:]
    tree.write(_file(build), json.dumps(known, indent=1) + "\n")


def _file(build: Path) -> Path:
    return build / "images.json"


def _read(build: Path) -> dict[str, list[str]]:
    """What is noted; what cannot be read notes nothing, and costs a line that need not have been said."""
    path = _file(build)
    if not tree.is_file(path):
        return {}
    try:
        rows = json.loads(tree.read_text(path))
        return {str(tag): [str(each) for each in ids] for tag, ids in rows.items()}
    except (ValueError, AttributeError, TypeError):
        return {}
