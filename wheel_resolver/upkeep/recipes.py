"""How a tag of flash-attention builds its wheels, by its own workflow and ``setup.py``.

The workflow has a matrix of Pythons, torches and toolkits, and picks the CUDA of the torch that it installs by a table
in one of three forms: a least and a most CUDA by torch minor that the toolkit is clamped to (``max(min(...))``), the
same two for toolkits below and from 12.0 on, or the newest of those that are ``available``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matrix.document import Node, compose_text
from matrix.errors import DataError
from matrix.scalars import Kind
from matrix.values import Arch, Cuda, PythonVersion

_TABLE = re.compile(r"(minv|maxv|available)\s*=\s*(\{[^{}]{1,2000}\})")
_VERSION = re.compile(r"\d{1,3}(?:\.\d{1,3}){1,2}(?:\.dev\d{8}|rc\d)?", re.ASCII)
_RUNNER = re.compile(r"ubuntu-\d\d\.\d\d", re.ASCII)
_ARCHS = re.compile(r"""FLASH_ATTN_CUDA_ARCHS["'],\s*["']([\d;]{2,40})["']""")
_GENCODE = re.compile(r"""^[^#\n]*["']arch=compute_(\d{2,3}),code=sm_\1["']""", re.MULTILINE)
_COMPRESSED = re.compile(r"^[^#\n]*-{1,2}compress-mode=size", re.MULTILINE)
_CUDA_12 = 120
#: A workflow has some hundred lines.
_LONGEST = 200_000


class NotUnderstoodError(ValueError):
    """Upstream writes it in another way now: somebody must look."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A row of ``compat.yaml: flash_attn.recipes``, without its tags; all as text."""

    runner: str
    python: tuple[str, ...]
    toolkits: tuple[str, ...]
    torch: Mapping[str, tuple[str, ...]]
    archs: tuple[str, ...]
    compressed: bool


def read_recipe(workflows: Mapping[str, str], setup: str) -> Recipe:
    """Read the files of a tag.

    Args:
        workflows: the texts of ``publish.yml`` and, where there is one, ``_build.yml``, by name.
        setup: the text of ``setup.py``.

    Raises:
        NotUnderstoodError: a part is not found, or is no such value.
    """
    matrix = _matrix(workflows)
    runners = _texts(matrix, "os", _RUNNER)
    toolkits = _texts(matrix, "cuda-version", _VERSION)
    pick = _picker("\n".join(text[:_LONGEST] for text in workflows.values()))
    torch = {each: pick(each, toolkits) for each in _texts(matrix, "torch-version", _VERSION)}
    return Recipe(
        runner=runners[0],
        python=tuple(str(PythonVersion.parse(text)) for text in _texts(matrix, "python-version", _VERSION)),
        toolkits=toolkits,
        torch=torch,
        archs=_archs(setup[:_LONGEST]),
        compressed=_COMPRESSED.search(setup[:_LONGEST]) is not None,
    )


def _matrix(workflows: Mapping[str, str]) -> Mapping[str, Node]:
    for name, text in workflows.items():
        try:
            root = compose_text(text[:_LONGEST], name)
        except DataError as error:
            raise NotUnderstoodError(error.what) from None
        for job in _children(_children(root).get("jobs")).values():
            matrix = _children(_children(_children(job).get("strategy")).get("matrix"))
            if "torch-version" in matrix:
                return matrix
    raise NotUnderstoodError("no job has a matrix with torch-version")


def _children(node: Node | None) -> dict[str, Node]:
    """The values of a mapping; nothing of what is none."""
    return {key.text: value for key, value in node.pairs()} if node is not None and node.kind is Kind.MAPPING else {}


def _texts(matrix: Mapping[str, Node], key: str, form: re.Pattern[str]) -> tuple[str, ...]:
    node = matrix.get(key)
    if node is None or node.kind is not Kind.LIST or not node.items:
        raise NotUnderstoodError(f"the matrix has no list of {key}")
    if not all(form.fullmatch(item.text) for item in node.items):
        raise NotUnderstoodError(f"the matrix has a value of {key} that is none")
    return tuple(item.text for item in node.items)


def _picker(text: str) -> Any:
    """The function that gives a torch's builds for the toolkits, as the workflow's own line does."""
    tables = {name: _table(found) for name, found in _TABLE.findall(text.replace("\\\n", "\n"))}

    def pick(torch: str, toolkits: tuple[str, ...]) -> tuple[str, ...]:
        minor = ".".join(torch.split(".")[:2])
        if any(minor not in table for table in tables.values()):
            return ()  # the line fails, and no wheel comes of it
        return tuple(str(Cuda.parse(str(choose(minor, _number(toolkit))))) for toolkit in toolkits)

    def choose(minor: str, toolkit: int) -> int:
        if "available" in tables:
            fitting = [cuda for cuda in tables["available"][minor] if cuda <= toolkit]
            if not fitting:
                raise NotUnderstoodError(f"no build of torch {minor} is available for toolkit {toolkit}")
            return int(max(fitting))
        least, most = (tables[name][minor] for name in ("minv", "maxv"))
        if re.search(rf"<\s*{_CUDA_12}", text):
            return int(least if toolkit < _CUDA_12 else most)
        return int(max(min(toolkit, most), least))

    if "available" not in tables and not {"minv", "maxv"} <= tables.keys():
        raise NotUnderstoodError("no table says which build of torch is installed")
    return pick


def _table(text: str) -> dict[str, Any]:
    try:
        table = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise NotUnderstoodError("the table of torch's builds is no dict of Python's") from None
    numbers = [n for value in table.values() for n in (value if isinstance(value, list) else [value])]
    if not all(isinstance(key, str) for key in table) or not all(type(n) is int and 100 < n < 1000 for n in numbers):  # noqa: PLR2004 - cu118
        raise NotUnderstoodError("the table of torch's builds holds something else than CUDAs")
    return dict(table)


def _number(toolkit: str) -> int:
    major, minor = toolkit.split(".")[:2]
    return int(major + minor)


def _archs(setup: str) -> tuple[str, ...]:
    listed = _ARCHS.search(setup)
    numbers = listed[1].split(";") if listed else list(dict.fromkeys(_GENCODE.findall(setup)))
    if not numbers or not all(numbers):
        raise NotUnderstoodError("setup.py names no architectures")
    return tuple(Arch.parse(number).capability for number in numbers)
