"""A small declarative description of a YAML file, from which both the check and the JSON schema come.

One source for both: a document that the check refuses for its structure, ``matrix/schema.json`` refuses too
(``tests/unit/test_matrix_schema.py`` proves it with mutated documents).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from matrix.document import Document, KeyPath, Node
from matrix.masking import mask
from matrix.scalars import Kind
from matrix.shown import escaped, hidden

_NO_TEXT = {Kind.LIST, Kind.MAPPING, Kind.NULL}


_MOST_QUOTED = 200


def exactly(pattern: str) -> str:
    """Anchor a pattern at both ends; ``$`` alone would let a trailing newline pass in Python."""
    return rf"^(?:{pattern})$(?!\n)"


@dataclass(frozen=True, slots=True)
class Text:
    """A string; ``form`` tells a person what ``pattern`` wants, and ``remedy`` what to do about one that does not fit.

    ``version`` strings must be quoted in YAML.
    """

    form: str = "text"
    pattern: str = r"\S"
    version: bool = False
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few strings."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flag:
    """``true`` or ``false``."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    item: Spec
    at_least: int = 0


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping whose keys are names of one form, all with values of one shape."""

    key: Text
    value: Spec
    at_least: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping with fixed keys; those in ``optional`` may be left out (and are then absent in the result)."""

    fields: Mapping[str, Spec]
    optional: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Nullable:
    """The inner shape, or ``null``."""

    inner: Spec


Spec = Union[Text, Choice, Flag, Whole, Items, Entries, Record, Nullable]  # noqa: UP007 - recursive: needs names


def perhaps(word: str, known: Iterable[str], *, numbered: bool = False) -> str:
    """Say ``; perhaps you meant 'x'`` when something known is near, else nothing.

    ``numbered``: the numbers in the words are versions or generations; what has others is another one, and no hint.
    """
    numbers = re.findall(r"\d+", word)
    alike = [name for name in known if not numbered or re.findall(r"\d+", name) == numbers]
    near = difflib.get_close_matches(word, alike, n=1, cutoff=0.6)
    return f"; perhaps you meant {near[0]!r}" if near else ""


def read(document: Document, spec: Spec) -> Any:
    """Check a document against its spec and return plain values (dict, list, str, int, bool, None).

    The line of every value is left in ``document.lines``.

    Raises:
        DataError: the first place where the document differs, with file, line, key path, reason and remedy.
    """
    return _read(document, document.root, spec, ())


def _read(document: Document, node: Node, spec: Spec, keys: KeyPath) -> Any:
    document.lines[keys] = node.line
    match spec:
        case Nullable(inner):
            return None if node.kind is Kind.NULL else _read(document, node, inner, keys)
        case Items():
            return _read_items(document, node, spec, keys)
        case Entries():
            return _read_entries(document, node, spec, keys)
        case Record():
            return _read_record(document, node, spec, keys)
        case _:
            return _read_scalar(document, node, spec, keys)


def _kind(node: Node) -> str:
    return node.surprise or node.kind.value


def _read_items(document: Document, node: Node, spec: Items, keys: KeyPath) -> list[Any]:
    if node.kind is not Kind.LIST:
        raise document.error(
            keys, f"must be a list, and is {_kind(node)}", remedy="write it as [a, b] or as '- a' lines"
        )
    if len(node.items) < spec.at_least:
        raise document.error(keys, f"must have at least {spec.at_least} value(s)")
    return [_read(document, item, spec.item, (*keys, index)) for index, item in enumerate(node.items)]


def _pairs(document: Document, node: Node, keys: KeyPath) -> list[tuple[str, Node, Node]]:
    if node.kind is not Kind.MAPPING:
        raise document.error(keys, f"must be a mapping (key: value), and is {_kind(node)}")
    seen: dict[str, int] = {}
    pairs = []
    for key, value in node.pairs():
        if key.kind is not Kind.TEXT:
            reason, remedy = _not_text(key, "a key")
            raise document.error_at(key.line, keys, reason, remedy=remedy)
        name = key.text
        if name in seen:
            raise document.error_at(
                key.line,
                (*keys, name),
                f"the key stands here twice (first on line {seen[name]})",
                remedy="remove one of them",
            )
        seen[name] = key.line
        pairs.append((name, key, value))
    return pairs


