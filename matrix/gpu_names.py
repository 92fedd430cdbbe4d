"""The names of a GPU: as nvidia-smi prints them, as shops and people write them, and as compat.yaml has them.

A name is a set of words. Words that say how a GPU is mounted, how much memory it has or how it is cut (``SXM4``,
``80GB``, ``Laptop GPU``, ``MIG 1g.10gb``) change nothing about its code, and are left out. What is left must be a
listed name: ``RTX 6000`` alone is three GPUs of three generations, and so none.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: What a maker, a driver or a shop adds to any name.
_ADDED = frozenset({
    "nvidia", "geforce", "tesla", "grid", "gpu", "graphics", "laptop", "mobile", "notebook", "with", "max", "q",
    "maxq", "design", "server", "workstation", "edition", "generation", "embedded", "oem", "lhr", "pcie", "sxm",
    "hgx", "oam", "module", "developer", "kit", "super", "ti", "d", "v2", "ac", "cc", "active", "sff", "nvgpu",
    "liquid", "dc", "cooled", "board",
})  # fmt: skip
_MEMORY = re.compile(r"\d{1,3}g(?:b|ib)?|hbm\d?e?|gddr\dx?|sxm\d?|nvl\d*|pg\d{3}|\d{1,3}[abcq]|\de?", re.ASCII)
_SPLIT = (
    # RTX4090, GTX1080Ti, RTXA6000: the brand and the number, and what follows it.
    (re.compile(r"\b(rtx|gtx|titan|quadro|tesla|geforce|pro|orin|jetson)(?=[atpm]?\d)", re.ASCII), r"\1 "),
    (re.compile(r"\b(titan)(?=rtx|xp?\b|v\b)", re.ASCII), r"\1 "),
    (re.compile(r"\b(\d{3,4})(ti|super|d|ada)\b", re.ASCII), r"\1 \2"),
    (re.compile(r"\b(ti)(super)\b", re.ASCII), r"\1 \2"),
)
_MIG = re.compile(r"\bmig\b.*", re.ASCII)
_BOARD = re.compile(r"\bpg\d{3}-\d{3}\b", re.ASCII)
_LONGEST = 128
#: A number without its brand, such as 4090 or A6000, says enough from this length on.
_TELLING = 4
_MANY_WORDS = 2
_NEAR = 0.8


def words_of(name: str) -> frozenset[str]:
    """The words of a name that tell it from other GPUs.

    >>> sorted(words_of("NVIDIA A100-SXM4-80GB MIG 1g.10gb")), sorted(words_of("GeForce RTX4090 Laptop GPU"))
    (['a100'], ['4090', 'rtx'])
    """
    plain = _BOARD.sub("", _MIG.sub("", name[:_LONGEST].casefold()))
    for pattern, spelt in _SPLIT:
        plain = pattern.sub(spelt, plain)
    words = re.findall(r"[a-z0-9]+", plain, re.ASCII)
    return frozenset(word for word in words if word not in _ADDED and not _MEMORY.fullmatch(word))


@dataclass(frozen=True, slots=True)
class GpuNames:
    """Every listed name, by its words: what compat.yaml calls the GPU."""

    names: Mapping[frozenset[str], str]

    @classmethod
    def of(cls, listed: Mapping[str, Iterable[str]]) -> GpuNames:
        """Index the names of each GPU, its own first.

        Raises:
            ValueError: two GPUs would have one name.
        """
        names: dict[frozenset[str], str] = {}
        for gpu, others in listed.items():
            for name in (gpu, *others):
                words = words_of(name)
                if not words or names.setdefault(words, gpu) != gpu:
                    raise ValueError(f"{name!r} names both {names.get(words)} and {gpu}")
        return cls(names)

    def find(self, text: str) -> tuple[str, ...]:
        """The GPUs that a text may mean: one where it is clear, several where it is not, none where it is unknown.

        A part of a name is enough where it tells one GPU: ``4090``, ``A6000``, ``GB10``.
        """
        words = words_of(text)
        if (exact := self.names.get(words)) is not None:
            return (exact,)
        if not words:
            return ()
        if len(words) < _MANY_WORDS and not any(len(word) >= _TELLING and re.search(r"\d", word) for word in words):
            return ()
        return tuple(dict.fromkeys(gpu for name, gpu in self.names.items() if words < name))

    def near(self, text: str) -> str | None:
        """The one GPU whose name is spelt almost so, every word with a number being the same; else None."""
        words = frozenset(word for word in words_of(text) if not difflib.get_close_matches(word, _ADDED, cutoff=_NEAR))
        numbers = {word for word in words if re.search(r"\d", word)}
        near: dict[str, float] = {}
        for name, gpu in self.names.items():
            if not numbers and len(name) > 1:  # TITAN and another letter is another GPU
                continue
            if numbers == {word for word in name if re.search(r"\d", word)}:
                alike = difflib.SequenceMatcher(None, " ".join(sorted(words)), " ".join(sorted(name))).ratio()
                near[gpu] = max(alike, near.get(gpu, 0))
        found = [gpu for gpu, alike in near.items() if alike >= _NEAR]
        return found[0] if len(found) == 1 else None
