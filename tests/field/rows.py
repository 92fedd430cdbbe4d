"""The table of questions, read; each row must expect something, or it could not fail."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).with_name("questions.yaml")

#: What a row may expect; absent is not the same as null.
EXPECTED = frozenset(
    "exit attention backend evidence remedy wheel says never shows near change others cells".split()  # noqa: SIM905
)
_OTHER_KEYS = frozenset({"row", "source", "ask", "host", "pythons", "cudas"})


@dataclass(frozen=True, slots=True)
class Machine:
    """What a stand-in for a Python says of itself, its torch and its machine; ``driver`` is nvidia-smi's."""

    python: str
    torch: str
    cuda: str | None
    abi: bool
    gpus: tuple[tuple[str, str], ...] = ()
    driver: str | None = None
    platform: str = "linux_x86_64"
    glibc: str | None = "2.36"
    hip: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """A question, by options or on a machine, and what must be answered."""

    name: str
    source: tuple[str, ...]
    ask: tuple[str, ...]
    host: Machine | None
    expected: Mapping[str, Any]


def read_rows(path: Path = TABLE) -> list[Row]:
    """Every question of the table, one for each Python and CUDA that it lists.

    Raises:
        ValueError: a row is not one, expects nothing, or names no source.
    """
    return [row for given in yaml.safe_load(path.read_text(encoding="utf-8")) for row in _rows(given)]


def _rows(given: dict[str, Any]) -> Iterator[Row]:
    name = str(given.get("row"))
    unknown = given.keys() - EXPECTED - _OTHER_KEYS
    expected = {key: given[key] for key in given.keys() & EXPECTED}
    if unknown or ("ask" in given) == ("host" in given) or not given["source"] or not expected.keys() - {"exit"}:
        raise ValueError(f"row {name}: unknown keys {sorted(unknown)}, or no question, source or answer")
    host = _machine(given["host"]) if "host" in given else None
    for python, cuda in itertools.product(given.get("pythons", [""]), given.get("cudas", [""])):
        texts = {"python": python, "cuda": cuda, "tag": f"cp{python.replace('.', '')}"}
        words = given.get("ask", "").format(**texts).split()
        yield Row(
            " ".join(filter(None, (name, python, cuda))),
            tuple(given["source"]),
            tuple(word.replace("_", " ") if word.startswith(("RTX_", "GB10_")) else word for word in words),
            host,
            {**expected, "wheel": expected["wheel"].format(**texts)} if expected.get("wheel") else expected,
        )


def _machine(given: dict[str, Any]) -> Machine:
    if unknown := given.keys() - {each.name for each in fields(Machine)}:
        raise ValueError(f"a host has no {sorted(unknown)}")
    return Machine(**{**given, "gpus": tuple((name, arch) for name, arch in given.get("gpus", ()))})