def _read_entries(document: Document, node: Node, spec: Entries, keys: KeyPath) -> dict[str, Any]:
    result = {}
    for name, key, value in _pairs(document, node, keys):
        _check_form(document, key.line, name, spec.key, (*keys, name))
        result[name] = _read(document, value, spec.value, (*keys, name))
    if len(result) < spec.at_least:
        raise document.error(keys, f"must have at least {spec.at_least} entries")
    return result


def _read_record(document: Document, node: Node, spec: Record, keys: KeyPath) -> dict[str, Any]:
    result = {}
    for name, key, value in _pairs(document, node, keys):
        if name not in spec.fields:
            raise document.error_at(
                key.line,
                (*keys, name),
                f"unknown key {_given(name)}{perhaps(name, spec.fields)}",
                remedy=f"known keys here: {', '.join(spec.fields)}",
            )
        result[name] = _read(document, value, spec.fields[name], (*keys, name))
    missing = [name for name in spec.fields if name not in result and name not in spec.optional]
    if missing:
        raise document.error(keys, f"the key {missing[0]!r} is missing", remedy=f"add '{missing[0]}: ...'")
    return result


def _read_scalar(document: Document, node: Node, spec: Spec, keys: KeyPath) -> Any:
    match spec:
        case Text():
            if node.kind is not Kind.TEXT:
                reason, remedy = _not_text(node, spec.form)
                raise document.error(keys, reason, remedy=remedy)
            _check_form(document, node.line, node.text, spec, keys)
            return node.text
        case Choice(values):
            if node.kind in {Kind.LIST, Kind.MAPPING}:
                raise document.error(keys, f"{_kind(node)} is not known", remedy=f"known: {', '.join(values)}")
            if node.kind is not Kind.TEXT:
                reason, remedy = _not_text(node, f"one of {', '.join(values)}")
                raise document.error(keys, reason, remedy=remedy)
            if node.text not in values:
                hint = perhaps(node.text, values, numbered=True)
                raise document.error(
                    keys, f"{_given(node.text)} is not known{hint}", remedy=f"known: {', '.join(values)}"
                )
            return node.text
        case Flag():
            if node.kind is not Kind.FLAG:
                raise document.error(
                    keys, f"must be true or false, and is {_written(node)}", remedy="write true, or false"
                )
            return node.text.lower() == "true"
        case Whole():
            return _read_whole(document, node, spec, keys)
    raise AssertionError(spec)  # the match is complete


def _read_whole(document: Document, node: Node, spec: Whole, keys: KeyPath) -> int:
    number = _number(node)  # 1.0 counts as whole, as it does in JSON schema
    if number is None or not spec.least <= number <= spec.most or number != int(number):
        other = "" if number is not None else f", and is {_written(node)}"
        raise document.error(keys, f"must be a whole number from {spec.least} to {spec.most}{other}")
    return int(number)


def _number(node: Node) -> float | None:
    """The number that a node is; None where it is none."""
    if node.kind is Kind.WHOLE:
        return int(node.text)
    return float(node.text) if node.kind is Kind.NUMBER else None


def _given(text: str) -> str:
    """A text as an error quotes it: never the password of a URL."""
    if "://" in text or "@" in text:
        text = mask(text)
    return repr(text if len(text) <= _MOST_QUOTED else f"{text[:_MOST_QUOTED]}...")


def _written(node: Node) -> str:
    """What stands there, where it is not what is wanted: ``'yes'``, or ``010, a number of base 8 to some readers``."""
    if node.kind is Kind.SURPRISE:
        return f"{_given(node.text)[1:-1]}, {node.surprise} to some readers of YAML"
    return _given(node.text) if node.kind is Kind.TEXT else _kind(node)


def _not_text(node: Node, form: str) -> tuple[str, str]:
    """Explain why a node is not a string: unquoted versions are numbers to YAML (3.10 is 3.1)."""
    if node.kind in _NO_TEXT:
        return f"must be {form}, and is {_kind(node)}", "give it a value in quotes"
    number, given = _number(node), _given(node.text)[1:-1]
    read_as = _kind(node) if number is None else f"the number {number}"
    return f"{given} without quotes is read as {read_as}", f'write "{given}", with the quotes'


def _check_form(document: Document, line: int, value: str, spec: Text, keys: KeyPath) -> None:
    if (char := hidden(value)) is not None:
        raise document.error_at(
            line,
            keys,
            f"{_given(value)} holds {escaped(char)}, a control character or one that cannot be seen",
            remedy="write it on one line ('>-' folds several), and without that character",
        )
    if re.search(spec.pattern, value) is None:
        raise document.error_at(line, keys, f"{_given(value)} is not {spec.form}", remedy=spec.remedy)
