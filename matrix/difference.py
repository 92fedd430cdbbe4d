"""The difference between a file and what it should be, for people: it has an end, whatever stands in the file."""

from __future__ import annotations

import difflib

from matrix.shown import shown

#: Generated files have some hundred lines. What has many more is not ours, and comparing it could take hours.
_MOST_LINES = 5_000
_MOST_SHOWN = 1_000
_LONGEST = 2_000


def difference(old: str, new: str, old_name: str, new_name: str) -> str:
    """A unified difference; of a very long one the beginning, and how many lines more there are."""
    before, after = ([shown(line, _LONGEST) for line in text.split("\n")] for text in (old, new))
    if max(len(before), len(after)) > _MOST_LINES:
        return f"--- {shown(old_name)}: {len(before):,} lines\n+++ {shown(new_name)}: {len(after):,} lines"
    lines = list(difflib.unified_diff(before, after, shown(old_name), shown(new_name), lineterm=""))
    more = [f"... and {len(lines) - _MOST_SHOWN:,} lines more"] if len(lines) > _MOST_SHOWN else []
    return "\n".join(lines[:_MOST_SHOWN] + more)
