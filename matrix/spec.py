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

import yaml

from matrix.document import Document, KeyPath

_STR, _INT, _FLOAT, _BOOL, _NULL = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null"))
_KINDS = {
    _STR: "text",
    _INT: "a whole number",
    _FLOAT: "a number",
    _BOOL: "true or false",
    _NULL: "nothing (null)",
}


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


def _read(document: Document, node: yaml.Node, spec: Spec, keys: KeyPath) -> Any:
    document.lines[keys] = node.start_mark.line + 1
    match spec:
        case Nullable(inner):
            return None if node.tag == _NULL else _read(document, node, inner, keys)
        case Items():
            return _read_items(document, node, spec, keys)
        case Entries():
            return _read_entries(document, node, spec, keys)
        case Record():
            return _read_record(document, node, spec, keys)
        case _:
            return _read_scalar(document, node, spec, keys)


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return _KINDS.get(node.tag, f"a {node.tag.rsplit(':', 1)[-1]}")


def _read_items(document: Document, node: yaml.Node, spec: Items, keys: KeyPath) -> list[Any]:
    if not isinstance(node, yaml.SequenceNode) or node.tag != "tag:yaml.org,2002:seq":
        raise document.error(
            keys, f"must be a list, and is {_kind(node)}", remedy="write it as [a, b] or as '- a' lines"
        )
    if len(node.value) < spec.at_least:
        raise document.error(keys, f"must have at least {spec.at_least} value(s)")
    return [_read(document, item, spec.item, (*keys, index)) for index, item in enumerate(node.value)]


def _pairs(document: Document, node: yaml.Node, keys: KeyPath) -> list[tuple[str, yaml.Node, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode) or node.tag != "tag:yaml.org,2002:map":
        raise document.error(keys, f"must be a mapping (key: value), and is {_kind(node)}")
    seen: dict[str, int] = {}
    pairs = []
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag != _STR:
            reason, remedy = _not_text(key, "a key")
            raise document.error_at(line, keys, reason, remedy=remedy)
        name = str(key.value)
        if name in seen:
            raise document.error_at(
                line,
                (*keys, name),
                f"the key stands here twice (first on line {seen[name]})",
                remedy="remove one of them",
            )
        seen[name] = line
        pairs.append((name, key, value))
    return pairs


def _read_entries(document: Document, node: yaml.Node, spec: Entries, keys: KeyPath) -> dict[str, Any]:
    result = {}
    for name, key, value in _pairs(document, node, keys):
        _check_form(document, key.start_mark.line + 1, name, spec.key, (*keys, name))
        result[name] = _read(document, value, spec.value, (*keys, name))
    if len(result) < spec.at_least:
        raise document.error(keys, f"must have at least {spec.at_least} entries")
    return result


def _read_record(document: Document, node: yaml.Node, spec: Record, keys: KeyPath) -> dict[str, Any]:
    result = {}
    for name, key, value in _pairs(document, node, keys):
        if name not in spec.fields:
            raise document.error_at(
                key.start_mark.line + 1,
                (*keys, name),
                f"unknown key {name!r}{perhaps(name, spec.fields)}",
                remedy=f"known keys here: {', '.join(spec.fields)}",
            )
        result[name] = _read(document, value, spec.fields[name], (*keys, name))
    missing = [name for name in spec.fields if name not in result and name not in spec.optional]
    if missing:
        raise document.error(keys, f"the key {missing[0]!r} is missing", remedy=f"add '{missing[0]}: ...'")
    return result


def _read_scalar(document: Document, node: yaml.Node, spec: Spec, keys: KeyPath) -> Any:
    match spec:
        case Text():
            if node.tag != _STR:
                reason, remedy = _not_text(node, spec.form)
                raise document.error(keys, reason, remedy=remedy)
            _check_form(document, document.lines[keys], node.value, spec, keys)
            return node.value
        case Choice(values):
            if node.tag != _STR and isinstance(node, yaml.ScalarNode):
                reason, remedy = _not_text(node, f"one of {', '.join(values)}")
                raise document.error(keys, reason, remedy=remedy)
            if node.value not in values:
                given = repr(node.value) if isinstance(node, yaml.ScalarNode) else _kind(node)
                hint = perhaps(node.value, values, numbered=True) if isinstance(node, yaml.ScalarNode) else ""
                raise document.error(keys, f"{given} is not known{hint}", remedy=f"known: {', '.join(values)}")
            return node.value
        case Flag():
            if not isinstance(node, yaml.ScalarNode) or node.tag != _BOOL:
                raise document.error(keys, f"must be true or false, and is {_kind(node)}")
            return node.value.lower() in {"true", "yes", "on"}
        case Whole(least, most):
            number = _number(node)  # 1.0 counts as whole, as it does in JSON schema
            if number is None or not least <= number <= most or number != int(number):
                raise document.error(keys, f"must be a whole number from {least} to {most}")
            return int(number)
    raise AssertionError(spec)  # the match is complete


def _number(node: yaml.Node) -> float | None:
    """The number that YAML reads in a node; None where it reads none."""
    if not isinstance(node, yaml.ScalarNode) or node.tag not in {_INT, _FLOAT}:
        return None
    make = yaml.constructor.SafeConstructor()
    try:
        return make.construct_yaml_int(node) if node.tag == _INT else make.construct_yaml_float(node)
    except (ValueError, OverflowError):  # an explicit tag on what is no number: `!!int x`
        return None


def _not_text(node: yaml.Node, form: str) -> tuple[str, str]:
    """Explain why a node is not a string: unquoted versions are numbers to YAML (3.10 is 3.1)."""
    if not isinstance(node, yaml.ScalarNode) or node.tag == _NULL:
        return f"must be {form}, and is {_kind(node)}", "give it a value in quotes"
    number = _number(node)
    read_as = _kind(node) if number is None else f"the number {number}"
    return f"{node.value} without quotes is read as {read_as}", f'write "{node.value}", with the quotes'


def _check_form(document: Document, line: int, value: str, spec: Text, keys: KeyPath) -> None:
    if re.search(spec.pattern, value) is None:
        raise document.error_at(line, keys, f"{value!r} is not {spec.form}", remedy=spec.remedy)
